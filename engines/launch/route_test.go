package launch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/replica"
	"github.com/sluicedata/sluice/gateway/store"
)

// onTwo makes a launcher for two clusters that one fake plays.
func onTwo(f *fake) func(*launch.Options) {
	return func(o *launch.Options) { o.Clusters = map[string]engines.Cluster{"c": f, "d": f} }
}

// Ready tells on which clusters and in which queues somebody would get an engine at once, whichever he names.
func TestWhereAnEngineIsReady(t *testing.T) {
	f := &fake{}
	l := start(t, f, onTwo(f))
	key := annsKey
	require.Empty(t, l.Ready(key))
	first := acquire(t, l, launch.Request{Key: key, User: key.Owner})
	require.Equal(t, []launch.Key{key}, l.Ready(key))
	first.Release()
	require.Equal(t, []launch.Key{key}, l.Ready(key), "one that nobody uses is as ready")

	inQueue := key
	inQueue.Cluster, inQueue.Queue = "d", "root.etl"
	other := acquire(t, l, launch.Request{Key: inQueue, User: inQueue.Owner})
	require.NotEqual(t, first.EngineID(), other.EngineID())
	require.ElementsMatch(t, []launch.Key{key, inQueue}, l.Ready(key))
	require.ElementsMatch(t, []launch.Key{key, inQueue}, l.Ready(inQueue))
	for what, k := range map[string]launch.Key{
		"another owner":   {Kind: "spark", Level: launch.User, Owner: "bob"},
		"another level":   {Kind: "spark", Level: launch.Group, Owner: "ann"},
		"another runtime": {Kind: "spark", Level: launch.User, Owner: "ann", Runtime: "old"},
		"another profile": {Kind: "spark", Level: launch.User, Owner: "ann", Profile: "bi"},
		"another name":    {Kind: "spark", Level: launch.User, Owner: "ann", Name: "x"},
	} {
		require.Empty(t, l.Ready(k), what)
	}
	f.emit(engines.App{Tag: engines.Tag(other.EngineID()), State: engines.Ended, Reason: "killed"})
	<-other.Done()
	require.Equal(t, []launch.Key{key}, l.Ready(key))
	other.Release()
}

// One that is being started, or is to end, is not ready.
func TestWhatIsNotReady(t *testing.T) {
	f := &fake{}
	gate, asked := make(chan struct{}), make(chan struct{}, 1)
	f.submit = func(a engines.Launch) (engines.App, error) {
		asked <- struct{}{}
		<-gate
		return running(a)
	}
	l := start(t, f, func(o *launch.Options) { o.MaxLifetime = 50 * time.Millisecond; o.Lease = 30 * time.Millisecond })
	done := make(chan *launch.Lease)
	go func() {
		lease, err := l.Acquire(context.Background(), launch.Request{Key: annsKey}, nil)
		if err != nil {
			close(done)
			return
		}
		done <- lease
	}()
	<-asked
	require.Empty(t, l.Ready(annsKey), "it is being started")
	close(gate)
	lease, ok := <-done
	require.True(t, ok)
	require.Eventually(t, lease.Draining, 5*time.Second, time.Millisecond)
	require.Empty(t, l.Ready(annsKey), "it is to end")
	lease.Release()
}

func TestTheKeyOfAnEngine(t *testing.T) {
	f := &fake{}
	l := start(t, f)
	key := annsKey
	key.Queue, key.Name = "root.a/b", "x y"
	lease := acquire(t, l, launch.Request{Key: key, User: key.Owner})
	got, err := l.KeyOf(t.Context(), lease.EngineID())
	require.NoError(t, err)
	require.Equal(t, key, got)
	f.emit(engines.App{Tag: engines.Tag(lease.EngineID()), State: engines.Ended, Reason: "killed"})
	<-lease.Done()
	got, err = l.KeyOf(t.Context(), lease.EngineID())
	require.NoError(t, err, "of one that has ended, too")
	require.Equal(t, key, got)
	lease.Release()
	_, err = l.KeyOf(t.Context(), "none")
	require.ErrorIs(t, err, launch.ErrNotClaimed)
}

