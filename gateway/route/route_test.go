package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/watch"
)

// file is a file of rules that a test changes.
type file string

// write makes it another file, as editors and Kubernetes do: no reader sees half of it.
func (f file) write(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(string(f)+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(string(f)+".new", string(f)))
}

// to is a file of rules that sends everything to a cluster.
func to(version, cluster string) string {
	return fmt.Sprintf("version: %s\nrules: [{name: all, to: %s}]\n", version, cluster)
}

// one is a router of several on a store.
type one struct {
	*Router
	told []string // what was told of the rules in force
}

// start runs a router in the bubble of a test until its end.
func start(t *testing.T, st Store, f file) *one {
	t.Helper()
	w := watch.New([]watch.Cluster{{Name: "a"}, {Name: "b", Queue: "default"}})
	o := &one{}
	r, err := New(t.Context(), Options{Watch: w, File: string(f), Standard: "a", Store: st, Log: slog.New(slog.DiscardHandler), Changed: func(version string, err error) {
		if err != nil {
			version = "broken beside " + version
		}
		if n := len(o.told); n == 0 || o.told[n-1] != version {
			o.told = append(o.told, version)
		}
	}})
	require.NoError(t, err)
	o.Router = r
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; w.Close() })
	return o
}

// looked returns once every router has looked at its file and the store.
func looked() {
	<-time.After(2*every + time.Millisecond) // a file is looked at once a second at most
	synctest.Wait()
}

func (o *one) where(t *testing.T, session string) string {
	t.Helper()
	d, err := o.Route(&router.Request{Session: session})
	require.NoError(t, err)
	return d.Cluster + " by " + d.Version
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// bubble runs a test with a clock of its own and a new file of rules.
func bubble(t *testing.T, f func(t *testing.T, at file)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, file(filepath.Join(t.TempDir(), "rules.yaml"))) })
}

func TestANewFileIsTakenIfItIsValid(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		f.write(t, to("v1", "a"))
		r := start(t, openStore(t), f)
		require.Equal(t, "a by v1", r.where(t, "s"))
		f.write(t, to("v2", "b"))
		looked()
		require.Equal(t, "b by v2", r.where(t, "s"), "without a restart")

		f.write(t, "version: v3\nrules:\n- {name: all, to: c}\n- {when: usr == \"x\", to: a}\n")
		looked()
		require.Equal(t, "b by v2", r.where(t, "s"))
		s, err := r.Status(t.Context())
		require.NoError(t, err)
		require.Contains(t, s.Broken, string(f)+`:3:19: there is no cluster "c"; clusters are a, b`)
		require.Contains(t, s.Broken, string(f)+":4:", "all that is wrong is said")
		require.Equal(t, s.Versions[0].Version, s.Version)

		require.NoError(t, os.Remove(string(f)))
		looked()
		require.Equal(t, "b by v2", r.where(t, "s"), "a file that is gone changes nothing")
		f.write(t, to("v4", "a"))
		looked()
		require.Equal(t, "a by v4", r.where(t, "s"))
		s, err = r.Status(t.Context())
		require.NoError(t, err)
		require.Empty(t, s.Broken)
		require.Equal(t, []string{"v1", "v2", "broken beside v2", "v4"}, r.told)
		var all []string
		for _, v := range s.Versions {
			all = append(all, v.Name+" "+v.Force)
		}
		require.Equal(t, []string{"v4 100 % of sessions", "v2 ", "v1 "}, all, "what was never in force is no version")
	})
}

func TestABrokenFileIsAnErrorAtTheStart(t *testing.T) {
	for name, tc := range map[string]struct{ text, err string }{
		"not valid": {"rules: []", "route.file: "},
		"not there": {"", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := file(filepath.Join(t.TempDir(), "rules.yaml"))
			if tc.text != "" {
				f.write(t, tc.text)
			}
			w := watch.New([]watch.Cluster{{Name: "a"}})
			defer w.Close()
			_, err := New(t.Context(), Options{Watch: w, File: string(f), Store: openStore(t), Log: slog.New(slog.DiscardHandler)})
			require.ErrorContains(t, err, tc.err)
		})
	}
}

