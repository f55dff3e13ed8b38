package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/tests/sim"
)

// two is a gateway over the clusters c and d; all engines are played by c's world.
type two struct {
	*gateway
	router *sim.Router
	c, d   *sim.World
	over   chan struct{} // closed when the test is, so that one that fails does not wait for what it has held up
}

// held waits until a test lets a message go on.
func (g two) held(gate <-chan struct{}) {
	select {
	case <-gate:
	case <-g.over:
	}
}

// onTwo runs a test with a gateway over two clusters, in a bubble.
func onTwo(t *testing.T, text string, f func(t *testing.T, g two), change ...func(*session.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := two{router: sim.NewRouter("c", "d"), c: sim.New(), d: sim.New(), over: make(chan struct{})}
		defer g.router.Close()
		g.rules(t, text)
		g.gateway = serveOn(t, map[string]engines.Cluster{"c": g.c, "d": g.d}, g.c, t.TempDir(), append(change, func(o *session.Options) { o.Router = g.router })...)
		defer g.stop()
		defer close(g.over)
		f(t, g)
	})
}

// rules puts other rules in force, while no statement is on its way.
func (g two) rules(t *testing.T, text string) {
	t.Helper()
	set, err := rules.Load([]byte(text), []string{"c", "d"})
	require.NoError(t, err)
	g.router.Rules = set
}

// started is how many engines each cluster was asked for.
func (g two) started() [2]int { return [2]int{len(g.c.Heard("submit")), len(g.d.Heard("submit"))} }

// said is an operation's log without the times.
func said(o *session.Operation) string {
	lines, _ := o.Log().Read(0, 1000)
	var out strings.Builder
	for _, l := range lines {
		_, text, _ := strings.Cut(l, " ")
		out.WriteString(text + "\n")
	}
	return out.String()
}

// works runs a statement to its end.
func works(t *testing.T, s *session.Session, text string) *session.Operation {
	t.Helper()
	o := execute(t, s, text)
	require.Equal(t, session.Finished, ended(t, o).State, "%v", o.Snapshot().Failure)
	return o
}

// table reads the rows of an operation whose columns are text.
func table(t *testing.T, o *session.Operation) (columns []string, out [][]string) {
	t.Helper()
	schema, err := o.Schema(t.Context())
	require.NoError(t, err)
	for _, f := range schema.Fields() {
		columns = append(columns, f.Name)
	}
	batches, _, err := o.Rows(t.Context(), 0, 1000, 1<<20, func(arrow.RecordBatch, int, int) int { return 1 })
	require.NoError(t, err)
	for _, b := range batches {
		for row := range int(b.NumRows()) {
			var values []string
			for col := range columns {
				values = append(values, b.Column(col).(*array.String).Value(row))
			}
			out = append(out, values)
		}
		b.Release()
	}
	return columns, out
}

const twoRules = `version: v1
rules:
- {name: cards, when: touches("cards.*"), to: d}
- {name: all, to: {chain: [c, d]}}
`

func TestExplainRoute(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		s := g.open(t, nil)
		works(t, s, "USE cards")
		columns, got := table(t, works(t, s, "explain /* where */ route\n SELECT * FROM numbers;"))
		require.Equal(t, []string{"step", "name", "what"}, columns)
		require.Equal(t, [][]string{
			{"rules", "v1", "1 looked at"},
			{"statement", "", "kind select; reads spark_catalog.cards.numbers"},
			{"matched", "cards", `line 3: touches("cards.*") holds`},
			{"target", "", "d"},
			{"picked", "d", "rule cards: the rule names it"},
			{"decision", "d", "rule cards: the rule names it"},
		}, got)
		require.Equal(t, [2]int{}, g.started(), "it runs nothing")

		g.router.Drain("c", true)
		works(t, s, "SELECT * FROM default.t")
		require.Equal(t, [2]int{0, 1}, g.started())
		g.router.Drain("c", false)
		_, got = table(t, works(t, s, "EXPLAIN ROUTE SELECT * FROM default.t"))
		require.Equal(t, []string{"decision", "d", "rule all: the session has its engine there"}, got[len(got)-1], "where the session is counts")
		require.Len(t, g.c.Heard("start"), 1)
	})
}

