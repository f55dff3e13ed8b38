package admission

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/router/rules"
)

func gate(limits ...rules.Limit) *Gate {
	return New(Options{Limits: func() []rules.Limit { return limits }, Log: slog.New(slog.DiscardHandler)})
}

// run keeps a gate's clock going until the returned function is called.
func run(g *Gate) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Run(ctx) }()
	return func() { cancel(); <-ended }
}

// crowd is statements of users that each run for a second; it notes in which order they were let in.
type crowd struct {
	mu    sync.Mutex
	order []string
	said  []string
	wait  sync.WaitGroup
}

func (c *crowd) come(g *Gate, name string, a Ask) {
	c.wait.Go(func() {
		leave, err := g.Statement(context.Background(), a, func(text string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.said = append(c.said, name+": "+text)
		})
		c.mu.Lock()
		c.order = append(c.order, name)
		if err != nil {
			c.order[len(c.order)-1] += " refused: " + err.Error()
		}
		c.mu.Unlock()
		if err == nil {
			<-time.After(time.Second)
			leave()
		}
	})
	synctest.Wait()
}

func TestNobodyStarvesBehindALoudUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(rules.Limit{Scope: rules.Everybody, Running: 2})
		defer run(g)()
		var c crowd
		for i := range 10 {
			c.come(g, fmt.Sprint("loud", i), Ask{User: "loud", Priority: 5})
		}
		c.come(g, "quiet", Ask{User: "quiet", Priority: 5})
		c.wait.Wait()
		require.Less(t, position(c.order, "quiet"), 5, "%v", c.order)
		require.Contains(t, c.said[0], "Waits, because the limit on running of everybody (2) is reached: number 1 of those who wait; how long that takes is not known yet")
	})
}

func position(all []string, name string) int {
	for i, n := range all {
		if n == name {
			return i
		}
	}
	return len(all)
}

func TestPrioritiesAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(rules.Limit{Scope: rules.PerPlace, Name: "k8s1", Running: 1})
		defer run(g)()
		var c crowd
		c.come(g, "first", Ask{User: "a", Cluster: "k8s1", Priority: 5})
		c.come(g, "patient", Ask{User: "b", Cluster: "k8s1", Priority: 2})
		c.come(g, "elsewhere", Ask{User: "b", Cluster: "yarn1", Priority: 0})
		for i := range 300 { // urgent work all the time
			c.come(g, fmt.Sprint("urgent", i), Ask{User: "c", Cluster: "k8s1", Priority: 5})
			<-time.After(900 * time.Millisecond)
		}
		c.wait.Wait()
		require.Less(t, position(c.order, "elsewhere"), 2, "who needs something else waits for nobody")
		require.Greater(t, position(c.order, "patient"), 30)
		require.Less(t, position(c.order, "patient"), 130, "after three steps of ageing it is as urgent as they are")
	})
}

func TestTheQueueIsBoundAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(rules.Limit{Scope: rules.PerUser, Name: rules.Each, Running: 1, Waiting: 2})
		defer run(g)()
		var c crowd
		for i := range 4 {
			c.come(g, fmt.Sprint(i), Ask{User: "ann"})
		}
		c.come(g, "bob", Ask{User: "bob"})
		c.wait.Wait()
		require.Equal(t, "0", c.order[0])
		require.Equal(t, "3 refused: the limit on running of user ann (1) is reached, and 2 wait already, which is the most: try again later", c.order[1])
		require.Equal(t, "bob", c.order[2])
	})
}

func TestWhoWaitsIsToldHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(rules.Limit{Scope: rules.PerQueue, Name: "etl", Running: 1})
		defer run(g)()
		var c crowd
		for i := range 20 {
			c.come(g, fmt.Sprint(i), Ask{User: "ann", Queue: "etl"})
		}
		c.wait.Wait()
		places := 0
		for _, said := range c.said {
			var who, place, seconds int
			if n, _ := fmt.Sscanf(said, "%d: Waits, because the limit on running of queue etl (1) is reached: number %d of those who wait; about %ds", &who, &place, &seconds); n == 3 {
				require.Equal(t, place, seconds, "one leaves each second")
				places++
			}
		}
		require.Greater(t, places, 10, "%v", c.said)
	})
}

func TestOneWhoGoesAwayLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(rules.Limit{Scope: rules.PerUser, Name: rules.Each, Running: 1})
		leave, err := g.Statement(t.Context(), Ask{User: "ann"}, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_, err = g.Statement(ctx, Ask{User: "ann"}, func(string) {})
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, g.Waiting())
		leave()
		leave() // once is enough
		leave, err = g.Statement(t.Context(), Ask{User: "ann"}, nil)
		require.NoError(t, err)
		leave()
	})
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(rules.Limit{Scope: rules.PerUser, Name: "ann", Rate: 10, Burst: 3})
		began := time.Now()
		for range 13 {
			leave, err := g.Statement(t.Context(), Ask{User: "ann"}, func(string) {})
			require.NoError(t, err)
			leave()
		}
		require.InDelta(t, 1, time.Since(began).Seconds(), 0.01)
		for range 300 { // all at once
			go func() {
				if leave, err := g.Statement(t.Context(), Ask{User: "ann"}, func(string) {}); err == nil {
					leave()
				}
			}()
		}
		synctest.Wait()
		for range 400 {
			go func() { _, _ = g.Statement(t.Context(), Ask{User: "ann"}, func(string) {}) }()
		}
		synctest.Wait()
		_, err := g.Statement(t.Context(), Ask{User: "ann"}, func(string) {})
		var no *Refused
		require.ErrorAs(t, err, &no)
		require.Contains(t, no.Text, "the rate of user ann (10 statements a second) is exceeded by so much")
		<-time.After(2 * time.Minute)
	})
}

func TestSessionsOfWhomever(t *testing.T) {
	g := gate(rules.Limit{Scope: rules.PerUser, Name: rules.Each, Sessions: 1}, rules.Limit{Scope: rules.PerUser, Name: "ann", Sessions: 2},
		rules.Limit{Scope: rules.PerGroup, Name: "bi", Sessions: 2})
	leave, err := g.Session(t.Context(), Ask{User: "ann", Groups: []string{"bi"}})
	require.NoError(t, err)
	_, err = g.Session(t.Context(), Ask{User: "ann"})
	require.NoError(t, err)
	_, err = g.Session(t.Context(), Ask{User: "ann"})
	require.EqualError(t, err, "no session can be opened: the limit on sessions of user ann (2) is reached; close some, or try again later")
	_, err = g.Session(t.Context(), Ask{User: "bob", Groups: []string{"bi"}})
	require.NoError(t, err)
	_, err = g.Session(t.Context(), Ask{User: "eve", Groups: []string{"bi"}})
	require.ErrorContains(t, err, "sessions of group bi (2)")
	leave()
	_, err = g.Session(t.Context(), Ask{User: "eve", Groups: []string{"bi"}})
	require.NoError(t, err)
}