// A rollout splits the sessions; the rest keeps the version that was in force for everybody, through restarts, too.
func TestARolloutSplitsSessions(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		st := openStore(t)
		f.write(t, to("v1", "a"))
		r := start(t, st, f)
		count := func(r *one) (n int, sides map[string]string) {
			sides = map[string]string{}
			for i := range 1000 {
				s := fmt.Sprint("session ", i)
				if sides[s] = r.where(t, s); sides[s] == "b by v2" {
					n++
				} else {
					require.Equal(t, "a by v1", sides[s])
				}
			}
			return n, sides
		}
		f.write(t, "rollout: 20\n"+to("v2", "b"))
		looked()
		n, sides := count(r)
		require.InDelta(t, 200, n, 60)
		s, err := r.Status(t.Context())
		require.NoError(t, err)
		require.InDelta(t, 0.2, s.Rollout, 1e-9)
		require.Equal(t, []string{"20 % of sessions", "80 % of sessions"}, []string{s.Versions[0].Force, s.Versions[1].Force})

		_, again := count(start(t, st, f))
		require.Equal(t, sides, again, "another gateway, or this one started anew, splits them the same way")

		f.write(t, "rollout: 60\n"+to("v2", "b"))
		looked()
		n, more := count(r)
		require.InDelta(t, 600, n, 60)
		for s, side := range sides {
			require.False(t, side == "b by v2" && more[s] != side, "nobody goes back")
		}
		f.write(t, to("v2", "b"))
		looked()
		n, _ = count(r)
		require.Equal(t, 1000, n)
	})
}

func TestARolloutWithoutAnEarlierVersionIsForAll(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		f.write(t, "rollout: 1\n"+to("v1", "b"))
		r := start(t, openStore(t), f)
		for i := range 50 {
			require.Equal(t, "b by v1", r.where(t, fmt.Sprint(i)))
		}
	})
}

// A rollback holds on all gateways that have the file, for all sessions, until it is ended or the file is another one.
func TestARollback(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		st := openStore(t)
		f.write(t, to("v1", "a"))
		r, other := start(t, st, f), start(t, st, f)
		f.write(t, to("v2", "b"))
		looked()
		require.Equal(t, "b by v2", other.where(t, "s"))
		require.ErrorIs(t, r.Rollback(t.Context(), "v9", "ann"), ErrUnknown)

		require.NoError(t, r.Rollback(t.Context(), "v1", "ann"))
		require.Equal(t, "a by v1", r.where(t, "s"), "at once")
		looked()
		require.Equal(t, "a by v1", other.where(t, "s"))
		require.Equal(t, "a by v1", start(t, st, f).where(t, "s"), "and after a restart")
		s, err := r.Status(t.Context())
		require.NoError(t, err)
		require.True(t, s.Pinned)
		require.NotEqual(t, s.Version, s.Loaded)

		require.NoError(t, other.Rollback(t.Context(), "", "ann"))
		looked()
		require.Equal(t, "b by v2", r.where(t, "s"))
		s, err = r.Status(t.Context())
		require.NoError(t, err)
		require.False(t, s.Pinned)

		require.NoError(t, r.Rollback(t.Context(), s.Versions[1].Version, "ann"), "by its hash, too")
		f.write(t, to("v3", "b"))
		looked()
		require.Equal(t, "b by v3", r.where(t, "s"), "another file ends it")
		require.Equal(t, "b by v3", other.where(t, "s"))
	})
}

// What is broken on disk stays told while a rollback changes what is in force.
func TestARollbackDoesNotHideABrokenFile(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		f.write(t, to("v1", "a"))
		r := start(t, openStore(t), f)
		f.write(t, to("v2", "b"))
		looked()
		f.write(t, "rules: [")
		looked()
		require.NoError(t, r.Rollback(t.Context(), "v1", "ann"))
		require.Equal(t, "a by v1", r.where(t, "s"))
		require.Equal(t, []string{"v1", "v2", "broken beside v2", "broken beside v1"}, r.told)
	})
}

func TestGatewaysSeeEachOthersDrains(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		st := openStore(t)
		f.write(t, "version: v1\nrules: [{name: all, to: {chain: [a, b]}}]\n")
		r, other := start(t, st, f), start(t, st, f)
		require.ErrorIs(t, r.Drain(t.Context(), "c", true, "ann"), ErrUnknown)
		require.NoError(t, r.Drain(t.Context(), "a", true, "ann"))
		require.Equal(t, "b by v1", r.where(t, "s"), "at once")
		require.True(t, r.Clusters().Find("a").Draining)
		looked()
		require.Equal(t, "b by v1", other.where(t, "s"))
		require.Equal(t, "b by v1", start(t, st, f).where(t, "s"), "and after a restart")
		all, err := st.Settings(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"drain/a", "yes", "ann"}, []string{all[0].Name, all[0].Value, all[0].SaidBy})
		require.NoError(t, other.Drain(t.Context(), "a", false, "bob"))
		looked()
		require.Equal(t, "a by v1", r.where(t, "s"))
	})
}