func TestExplainRouteOfWhatIsRefused(t *testing.T) {
	onTwo(t, "rules:\n- {name: no, when: sql.kind == \"delete\", to: {refuse: by nobody}}\n- {name: all, to: c}\n", func(t *testing.T, g two) {
		s := g.open(t, nil)
		_, got := table(t, works(t, s, "EXPLAIN ROUTE DELETE FROM t"))
		require.Equal(t, "refused", got[len(got)-1][0])
		o := execute(t, s, "DELETE FROM t")
		require.Equal(t, session.Failed, ended(t, o).State)
		f := o.Snapshot().Failure
		require.Equal(t, []string{"SLUICE_NO_ROUTE", "42000", got[len(got)-1][2]}, []string{f.Class, f.SQLState, f.Message})
		require.Equal(t, [2]int{}, g.started())
		works(t, s, "SELECT 2")
	})
}

// A session moves with its next statement when its rule changes, and what it has made goes with it.
func TestASessionMoves(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		s := g.open(t, map[string]string{"spark.sql.k": "v"})
		const view = "CREATE TEMPORARY VIEW v AS SELECT 1"
		require.Contains(t, said(works(t, s, view)), "Routed to cluster c: rule all: it comes first (rules v1)\n")
		require.Contains(t, said(works(t, s, "SELECT ROWS 1")), "Runs on cluster c: rule all: the session has its engine there (rules v1)\n")
		require.Equal(t, [2]int{1, 0}, g.started())
		before := len(g.c.Heard("open", "start", "close"))

		g.rules(t, "version: v2\nrules: [{name: all, to: {chain: [d, c]}}]\n")
		require.Contains(t, said(works(t, s, "SELECT ROWS 2")), "The session moves from cluster c to d: rule all: it comes first (rules v2)\n")
		require.Equal(t, [2]int{1, 1}, g.started())
		require.Equal(t, []string{"close", "open", "start " + view, "start SELECT ROWS 2"}, g.c.Heard("open", "start", "close")[before:])
		require.Equal(t, "v", g.c.Opened[1].Conf["spark.sql.k"])
		_, ready, used := g.launcher.Counts()
		require.Equal(t, []int{2, 1}, []int{ready, used}, "the old engine is nobody's, and idles out")

		g.rules(t, "version: v3\nrules: [{name: new, when: user == \"bob\", to: c}, {name: all, to: {chain: [d, c]}}]\n")
		works(t, s, "SELECT ROWS 1")
		require.Equal(t, [2]int{1, 1}, g.started(), "another rule above moves nobody")
		g.router.Drain("d", true)
		require.Contains(t, said(works(t, s, "SELECT ROWS 1")), "The session moves from cluster d to c: rule all: it comes first of those that can take it; not d: it drains")
		require.Equal(t, [2]int{1, 1}, g.started(), "to the engine that is still there")
		g.router.Drain("d", false)
		works(t, s, "SET sluice.cluster=d")
		require.Contains(t, said(works(t, s, "SELECT ROWS 1")), "The session moves from cluster c to d: the client asked for it with sluice.cluster")
	})
}

// While a statement of the session runs nothing is taken from under it.
func TestASessionDoesNotMoveUnderAStatement(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		gate, reached := make(chan struct{}), make(chan struct{})
		first := true
		g.c.Script = func(_ context.Context, m sim.Message) error {
			if m.String() == "next 1" && first {
				first = false
				close(reached)
				g.held(gate)
			}
			return nil
		}
		s := g.open(t, nil)
		long := execute(t, s, "SELECT ROWS 3")
		<-reached
		synctest.Wait()
		g.rules(t, "version: v2\nrules: [{name: all, to: d}]\n")
		beside := works(t, s, "SELECT ROWS 2")
		require.Contains(t, said(beside), "Stays on cluster c, because other statements of the session run there; the next one goes to d: rule all: the rule names it (rules v2)\n")
		require.Equal(t, [2]int{1, 0}, g.started())
		require.Empty(t, g.c.Heard("close"))
		close(gate)
		ended(t, long)
		got, err := rows(t, long)
		require.NoError(t, err)
		require.Equal(t, []int64{0, 1, 2}, got, "every row of it")
		works(t, s, "SELECT ROWS 1")
		require.Equal(t, [2]int{1, 1}, g.started(), "and then it moves")
	})
}

