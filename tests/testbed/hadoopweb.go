package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

func (h *Hadoop) serves(d *hadoopDaemon) bool {
	switch d.name {
	case "resourcemanager", "resourcemanager2":
		state := h.haState(d)
		return state == "ACTIVE" || state == "STANDBY" && len(h.RMs) > 1
	case "namenode":
		var info struct{ Safemode string }
		return h.bean(h.NameNodeWeb, "NameNode,name=NameNodeInfo", &info) == nil && info.Safemode == ""
	case "datanode":
		// The NameNode counts a killed one as live for minutes, so it is asked itself as well.
		var state struct{ NumLiveDataNodes int }
		var info struct{ BPServiceActorInfo string }
		return h.bean(h.NameNodeWeb, "NameNode,name=FSNamesystemState", &state) == nil && state.NumLiveDataNodes == 1 &&
			h.bean(h.dataNodeWeb, "DataNode,name=DataNodeInfo", &info) == nil && strings.Contains(info.BPServiceActorInfo, `"RUNNING"`)
	default:
		return h.nodeRuns(d)
	}
}

// nodeRuns says whether the ResourceManager has heard of a NodeManager since it and the NodeManager have started.
func (h *Hadoop) nodeRuns(d *hadoopDaemon) bool {
	var r struct {
		Nodes struct {
			Node []struct {
				ID               string
				State            string
				LastHealthUpdate int64
			}
		}
	}
	rm := h.active()
	if rm == nil || h.getJSON("http://"+rm.web+"/ws/v1/cluster/nodes", &r) != nil {
		return false
	}
	for _, n := range r.Nodes.Node {
		if strings.HasSuffix(n.ID, ":"+d.port) && n.State == "RUNNING" && n.LastHealthUpdate >= d.began.UnixMilli() {
			return true
		}
	}
	return false
}

func (h *Hadoop) addLabel(label string) {
	h.t.Helper()
	body := fmt.Sprintf(`{"nodeLabelInfo":[{"name":%q,"exclusivity":true}]}`, label)
	at := "http://" + h.RM + "/ws/v1/cluster/add-node-labels"
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.HTTP(h.superuser).Do(req)
	if err != nil {
		h.t.Fatalf("add the label %s: %v", label, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("add the label %s: %s: %s", label, resp.Status, said)
	}
}

// bean reads one of the beans that a daemon of HDFS shows.
func (h *Hadoop) bean(address, name string, into any) error {
	var r struct{ Beans []json.RawMessage }
	if err := h.getJSON("http://"+address+"/jmx?qry=Hadoop:service="+name, &r); err != nil {
		return err
	}
	if len(r.Beans) != 1 {
		return fmt.Errorf("%s has %d beans %s", address, len(r.Beans), name)
	}
	return json.Unmarshal(r.Beans[0], into)
}

func (h *Hadoop) getJSON(at string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	resp, err := h.HTTP(h.superuser).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", at, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