// away is a store that cannot be reached when a test says so.
type away struct {
	*store.Store
	is atomic.Bool
}

var errAway = errors.New("connection refused")

func (a *away) Set(ctx context.Context, s store.Setting) error {
	if a.is.Load() {
		return errAway
	}
	return a.Store.Set(ctx, s)
}

func (a *away) Settings(ctx context.Context) ([]store.Setting, error) {
	if a.is.Load() {
		return nil, errAway
	}
	return a.Store.Settings(ctx)
}

func (a *away) AddRules(ctx context.Context, r store.Rules) error {
	if a.is.Load() {
		return errAway
	}
	return a.Store.AddRules(ctx, r)
}

func (a *away) AllRules(ctx context.Context) ([]store.Rules, error) {
	if a.is.Load() {
		return nil, errAway
	}
	return a.Store.AllRules(ctx)
}

// A store that is away changes nothing: drains and rollbacks hold, and new rules wait, since they could not be rolled back from.
func TestAStoreThatIsAwayChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, f file) {
		st := &away{Store: openStore(t)}
		f.write(t, "version: v1\nrules: [{name: all, to: {chain: [a, b]}}]\n")
		r := start(t, st, f)
		require.NoError(t, r.Drain(t.Context(), "a", true, "ann"))
		st.is.Store(true)
		f.write(t, to("v2", "a"))
		looked()
		require.Equal(t, "b by v1", r.where(t, "s"))
		require.ErrorIs(t, r.Drain(t.Context(), "a", false, "ann"), errAway)
		require.ErrorIs(t, r.Rollback(t.Context(), "", "ann"), errAway)
		_, err := r.Status(t.Context())
		require.ErrorIs(t, err, errAway)
		require.Equal(t, "b by v1", r.where(t, "s"))
		st.is.Store(false)
		looked()
		require.NoError(t, r.Drain(t.Context(), "a", false, "ann"))
		require.Equal(t, "a by v2", r.where(t, "s"))
	})
}

// Without a file the client's word counts, and then the default.
func TestWithoutAFile(t *testing.T) {
	bubble(t, func(t *testing.T, _ file) {
		r := start(t, openStore(t), "")
		require.Equal(t, "a by built-in", r.where(t, "s"))
		d, err := r.Route(&router.Request{Cluster: "b"})
		require.NoError(t, err)
		require.Equal(t, "b", d.Cluster)
		require.Equal(t, "default", r.QueueOf("b"))
		require.Empty(t, r.QueueOf("c"))
		require.Nil(t, r.Away("c"))
		require.Empty(t, r.Limits())
	})
}

// Who asks for a preview is told nothing else, and nobody hears of it.
func TestOnlyRouteIsTold(t *testing.T) {
	var told []string
	w := watch.New([]watch.Cluster{{Name: "a"}})
	defer w.Close()
	f := file(filepath.Join(t.TempDir(), "rules.yaml"))
	f.write(t, "zone: Asia/Tokyo\nrules:\n- {name: bob, when: user == \"bob\", to: {refuse: not bob}}\n- {name: all, to: a}\nlimits: [{user: ann, running: 3}]\n")
	r, err := New(t.Context(), Options{Watch: w, File: string(f), Store: openStore(t), Log: slog.New(slog.DiscardHandler),
		Decided: func(d rules.Decision, err error) {
			told = append(told, fmt.Sprint(d.Rule, " ", d.Cluster, " ", err != nil))
		}})
	require.NoError(t, err)
	req := &router.Request{User: "ann"}
	d, err := r.Preview(req)
	require.NoError(t, err)
	require.Equal(t, "a", d.Cluster)
	require.Equal(t, "Asia/Tokyo", req.At.Location().String(), "times of day are those of the file's zone")
	require.Equal(t, "Asia/Tokyo", r.Zone().String())
	require.Equal(t, 3, r.Limits()[0].Running)
	require.True(t, strings.HasPrefix(r.Explain(&router.Request{User: "bob"}).Reason, "not bob"))
	require.Empty(t, told)
	_, err = r.Route(&router.Request{User: "bob"})
	require.Error(t, err)
	_, err = r.Route(&router.Request{User: "ann"})
	require.NoError(t, err)
	require.Equal(t, []string{"bob  true", "all a false"}, told)
}