// A start that has not reached its cluster is tried on another one, and on no other error.
func TestAClusterThatIsAwayIsPassedOver(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want session.State
		at   [2]int
	}{
		"it does not answer": {fmt.Errorf("%w: connection refused", engines.ErrAway), session.Finished, [2]int{1, 1}},
		"it answers no":      {errors.New("no quota"), session.Failed, [2]int{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			onTwo(t, twoRules, func(t *testing.T, g two) {
				g.c.Script = func(_ context.Context, m sim.Message) error {
					if m.Kind == "submit" {
						return tc.err
					}
					return nil
				}
				o := execute(t, g.open(t, nil), "SELECT ROWS 1")
				require.Equal(t, tc.want, ended(t, o).State, "%v", o.Snapshot().Failure)
				require.Equal(t, tc.at, g.started())
				if tc.want == session.Finished {
					require.Contains(t, said(o), "Cluster c is away, and nothing was sent: ")
					require.Contains(t, said(o), "Routed to cluster d: rule all: it comes first of those that can take it; not c: a start there has failed just now")
				}
			})
		})
	}
}

// A cluster that stops to answer while an engine is being started there is left at once.
func TestAStartIsLeftWhenItsClusterGoesAway(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		never := make(chan struct{})
		g.c.Script = func(ctx context.Context, m sim.Message) error {
			if m.Kind == "submit" {
				g.held(never)
			}
			return nil
		}
		o := execute(t, g.open(t, nil), "SELECT ROWS 1")
		synctest.Wait()
		require.Equal(t, session.Pending, o.Snapshot().State)
		began := time.Now()
		g.router.Silent("c", errors.New("connection refused"))
		require.Equal(t, session.Finished, ended(t, o).State, "%v", o.Snapshot().Failure)
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, [2]int{1, 1}, g.started())
		close(never)
	})
}

// A wish that can never come true is told when the session is opened; one that depends on the statement, or on the clusters,
// with the statement.
func TestWishesAreLookedAtFirst(t *testing.T) {
	onTwo(t, "rules:\n- {name: wall, when: user == \"ann\", to: c, strict: true}\n- {name: all, to: c}\n", func(t *testing.T, g two) {
		open := func(user, cluster string) error {
			_, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: user}, Conf: map[string]string{session.ClusterKey: cluster}})
			return err
		}
		var f *session.Failure
		require.ErrorAs(t, open("bob", "e"), &f)
		require.Equal(t, []string{"SLUICE_NO_ROUTE", "42000"}, []string{f.Class, f.SQLState})
		require.Contains(t, f.Message, `there is no cluster "e"`)
		walled := ended(t, execute(t, g.open(t, map[string]string{session.ClusterKey: "d"}), "SELECT ROWS 1"))
		require.Equal(t, "42000", walled.Failure.SQLState)
		require.Contains(t, walled.Failure.Message, "the rule is strict and allows c only: leave sluice.cluster=d out")
		require.NoError(t, open("bob", "d"))
		g.router.Silent("d", errors.New("connection refused"))
		require.NoError(t, open("bob", "d"))
	})
}

// limited gives a gateway a gate.
func limited(limits ...rules.Limit) func(*session.Options) {
	return func(o *session.Options) {
		o.Gate = admission.New(admission.Options{Limits: func() []rules.Limit { return limits }, Log: slog.New(slog.DiscardHandler)})
	}
}

