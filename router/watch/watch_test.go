package watch

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/router"
)

var errRefused = errors.New("connection refused")

// start plays one start of a user.
func start(t *testing.T, w *Watch, cluster, user string, err error, away bool) {
	t.Helper()
	end, serr := w.Start(cluster)
	require.NoError(t, serr)
	end(user, err, away)
}

func health(w *Watch, cluster string) router.Health { return w.Snapshot().Find(cluster).Health }

func three() *Watch { return New([]Cluster{{Name: "a"}, {Name: "b"}, {Name: "c"}}) }

func TestABreakerLetsOneTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three()
		defer w.Close()
		for range tripsAfter - 1 {
			start(t, w, "a", "ann", errRefused, true)
		}
		require.Equal(t, router.Up, health(w, "a"))
		start(t, w, "a", "ann", errRefused, true)
		require.Equal(t, router.Down, health(w, "a"))
		require.Contains(t, w.Snapshot().Find("a").Why, "the last 3 starts there found it away")
		_, err := w.Start("a")
		require.ErrorIs(t, err, ErrNoTrial)

		<-time.After(trialAfter + time.Second) // nobody asks, and the snapshot changes all the same
		require.Equal(t, router.Trial, health(w, "a"))
		end, err := w.Start("a")
		require.NoError(t, err)
		require.Equal(t, router.Trying, health(w, "a"))
		_, err = w.Start("a")
		require.ErrorIs(t, err, ErrNoTrial)
		end("ann", errRefused, true)
		require.Equal(t, router.Down, health(w, "a"))

		<-time.After(trialAfter + time.Second)
		start(t, w, "a", "ann", nil, false)
		require.Equal(t, router.Up, health(w, "a"))
	})
}

func TestOneUsersMistakesEjectNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three()
		defer w.Close()
		for range 100 {
			start(t, w, "a", "ann", errors.New("spark.executor.memory: no size"), false)
			start(t, w, "b", "bob", nil, false)
		}
		require.Equal(t, router.Up, health(w, "a"))
	})
}

func TestAnOutlierIsEjectedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three()
		defer w.Close()
		fail := func() {
			for i := range ejectFrom {
				start(t, w, "a", fmt.Sprint("u", i), errors.New("the image cannot be pulled"), false)
				start(t, w, "b", fmt.Sprint("u", i), nil, false)
			}
		}
		fail()
		require.Equal(t, router.Ejected, health(w, "a"))
		require.Contains(t, w.Snapshot().Find("a").Why, "100 % of its users failed, and 0 % elsewhere")
		<-time.After(ejectFor + time.Second)
		require.Equal(t, router.Up, health(w, "a"))
		fail()
		<-time.After(ejectFor + time.Second)
		require.Equal(t, router.Ejected, health(w, "a"), "the second time for longer")
		<-time.After(ejectFor)
		require.Equal(t, router.Up, health(w, "a"))
	})
}

func TestWhenMostFailNobodyIsEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New([]Cluster{{Name: "a"}, {Name: "b"}})
		defer w.Close()
		for i := range 10 {
			start(t, w, "a", fmt.Sprint("u", i), errors.New("broken"), false)
			start(t, w, "b", fmt.Sprint("u", i), errors.New("broken"), false)
		}
		require.Equal(t, router.Up, health(w, "a"))
		require.Equal(t, router.Up, health(w, "b"))
	})
}

func TestAwayTellsThoseWhoWait(t *testing.T) {
	w := three()
	defer w.Close()
	w.Read("a", router.State{Known: true, Free: router.Room{Memory: 7}, Name: "liar", Draining: true})
	s := w.Snapshot().Find("a")
	require.Equal(t, int64(7), s.Free.Memory)
	require.False(t, s.Draining, "a reading says nothing of that")
	away := w.Away("a")
	before := w.Snapshot()
	w.Silent("a", errRefused)
	<-away
	require.Equal(t, router.Down, health(w, "a"))
	require.Equal(t, router.Up, before.Find("a").Health, "a snapshot does not change")
	w.Read("a", router.State{})
	require.Equal(t, router.Up, health(w, "a"))
	select {
	case <-w.Away("a"):
		require.Fail(t, "it is back")
	default:
	}
	w.Drain("b", true)
	require.True(t, w.Snapshot().Find("b").Draining)
}
