package yarn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
)

// rm speaks with a cluster's ResourceManagers, of which one is active. Every call of the REST API may be repeated: a second
// POST of an application's id changes nothing.
type rm struct {
	addresses []string // http://host:port
	access    *hadoop.Access
	patience  time.Duration // for a cluster without an active one, as while it fails over
	current   atomic.Int32  // of addresses: who answered last
}

func newRM(addresses []string, a *hadoop.Access, patience time.Duration) *rm {
	return &rm{addresses: addresses, access: a, patience: patience}
}

// refusal is an answer of an active ResourceManager that is no success.
type refusal struct {
	Status  int
	Message string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the ResourceManager refuses it (%d): %s", r.Status, r.Message)
}

// errNotActive says that a ResourceManager answers, and another one is to be asked.
var errNotActive = errors.New("it is not active")

// errNoApp says that an active ResourceManager does not know an application.
var errNoApp = errors.New("there is no such application")

// call asks the active ResourceManager as a user; into may be nil.
func (r *rm) call(ctx context.Context, method, path, user string, body, into any) error {
	return r.callFor(ctx, r.patience, method, path, user, body, into)
}

func (r *rm) callFor(ctx context.Context, patience time.Duration, method, path, user string, body, into any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	tried := 0
	once := func() (struct{}, error) {
		at := r.addresses[int(r.current.Load())%len(r.addresses)]
		err := r.ask(ctx, method, at, path, user, data, into)
		var no *refusal
		if err == nil || errors.As(err, &no) || errors.Is(err, errNoApp) {
			return struct{}{}, backoff.Permanent(err)
		}
		r.current.Add(1)
		if tried++; tried%len(r.addresses) != 0 {
			return struct{}{}, backoff.RetryAfter(0)
		}
		return struct{}{}, fmt.Errorf("%w: ResourceManager %s: %w", engines.ErrAway, at, err)
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 2*time.Second
	_, err := backoff.Retry(ctx, once, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(patience))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		return permanent.Unwrap()
	}
	return err
}

// ask asks one ResourceManager once.
func (r *rm) ask(ctx context.Context, method, at, path, user string, body []byte, into any) error {
	resp, err := r.access.Do(ctx, method, at+"/ws/v1/cluster"+path, user, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusTemporaryRedirect:
		return errNotActive
	case resp.StatusCode == http.StatusNotFound:
		return r.believe(ctx, at)
	case resp.StatusCode/100 != 2:
		return &refusal{resp.StatusCode, complaint(text)}
	case into == nil || len(bytes.TrimSpace(text)) == 0:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("what it answers to %s: %w", path, err)
	}
	return nil
}

// text reads a page.
func (r *rm) text(ctx context.Context, at, user string) (string, error) {
	resp, err := r.access.Do(ctx, http.MethodGet, at, user, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", resp.Request.URL.Host, resp.Status, complaint(text[:min(len(text), 1500)]))
	}
	return string(text), err
}

// believe says what a 404 means: a ResourceManager that recovers does not know running applications yet.
func (r *rm) believe(ctx context.Context, at string) error {
	state, err := r.haState(ctx, at)
	switch {
	case err != nil:
		return err
	case state != "ACTIVE":
		return errNotActive
	}
	return errNoApp
}