func TestAStatementOverTheLimitWaitsAndIsTold(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		gate := make(chan struct{})
		first := true
		g.c.Script = func(_ context.Context, m sim.Message) error {
			if m.String() == "next 0" && first {
				first = false
				g.held(gate)
			}
			return nil
		}
		long := execute(t, g.open(t, nil), "SELECT ROWS 1")
		synctest.Wait()
		s := g.open(t, nil)
		second, third := execute(t, s, "SELECT ROWS 2"), execute(t, s, "SELECT ROWS 3")
		synctest.Wait()
		refused := ended(t, execute(t, s, "SELECT ROWS 4"))
		require.Equal(t, session.Pending, second.Snapshot().State)
		require.Contains(t, said(second)+said(third), "Waits, because the limit on running of user ann (1) is reached: number 1 of those who wait")
		require.Equal(t, session.Failed, refused.State)
		require.Equal(t, []string{"SLUICE_LIMIT", "53400"}, []string{refused.Failure.Class, refused.Failure.SQLState})
		require.Contains(t, refused.Failure.Message, "2 wait already, which is the most")
		table(t, works(t, s, "EXPLAIN ROUTE SELECT 1")) // waits for nothing
		works(t, s, "SET k=v")
		require.Len(t, g.c.Heard("start"), 1)

		third.Cancel()
		require.Equal(t, session.Canceled, ended(t, third).State)
		close(gate)
		require.Equal(t, session.Finished, ended(t, long).State)
		require.Equal(t, session.Finished, ended(t, second).State)
		require.Equal(t, []string{"start SELECT ROWS 1", "start SELECT ROWS 2"}, g.c.Heard("start"), "what was cancelled never began")
		works(t, s, "SELECT ROWS 5")
	}, limited(rules.Limit{Scope: rules.PerUser, Name: rules.Each, Running: 1, Waiting: 2}))
}

// Somebody who waits at one cluster runs where the rules say when it is his turn, and counts there.
func TestALimitOfACluster(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		gates := map[string]chan struct{}{"start SELECT ROWS 9": make(chan struct{}), "start SELECT ROWS 2": make(chan struct{})}
		g.c.Script = func(_ context.Context, m sim.Message) error {
			if gate := gates[m.String()]; gate != nil {
				g.held(gate)
			}
			return nil
		}
		long := execute(t, g.open(t, nil), "SELECT ROWS 9")
		synctest.Wait()
		waits := execute(t, g.open(t, nil), "SELECT ROWS 2")
		works(t, g.open(t, nil), "SELECT * FROM cards.numbers") // on d
		require.Equal(t, session.Pending, waits.Snapshot().State)
		g.rules(t, "version: v2\nrules: [{name: all, to: d}]\n")
		close(gates["start SELECT ROWS 9"])
		require.Equal(t, session.Finished, ended(t, long).State)
		require.Equal(t, session.Running, waits.Snapshot().State)
		require.Contains(t, said(waits), "Waits, because the limit on running of cluster c (1) is reached")
		require.Contains(t, said(waits), "Routed to cluster d: rule all: the rule names it (rules v2)")
		next := execute(t, g.open(t, nil), "SELECT ROWS 1")
		synctest.Wait()
		require.Contains(t, said(next), "Waits, because the limit on running of cluster d (1) is reached")
		g.rules(t, "version: v3\nrules: [{name: all, to: c}]\n")
		works(t, g.open(t, nil), "SELECT ROWS 1") // c has room
		close(gates["start SELECT ROWS 2"])
		require.Equal(t, session.Finished, ended(t, waits).State)
		require.Equal(t, session.Finished, ended(t, next).State)
	}, limited(rules.Limit{Scope: rules.PerPlace, Name: rules.Each, Running: 1}))
}