// A hook may forbid a start: nothing is asked of the cluster, and the next one is asked about again. It hears how each went.
func TestAStartThatIsForbidden(t *testing.T) {
	f := &fake{}
	var mu sync.Mutex
	forbid := true
	var told []string
	l := start(t, f, func(o *launch.Options) {
		o.Hooks.Start = func(key launch.Key) (func(string, error), error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, "start on "+key.Cluster)
			if forbid {
				return nil, fmt.Errorf("%w: another start tries", engines.ErrAway)
			}
			return func(user string, err error) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprint(user, " ", err))
			}, nil
		}
	})
	_, err := l.Acquire(t.Context(), launch.Request{Key: annsKey, User: "ann"}, nil)
	require.ErrorIs(t, err, engines.ErrAway, "who asked can go elsewhere")
	require.ErrorContains(t, err, "start an engine on cluster c: the cluster does not answer: another start tries")
	require.Zero(t, f.count("submit"))

	mu.Lock()
	forbid = false
	mu.Unlock()
	f.mu.Lock()
	f.submit = func(engines.Launch) (engines.App, error) { return engines.App{}, errors.New("no quota") }
	f.mu.Unlock()
	_, err = l.Acquire(t.Context(), launch.Request{Key: annsKey, User: "ann"}, nil)
	require.ErrorContains(t, err, "no quota")
	f.mu.Lock()
	f.submit = running
	f.mu.Unlock()
	lease, err := l.Acquire(t.Context(), launch.Request{Key: annsKey, User: "ann"}, nil)
	require.NoError(t, err)
	again, err := l.Acquire(t.Context(), launch.Request{Key: annsKey, User: "ann"}, nil)
	require.NoError(t, err, "one that is there needs no start")
	lease.Release()
	again.Release()
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"start on c", "start on c", "ann no quota", "start on c", "ann <nil>"}, told)
}

// While a limit forbids an engine its user waits, and is told so once; one that ends makes room.
func TestTooManyEnginesAreWaitedFor(t *testing.T) {
	f := &fake{}
	r := member(t, newStore(t))
	l := startAs(t, r, f, func(o *launch.Options) {
		o.Store = replica.Engines{Replica: r, Limits: func(cluster, _, user string) ([]store.EngineLimit, string) {
			return []store.EngineLimit{{Column: "cluster", Value: cluster, Max: 1}}, "each cluster may have 1, and " + user + " wants another"
		}}
	})
	first := acquire(t, l, launch.Request{Key: annsKey, User: annsKey.Owner})
	again := acquire(t, l, launch.Request{Key: annsKey, User: annsKey.Owner})
	require.Equal(t, first.EngineID(), again.EngineID(), "one that is there may be had")
	again.Release()
	told := make(chan string, 1000)
	waits := make(chan *launch.Lease)
	bobs := annsKey
	bobs.Owner = "bob"
	go func() {
		lease, err := l.Acquire(context.Background(), launch.Request{Key: bobs, User: "bob"}, func(s string) { told <- s })
		if err != nil {
			close(waits)
			return
		}
		waits <- lease
	}()
	require.Equal(t, "Waits for an engine: there are too many engines: each cluster may have 1, and bob wants another", <-told)
	require.Equal(t, 1, f.count("submit"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Acquire(ctx, launch.Request{Key: bobs, User: "bob"}, nil)
	require.ErrorIs(t, err, context.Canceled, "who waits may go")
	f.emit(engines.App{Tag: engines.Tag(first.EngineID()), State: engines.Ended, Reason: "killed"})
	lease, ok := <-waits
	require.True(t, ok)
	require.Equal(t, 2, f.count("submit"))
	close(told)
	for text := range told {
		require.False(t, strings.HasPrefix(text, "Waits for an engine"), "it is said once")
	}
	lease.Release()
	first.Release()
}

func TestTooManyEnginesForTooLong(t *testing.T) {
	f := &fake{}
	r := member(t, newStore(t))
	l := startAs(t, r, f, func(o *launch.Options) {
		o.StartTimeout = 100 * time.Millisecond
		o.Store = replica.Engines{Replica: r, Limits: func(string, string, string) ([]store.EngineLimit, string) {
			return []store.EngineLimit{{Max: 0}}, "everybody together may have 0"
		}}
	})
	_, err := l.Acquire(t.Context(), launch.Request{Key: annsKey, User: "ann"}, nil)
	require.ErrorIs(t, err, launch.ErrTooMany)
	require.ErrorContains(t, err, "claim an engine: there are too many engines: everybody together may have 0")
	require.Zero(t, f.count("submit"))
}

// What a driver will take is known before there is one, as far as its settings can be read.
func TestTheRoomOfADriver(t *testing.T) {
	for name, tc := range map[string]struct {
		memory string
		conf   map[string]string
		want   engines.Room
	}{
		"by default":              {"", nil, engines.Room{Memory: 2048 + 384, MilliCores: 1000}},
		"its own heap":            {"10g", nil, engines.Room{Memory: 10240 + 1024, MilliCores: 1000}},
		"its own cores":           {"", map[string]string{"spark.driver.cores": "3"}, engines.Room{Memory: 2048 + 384, MilliCores: 3000}},
		"its own overhead":        {"", map[string]string{"spark.driver.memoryOverhead": "1g"}, engines.Room{Memory: 2048 + 1024, MilliCores: 1000}},
		"a heap that is none":     {"much", nil, engines.Room{}},
		"cores that are no whole": {"", map[string]string{"spark.driver.cores": "many"}, engines.Room{}},
	} {
		t.Run(name, func(t *testing.T) {
			l := launch.New(launch.Options{Memory: "2g", Conf: map[string]string{"spark.driver.cores": "1"}})
			require.Equal(t, tc.want, l.DriverRoom(launch.Request{Memory: tc.memory, Conf: tc.conf}))
		})
	}
}
