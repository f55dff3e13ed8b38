package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/admission"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/store"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/sql"
)

// Router decides where the work of sessions runs.
type Router interface {
	Route(*router.Request) (rules.Decision, error)
	Preview(*router.Request) (rules.Decision, error) // the same, and nobody is told
	Explain(*router.Request) *rules.Trace
	QueueOf(cluster string) string // for those who name none; empty where there are no queues
	// Away is closed once a cluster does not answer; nil if there is no such cluster.
	Away(cluster string) <-chan struct{}
}

// metadata is what is known of a metadata call: it reads no table.
var metadata = sql.Facts{Kind: "metadata", Complete: true}

// nothing is what is known before the first statement.
var nothing = sql.Facts{Kind: sql.Unknown, Why: "there is no statement yet"}

// queueKeys are the settings in which clients name a queue, the first that is set counts.
var queueKeys = []string{QueueKey, "spark.yarn.queue", "mapreduce.job.queuename", "mapred.job.queue.name", "tez.queue.name"}

// request is what the router is asked about a statement of the session.
func (s *Session) request(what sql.Facts) (*router.Request, launch.Request, error) {
	return s.manager.request(s.record(), s.Identity, what)
}

// request is what the router is asked, and what engine is wanted, but for its place.
func (m *Manager) request(rec store.Session, who auth.Identity, what sql.Facts) (*router.Request, launch.Request, error) {
	r := &router.Request{
		Session: rec.ID.String(), User: rec.User, RealUser: rec.RealUser, Groups: rec.Groups, Client: rec.Conf[ClientKey], FrontEnd: rec.FrontEnd,
		Work: cmp.Or(rec.Conf[WorkKey], router.Interactive), Profile: rec.Conf[ProfileKey], Runtime: rec.Conf[RuntimeKey], Cluster: rec.Conf[ClusterKey],
		Catalog: unquote(rec.Catalog), Database: unquote(rec.Database), Conf: rec.Conf, SQL: what,
	}
	if a, err := netip.ParseAddr(hostOf(rec.ClientAddr)); err == nil {
		r.Address = a.Unmap().WithZone("")
	}
	for _, key := range queueKeys {
		if r.Queue = rec.Conf[key]; r.Queue != "" {
			break
		}
	}
	if tags := rec.Conf[TagsKey]; tags != "" {
		for _, t := range strings.Split(tags, ",") {
			r.Tags = append(r.Tags, strings.TrimSpace(t))
		}
	}
	wanted, err := m.share(rec.ID, who, rec.Conf)
	if err != nil {
		return nil, wanted, err
	}
	wanted.Conf = engineConf(rec.Conf)
	r.Driver = router.Room(m.opt.Engines.DriverRoom(wanted))
	for _, k := range m.opt.Engines.Ready(wanted.Key) {
		r.Warm = append(r.Warm, router.Place{Cluster: k.Cluster, Queue: k.Queue})
	}
	return r, wanted, nil
}

// Facts are what the gateway knows of a statement of the session.
func (s *Session) facts(text string) sql.Facts {
	s.mu.Lock()
	catalog, database := unquote(s.rec.Catalog), unquote(s.rec.Database)
	s.mu.Unlock()
	return sql.Read(text, catalog, database)
}

// settle decides where the session's next statement runs, and takes it off an engine elsewhere. The caller holds s.engine.
func (s *Session) settle(ctx context.Context, what *sql.Facts, avoid []string, report func(string)) (place, launch.Request, error) {
	now, there := s.standing(ctx)
	goesOn := what == nil
	if goesOn {
		what = &metadata
	}
	r, wanted, err := s.request(*what)
	if err != nil {
		return place{}, wanted, err
	}
	if goesOn && there {
		wanted.Key = now.key
		return now, wanted, nil
	}
	if there {
		stands(r, now)
	}
	r.Avoid = avoid
	d, err := s.manager.opt.Router.Route(r)
	if err != nil {
		return place{}, wanted, refusedRoute(err)
	}
	at(&wanted, d)
	to := place{key: wanted.Key, route: fmt.Sprintf("%s (rules %s)", d.Reason, d.Version), rule: d.RuleID, priority: d.Priority}
	switch {
	case s.remote == nil:
		report(fmt.Sprintf("Routed to cluster %s: %s", d.Place, to.route))
	case r.Current == d.Place:
		report(fmt.Sprintf("Runs on cluster %s: %s", d.Place, to.route))
	case s.running() > 1: // this one, and others
		report(fmt.Sprintf("Stays on cluster %s, because other statements of the session run there; the next one goes to %s: %s", r.Current, d.Place, to.route))
		to.key, to.rule = now.key, now.rule
		to.route = "other statements of the session run there; then " + d.String() + ": " + to.route
	default:
		report(fmt.Sprintf("The session moves from cluster %s to %s: %s", r.Current, d.Place, to.route))
		s.leave(ctx)
	}
	return to, wanted, nil
}