func TestSessionsOverTheLimitAreRefused(t *testing.T) {
	var refused []error
	onTwo(t, twoRules, func(t *testing.T, g two) {
		s := g.open(t, nil)
		_, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "ann"}})
		var f *session.Failure
		require.ErrorAs(t, err, &f)
		require.Equal(t, []string{"SLUICE_LIMIT", "53400"}, []string{f.Class, f.SQLState})
		require.Contains(t, f.Message, "the limit on sessions of user ann (1) is reached")
		require.Equal(t, []error{err}, refused, "observers are told")
		_, err = g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "bob"}})
		require.NoError(t, err)
		require.NoError(t, g.Close(t.Context(), s, "test"))
		s = g.open(t, nil) // one that is closed makes room
		works(t, s, "SELECT ROWS 1")
	}, limited(rules.Limit{Scope: rules.PerUser, Name: rules.Each, Sessions: 1}),
		func(o *session.Options) {
			o.Hooks.SessionRefused = func(_ session.OpenRequest, err error) { refused = append(refused, err) }
		})
}

// A session that is refused for another reason takes no room of a limit.
func TestARefusedSessionTakesNoRoom(t *testing.T) {
	onTwo(t, twoRules, func(t *testing.T, g two) {
		for range 3 {
			_, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "ann"}, Conf: map[string]string{session.ClusterKey: "e"}})
			require.ErrorContains(t, err, "there is no cluster")
		}
		a := g.open(t, nil)
		for range 3 {
			_, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "bob"}})
			require.ErrorContains(t, err, "limits.sessions (1) is reached")
		}
		require.NoError(t, g.Close(t.Context(), a, "test"))
		_, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "bob"}})
		require.NoError(t, err)
	}, limited(rules.Limit{Scope: rules.PerUser, Name: rules.Each, Sessions: 1}), func(o *session.Options) { o.Limits.Sessions = 1 })
}

// spy is a router that keeps what it was asked.
type spy struct {
	*sim.Router
	asked []router.Request
}

func (s *spy) Route(r *router.Request) (rules.Decision, error) {
	s.asked = append(s.asked, *r)
	return s.Router.Route(r)
}

func TestWhatTheRouterIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		conf map[string]string
		want func(*router.Request)
	}{
		"nothing said":                {nil, func(*router.Request) {}},
		"its queue":                   {map[string]string{"sluice.queue": "a", "spark.yarn.queue": "b"}, func(r *router.Request) { r.Queue = "a" }},
		"a queue for Spark":           {map[string]string{"spark.yarn.queue": "b", "tez.queue.name": "c"}, func(r *router.Request) { r.Queue = "b" }},
		"a queue for MapReduce":       {map[string]string{"mapreduce.job.queuename": "c"}, func(r *router.Request) { r.Queue = "c" }},
		"an older queue for it":       {map[string]string{"mapred.job.queue.name": "d"}, func(r *router.Request) { r.Queue = "d" }},
		"a queue for Tez":             {map[string]string{"tez.queue.name": "e"}, func(r *router.Request) { r.Queue = "e" }},
		"work, tags and client":       {map[string]string{"sluice.work": "etl", "sluice.tags": "nightly, big", "sluice.client": "airflow"}, func(r *router.Request) { r.Work, r.Tags, r.Client = "etl", []string{"nightly", "big"}, "airflow" }},
		"what its driver asks for":    {map[string]string{"spark.driver.cores": "2"}, func(r *router.Request) { r.Driver.MilliCores = 2000 }},
		"a cluster of its own":        {map[string]string{"sluice.cluster": "d"}, func(r *router.Request) { r.Cluster = "d" }},
		"settings that rules may use": {map[string]string{"etl.job": "orders"}, func(*router.Request) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := sim.New()
				r := &spy{Router: sim.NewRouter("c", "d")}
				defer r.Close()
				g := serveOn(t, map[string]engines.Cluster{"c": w, "d": w}, w, t.TempDir(), func(o *session.Options) { o.Router = r })
				defer g.stop()
				s, err := g.Open(t.Context(), session.OpenRequest{Identity: auth.Identity{User: "ann", RealUser: "hue", Groups: []string{"bi"}}, FrontEnd: "hs2",
					ClientAddr: "[::ffff:10.0.0.1]:7", Conf: tc.conf, Database: "`Web`"})
				require.NoError(t, err)
				works(t, s, "SELECT * FROM clicks")
				got := r.asked[len(r.asked)-1]
				want := router.Request{Session: s.ID.String(), User: "ann", RealUser: "hue", Groups: []string{"bi"}, FrontEnd: "hs2", Address: netip.MustParseAddr("10.0.0.1"),
					Work: "interactive", Database: "Web", Conf: map[string]string{}, Driver: router.Room{Memory: 1408, MilliCores: 1000}, SQL: got.SQL, At: got.At}
				if tc.conf != nil {
					want.Conf = tc.conf
				}
				tc.want(&want)
				require.Equal(t, want, got)
				require.Equal(t, []string{"spark_catalog.web.clicks"}, got.SQL.Reads)
				works(t, s, "SELECT 2")
				got = r.asked[len(r.asked)-1]
				at := "c"
				if want.Cluster != "" {
					at = want.Cluster
				}
				require.Equal(t, router.Place{Cluster: at}, got.Current)
				require.NotZero(t, got.CurrentRule)
				require.Equal(t, []router.Place{{Cluster: at}}, got.Warm)
			})
		})
	}
}