// haState asks one ResourceManager where it stands: ACTIVE, STANDBY, INITIALIZING.
func (r *rm) haState(ctx context.Context, at string) (string, error) {
	resp, err := r.access.Do(ctx, http.MethodGet, at+"/ws/v1/cluster/info", r.access.User, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it answers %s", resp.Status)
	}
	var answer struct {
		ClusterInfo struct{ HAState string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("it answers something else than a ResourceManager: %w", err)
	}
	return answer.ClusterInfo.HAState, nil
}

// complaint is the message of an error's body: Hadoop's JSON, or plain text that says it is JSON.
func complaint(body []byte) string {
	var remote struct {
		RemoteException struct{ Message string }
	}
	text := string(body)
	if json.Unmarshal(body, &remote) == nil && remote.RemoteException.Message != "" {
		text = remote.RemoteException.Message
	}
	return strings.TrimSpace(strings.TrimPrefix(text, "java.lang.Exception: "))
}

// report is what the ResourceManager says of an application.
type report struct {
	ID          string
	User        string
	Name        string
	Queue       string
	State       string // NEW, NEW_SAVING, SUBMITTED, ACCEPTED, RUNNING, FINISHED, FAILED, KILLED
	FinalStatus string
	Diagnostics string
	TrackingURL string `json:"trackingUrl"`
	Tags        string `json:"applicationTags"`
	Host        string `json:"amHostHttpAddress"` // host:port of the web pages of the driver's NodeManager
	Logs        string `json:"amContainerLogs"`
	Started     int64  `json:"startedTime"` // in milliseconds since the epoch
	Launched    int64  `json:"launchTime"`  // of the driver's container; 0 before

	QueueState string `json:"-"` // what was asked besides, while it was accepted
}

func (r report) ended() bool {
	return r.State == "FINISHED" || r.State == "FAILED" || r.State == "KILLED"
}

// newApplication gets an id for a submission.
func (r *rm) newApplication(ctx context.Context, user string) (string, error) {
	var answer struct {
		ID string `json:"application-id"`
	}
	err := r.call(ctx, http.MethodPost, "/apps/new-application", user, nil, &answer)
	if err == nil && answer.ID == "" {
		err = errors.New("the ResourceManager gives no application id")
	}
	return answer.ID, err
}

// submit submits an application. Success proves neither that the application is new nor that it is ours; and without an
// answer it may have been taken all the same, so that whoever gets none asks for it, and only then tries again.
func (r *rm) submit(ctx context.Context, user string, app application) error {
	return r.callFor(ctx, time.Millisecond, http.MethodPost, "/apps", user, app, nil)
}

// lean leaves out the larger part of a record.
const lean = "deSelects=resourceRequests"

func (r *rm) app(ctx context.Context, user, id string) (report, error) {
	var answer struct{ App report }
	err := r.call(ctx, http.MethodGet, "/apps/"+id+"?"+lean, user, nil, &answer)
	return answer.App, err
}

// live are the states of an application that has not ended.
const live = "NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING"

// withTag lists the applications that carry a tag, in the states that are named, or in any. Tags are kept in lower case.
func (r *rm) withTag(ctx context.Context, user, tag, states string) ([]report, error) {
	var answer struct {
		Apps *struct{ App []report }
	}
	q := url.Values{"applicationTags": {strings.ToLower(tag)}}
	if states != "" {
		q.Set("states", states)
	}
	if err := r.call(ctx, http.MethodGet, "/apps?"+q.Encode()+"&"+lean, user, nil, &answer); err != nil {
		return nil, err
	}
	if answer.Apps == nil {
		return nil, errors.New("the ResourceManager answered without a list") // never taken for none
	}
	return answer.Apps.App, nil
}

// kill asks for an application's end, and says whether that has come.
func (r *rm) kill(ctx context.Context, user, id string) (ended bool, err error) {
	var answer struct{ State string }
	err = r.call(ctx, http.MethodPut, "/apps/"+id+"/state", user, map[string]string{"state": "KILLED"}, &answer)
	if errors.Is(err, errNoApp) {
		return true, nil
	}
	return report{State: answer.State}.ended(), err
}

// until lets YARN itself end an application at a time, unless it is set anew.
func (r *rm) until(ctx context.Context, user, id string, at time.Time) error {
	type timeout struct {
		Type       string `json:"type"`
		ExpiryTime string `json:"expiryTime"`
	}
	body := struct {
		Timeout timeout `json:"timeout"`
	}{timeout{"LIFETIME", at.UTC().Format("2006-01-02T15:04:05.000-0700")}}
	return r.call(ctx, http.MethodPut, "/apps/"+id+"/timeout", user, body, nil)
}