// at puts an engine that is wanted into its place.
func at(wanted *launch.Request, d rules.Decision) {
	wanted.Key.Cluster, wanted.Key.Queue = d.Cluster, d.Queue
	if d.Queue != "" {
		wanted.Conf["spark.yarn.queue"] = d.Queue
	}
}

// standing is where the session has its engine, if it has one. After a gateway was killed only the engine is known, and with
// it its key. The caller holds s.engine.
func (s *Session) standing(ctx context.Context) (place, bool) {
	s.mu.Lock()
	now, engine, taken := s.place, s.rec.EngineID, s.resume
	s.mu.Unlock()
	if s.remote != nil {
		return now, true
	}
	if !taken || engine == "" {
		return place{}, false
	}
	key, err := s.manager.opt.Engines.KeyOf(ctx, engine)
	return place{key: key, route: "it runs there since before the gateway was taken over"}, err == nil
}

// stands tells the router where the session has its engine.
func stands(r *router.Request, now place) {
	r.Current, r.CurrentRule = router.Place{Cluster: now.key.Cluster, Queue: now.key.Queue}, now.rule
	if !slices.Contains(r.Warm, r.Current) {
		r.Warm = append(r.Warm, r.Current)
	}
}

// leave takes the session off its engine; what it has made there is made again on the next one. The caller holds s.engine.
func (s *Session) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords) // an engine that does not answer is left all the same
	defer cancel()
	_ = s.remote.Close(ctx)
	s.detach()
}

// refusedRoute is a refusal as its user reads it.
func refusedRoute(err error) error {
	var no *rules.Refusal
	if errors.As(err, &no) {
		return &Failure{Class: "SLUICE_NO_ROUTE", SQLState: "42000", Message: no.Error()}
	}
	return err
}

// ask is how the session asks to be let in at a place.
func (s *Session) ask(to place) admission.Ask {
	return admission.Ask{User: s.Identity.User, Groups: s.Identity.Groups, Cluster: to.key.Cluster, Priority: to.priority,
		Queue: cmp.Or(to.key.Queue, s.manager.opt.Router.QueueOf(to.key.Cluster))}
}

// admitted lets a statement in where it is to run, and then gets the session's engine there. Should the router have changed
// its mind while it waited, it is let in at the other place.
func (s *Session) admitted(ctx context.Context, what *sql.Facts, report func(string)) (engines.Session, *launch.Lease, func(), error) {
	gate := s.manager.opt.Gate
	if what == nil || !gate.Limits() {
		remote, lease, err := s.onEngine(ctx, what, report)
		return remote, lease, func() {}, err
	}
	for try := 1; ; try++ {
		to, err := s.preview(*what)
		if err != nil {
			return nil, nil, nil, err
		}
		let := gate.Statement
		if try > 1 {
			let = gate.Enter
		}
		leave, err := let(ctx, s.ask(to), report)
		if err != nil {
			return nil, nil, nil, refusedAdmission(err)
		}
		remote, lease, err := s.onEngine(ctx, what, report)
		if err != nil {
			leave()
			return nil, nil, nil, err
		}
		if at := s.whereabouts(); at.key.Cluster == to.key.Cluster && at.key.Queue == to.key.Queue || try == maxTries {
			return remote, lease, leave, nil
		}
		leave()
	}
}

// preview says where a statement would go now. It moves nothing, and only a refusal is recorded: nothing comes after it.
func (s *Session) preview(what sql.Facts) (place, error) {
	r, wanted, err := s.request(what)
	if err != nil {
		return place{}, err
	}
	if s.hasEngine() {
		stands(r, s.whereabouts())
	}
	d, err := s.manager.opt.Router.Preview(r)
	if err != nil {
		d, err = s.manager.opt.Router.Route(r)
	}
	wanted.Key.Cluster, wanted.Key.Queue = d.Cluster, d.Queue
	return place{key: wanted.Key, priority: d.Priority}, refusedRoute(err)
}

// refusedAdmission is a refusal of the gate as its user reads it.
func refusedAdmission(err error) error {
	var no *admission.Refused
	if errors.As(err, &no) {
		return &Failure{Class: "SLUICE_LIMIT", SQLState: "53400", Message: no.Text}
	}
	return err
}

// errAway is what a start hears whose cluster stops to answer meanwhile.
var errAway = fmt.Errorf("%w while an engine was started there", engines.ErrAway)

// untilAway ends a context when a cluster that answers now stops to.
func (s *Session) untilAway(ctx context.Context, cluster string) (context.Context, func()) {
	away := s.manager.opt.Router.Away(cluster)
	select {
	case <-away:
		return ctx, func() {} // the router knows, and has chosen it all the same: an engine runs there
	default:
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-away:
			cancel(errAway)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// explain answers EXPLAIN ROUTE: how the router would decide about a statement of this session now.
func (o *Operation) explain(text string) error {
	s := o.Session
	r, _, err := s.request(s.facts(text))
	if err != nil {
		return err
	}
	if s.hasEngine() {
		stands(r, s.whereabouts())
	}
	o.give(textRecords([]string{"step", "name", "what"}, s.manager.opt.Router.Explain(r).Lines()))
	return nil
}
