package spark

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// What a server before 4.0 does otherwise:
//
// It asks nobody for a token and listens on every interface, whatever it is told. Plan refuses it where others reach it.
//
// A session cannot be closed, and the server forgets sessions by itself: those that nobody used for an hour, and the
// least recently used one when its cache is full. The next call under a forgotten id begins a new, empty session
// without a word. The cache is one for 100 sessions, but it is Guava's: four parts of 25 each, and a session's hash
// picks its part. So a part may be full long before there are 100. When it was tried, 28 of 40 servers with 90 open
// sessions had forgotten some of them.
//
// Hence an engine is given no more sessions at a time than one part holds, with one to spare, and all open ones are
// used again right before another is opened, and now and then: what is forgotten is then always one that nobody uses.

// maxOldSessions is how many sessions a server before 4.0 may have open at a time.
const maxOldSessions = 24

// touchEvery is how often open sessions are used, so that none is forgotten for its age.
const touchEvery = 15 * time.Minute

// markKey is a setting of no meaning to Spark that says whether a session is still the one that we opened.
const markKey = "spark.sluice.session"

var majorVersion = regexp.MustCompile(`^(\d+)\.`)

// isOld says that a server is one before 4.0. A version that nobody knows is not known to be old.
func isOld(version string) bool {
	m := majorVersion.FindStringSubmatch(version)
	if m == nil {
		return false
	}
	major, err := strconv.Atoi(m[1])
	return err == nil && major < 4
}

// roster holds the open sessions of a server before 4.0.
type roster struct {
	every time.Duration

	mu   sync.Mutex // held while a session is opened: nothing comes between using the others and that
	open map[*session]struct{}

	end   context.CancelFunc
	ended chan struct{}
}

// newRoster makes an empty roster; close ends it.
func newRoster(every time.Duration) *roster {
	ctx, end := context.WithCancel(context.Background())
	r := &roster{every: every, open: map[*session]struct{}{}, end: end, ended: make(chan struct{})}
	go r.run(ctx)
	return r
}

func (r *roster) run(ctx context.Context) {
	defer close(r.ended)
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.mu.Lock()
			r.touch(ctx)
			r.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (r *roster) close() {
	r.end()
	<-r.ended
}

// touch uses all open sessions; the caller holds r.mu. A failure is noticed by whoever uses the session.
func (r *roster) touch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for s := range r.open {
		_, _ = s.getOptions(ctx, markKey)
	}
}

// begin makes a session known to the server.
func (r *roster) begin(ctx context.Context, s *session, spec engines.SessionSpec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch(ctx)
	got, err := s.getOptions(ctx, markKey)
	if err != nil {
		return err
	}
	if spec.Known && got[markKey] == nil {
		return fmt.Errorf("%w: it has forgotten the session", engines.ErrLost)
	}
	conf := maps.Clone(spec.Conf)
	if conf == nil {
		conf = map[string]string{}
	}
	conf[markKey] = s.id
	if err := s.setEach(ctx, conf); err != nil {
		return err
	}
	s.roster, r.open[s] = r, struct{}{}
	return nil
}

func (r *roster) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, s)
}

// setEach gives a session its settings one by one, because a server before 4.0 stops at the first that it refuses and
// cannot be told to pass over it.
func (s *session) setEach(ctx context.Context, conf map[string]string) error {
	for k, v := range conf {
		set := &connectpb.ConfigRequest_Set{Pairs: []*connectpb.KeyValue{{Key: k, Value: &v}}}
		_, err := s.config(ctx, &connectpb.ConfigRequest_Operation{OpType: &connectpb.ConfigRequest_Operation_Set{Set: set}})
		var refused *engines.Error
		if err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}