// Which queue the rules choose is a setting of the engine, and parts engines.
func TestQueuesPartEngines(t *testing.T) {
	onTwo(t, "rules:\n- {name: etl, when: work == \"etl\", to: {cluster: c, queue: root.etl}}\n- {name: all, to: c}\n", func(t *testing.T, g two) {
		works(t, g.open(t, nil), "SELECT ROWS 1")
		works(t, g.open(t, nil), "SELECT ROWS 1")
		works(t, g.open(t, map[string]string{"sluice.work": "etl"}), "SELECT ROWS 1")
		require.Equal(t, [2]int{2, 0}, g.started())
		recs, err := g.store.LiveEngines(t.Context())
		require.NoError(t, err)
		queues := map[string]string{}
		for _, r := range recs {
			queues[r.Queue] = r.ShareKey
		}
		require.Equal(t, map[string]string{"": "c/spark/user/ann///", "root.etl": "c/spark/user/ann////root.etl"}, queues)
	})
}

// A gateway that takes over goes on where a session's engine is, though the rules of today would send it elsewhere.
func TestATakenOverStatementStaysWhereItRuns(t *testing.T) {
	c, d, dir := sim.New(), sim.New(), t.TempDir()
	both := map[string]engines.Cluster{"c": c, "d": d}
	reached, never := make(chan struct{}), make(chan struct{})
	first := true
	c.Script = func(_ context.Context, m sim.Message) error {
		if m.String() == "next 1" && first {
			first = false
			close(reached)
			<-never
			return errors.New("the gateway is gone")
		}
		return nil
	}
	dead := serveOn(t, both, c, dir)
	o := execute(t, dead.open(t, nil), "SELECT ROWS 3")
	<-reached
	r := sim.NewRouter("c", "d")
	defer r.Close()
	set, err := rules.Load([]byte("rules: [{name: all, to: d}]"), []string{"c", "d"})
	require.NoError(t, err)
	r.Rules = set
	heir := serveOn(t, both, c, dir, func(o *session.Options) { o.Router = r })
	adopted, err := heir.Adopt(t.Context())
	require.NoError(t, err)
	next, err := heir.Operation(o.ID, o.Secret[:], func(*session.Session) bool { return true })
	require.NoError(t, err)
	for !next.Wait(t.Context(), time.Second).State.Terminal() {
	}
	got, err := rows(t, next)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1, 2}, got)
	require.Empty(t, d.Heard("submit"))
	require.NoError(t, next.Close(t.Context()))
	o = execute(t, adopted[0], "SELECT ROWS 1")
	for !o.Wait(t.Context(), time.Second).State.Terminal() {
	}
	require.Equal(t, session.Finished, o.Snapshot().State, "%v", o.Snapshot().Failure)
	require.Len(t, d.Heard("submit"), 1, "its next statement goes where the rules say")
	close(never)
	heir.stop()
	dead.stop()
}
