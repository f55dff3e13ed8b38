package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Sleep submits an application in a user's name that takes memory, in MiB, of a queue and sleeps, whether or not there is
// room for it now. It is ended with EndApp, or with the cluster.
func (h *Hadoop) Sleep(user, queue string, memory int) (id string) {
	h.t.Helper()
	var made struct {
		ID string `json:"application-id"`
	}
	h.app(user, http.MethodPost, "/new-application", nil, &made)
	h.app(user, http.MethodPost, "", map[string]any{
		"application-id": made.ID, "application-name": "sleeper", "queue": queue, "resource": map[string]int{"memory": memory, "vCores": 1},
		"am-container-spec": map[string]any{"commands": map[string]string{"command": "exec sleep 3600"}}}, nil)
	return made.ID
}

// EndApp ends an application of a user.
func (h *Hadoop) EndApp(user, id string) {
	h.t.Helper()
	h.app(user, http.MethodPut, "/"+id+"/state", map[string]string{"state": "KILLED"}, nil)
}

// app asks the ResourceManager about applications.
func (h *Hadoop) app(user, method, path string, body, into any) {
	h.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+h.RM+"/ws/v1/cluster/apps"+path, bytes.NewReader(data))
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.HTTP(user).Do(req)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		h.t.Fatalf("%s /apps%s: %v", method, path, err)
	}
}
