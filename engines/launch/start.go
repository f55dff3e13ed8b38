package launch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
)

// storeLimit bounds what is told to the store when nobody waits for it.
const storeLimit = 10 * time.Second

// bring gets the engine of a place: it claims the place and starts an engine, or joins the one that another gateway has
// there.
func (l *Launcher) bring(e *entry, req Request) {
	ctx, cancel := context.WithTimeoutCause(l.life, l.opt.StartTimeout,
		fmt.Errorf("the engine did not start within engine.start_timeout (%s)", l.opt.StartTimeout))
	defer cancel()
	for {
		rec := Record{ID: uuid.NewString(), Key: e.place.key.String(), Slot: e.place.slot, Claimed: true, Cluster: e.place.key.Cluster,
			Kind: string(e.place.key.Kind), User: req.User, App: engines.App{State: engines.Pending}, CreatedAt: time.Now()}
		rec.App.Tag = engines.Tag(rec.ID)
		rec, mine, err := l.opt.Store.Claim(ctx, rec)
		if errors.Is(err, ErrTooMany) && e.roomLater(ctx, err) {
			continue
		}
		if err != nil {
			l.drop(e, fmt.Errorf("claim an engine: %w", err))
			return
		}
		if mine {
			l.own(e, rec)
			l.start(ctx, e, req)
			return
		}
		other, err := l.opt.Store.Claimed(ctx, rec.Key, rec.Slot)
		switch {
		case errors.Is(err, ErrNotClaimed): // it has ended between the two questions
			continue
		case err != nil:
			l.drop(e, fmt.Errorf("find an engine: %w", err))
			return
		}
		l.join(ctx, e, other)
		return
	}
}

// roomPause is between two tries to have an engine that a limit forbids.
const roomPause = 500 * time.Millisecond

// roomLater waits for a moment while there are as many engines as there may be; false if the start has taken too long.
func (e *entry) roomLater(ctx context.Context, why error) bool {
	e.tellOnce("Waits for an engine: " + why.Error())
	select {
	case <-time.After(roomPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// own takes in what the store says of an entry's engine, and who owns it.
func (l *Launcher) own(e *entry, rec Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.setRecord(rec)
	e.mine = rec.Replica == l.opt.Store.Self()
	l.byID[rec.ID] = e
}

// start brings an engine of ours up: 1 plan, 2 submit, 3 wait for its address, 4 ask it who it is. It is stored already.
func (l *Launcher) start(ctx context.Context, e *entry, req Request) {
	began := time.Now()
	err := l.allowed(ctx, e, req)
	if l.opt.Hooks.Started != nil {
		l.opt.Hooks.Started(e.place.key, time.Since(began), e.last().Steps, err)
	}
	if err != nil {
		l.retire(e, fmt.Errorf("start an engine on cluster %s: %w", e.place.key.Cluster, err), nil)
		return
	}
	e.tell(fmt.Sprintf("Engine %s is ready: Spark %s on cluster %s, started in %.1f s%s", e.id(), e.identity.Version, e.place.key.Cluster,
		time.Since(began).Seconds(), inSteps(e.last().Steps)))
	l.opt.Log.Info("engine ready", "engine", e.id(), "key", e.place.key.String(), "took", time.Since(began))
	l.handOut(e)
}

// allowed brings an engine up if the hooks let it, and tells them how that went.
func (l *Launcher) allowed(ctx context.Context, e *entry, req Request) error {
	if l.opt.Hooks.Start == nil {
		return l.bringUp(ctx, e, req)
	}
	end, err := l.opt.Hooks.Start(e.place.key)
	if err != nil {
		return err
	}
	err = l.bringUp(ctx, e, req)
	end(req.User, err)
	return err
}

// inSteps says where the time of a start went, if its cluster can tell.
func inSteps(s engines.Steps) string {
	var parts []string
	s.Each(func(name string, took time.Duration) {
		parts = append(parts, fmt.Sprintf("%s %.1f s", name, took.Seconds()))
	})
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// handOut makes an engine that is connected ready for those who wait.
func (l *Launcher) handOut(e *entry) {
	l.mu.Lock()
	e.idleSince = time.Now()
	l.mu.Unlock()
	close(e.ready)
}

func (l *Launcher) bringUp(ctx context.Context, e *entry, req Request) error {
	e.tell(fmt.Sprintf("Starting a %s engine on cluster %s", e.place.key.Kind, e.place.key.Cluster))
	platform, err := e.cluster.Platform(ctx, e.place.key.Runtime, e.tell)
	if err != nil {
		return err
	}
	conf := maps.Clone(l.opt.Conf)
	if conf == nil {
		conf = map[string]string{}
	}
	maps.Copy(conf, req.Conf)
	memory := req.Memory
	if memory == "" {
		memory = l.opt.Memory
	}
	plan, err := e.driver.Plan(engines.Spec{ID: e.id(), User: req.User, Name: req.Name, Memory: memory, Conf: conf, Token: l.token(e.id())}, platform)
	if err != nil {
		return err
	}
	// Preparing the platform may have taken minutes, and we may have been taken for dead meanwhile.
	if err := l.opt.Store.Save(ctx, e.record()); err != nil {
		return fmt.Errorf("the engine is not submitted: %w", err)
	}
	app, err := e.cluster.Submit(ctx, plan)
	if err != nil {
		return err
	}
	l.observe(e, app)
	return l.connect(ctx, e)
}

// connect waits for the engine's address and asks it who it is.
func (l *Launcher) connect(ctx context.Context, e *entry) error {
	address, err := e.address(ctx)
	if err != nil {
		return l.explain(e, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go e.untilEnded(ctx, cancel) // nobody answers then, however long he is asked
	client, err := e.driver.Dial(ctx, engines.Endpoint{Address: address, Token: l.token(e.id())})
	if err != nil {
		return err
	}
	who, err := client.Identify(ctx)
	if err == nil && who.Tag != engines.Tag(e.id()) {
		err = fmt.Errorf("%w: at %s we expected %s and met %q", engines.ErrDenied, address, e.id(), who.Tag)
	}
	if err != nil {
		_ = client.Close()
		return l.explain(e, err)
	}
	e.engine, e.identity = client, who
	return nil
}

// explain adds the engine's own root cause to a failed start, and where its log is.
func (l *Launcher) explain(e *entry, err error) error {
	app := e.last()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), 5*time.Second)
	defer cancel()
	cause := ""
	if log, lerr := e.cluster.Log(ctx, engines.Tag(e.id()), 256<<10); lerr == nil {
		cause = e.driver.RootCause(log)
	}
	if cause != "" {
		err = fmt.Errorf("%w: %s", err, cause)
	}
	if app.Log != "" {
		err = fmt.Errorf("%w (its log: %s)", err, app.Log)
	}
	return err
}

// join waits for an engine that another gateway starts, or has. If that gateway dies meanwhile, its heir decides what
// becomes of the engine, and we hear of it here; the heir may be we.
func (l *Launcher) join(ctx context.Context, e *entry, rec Record) {
	e.setRecord(rec)
	if rec.App.State != engines.Running {
		e.tell("Engine " + rec.ID + " is being started by another gateway")
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, time.Second
	for {
		err := l.joined(ctx, e)
		if err == nil {
			l.opt.Log.Info("engine joined", "engine", e.id(), "key", e.place.key.String())
			l.handOut(e)
			return
		}
		if !errors.Is(err, errNotYet) {
			l.drop(e, err)
			return
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			l.drop(e, fmt.Errorf("join engine %s: %w", e.id(), context.Cause(ctx)))
			return
		}
	}
}

var errNotYet = errors.New("the engine is not ready yet")

// joined looks once whether a foreign engine is ready, and connects with it.
func (l *Launcher) joined(ctx context.Context, e *entry) error {
	if l.giveWay(e) {
		return ErrNotClaimed // there is a better entry now
	}
	rec, err := l.opt.Store.Find(ctx, e.id())
	switch {
	case err != nil:
		return fmt.Errorf("join engine %s: %w", e.id(), err)
	case rec.App.State == engines.Ended && e.last().State != engines.Running:
		return fmt.Errorf("another gateway could not start the engine: %s", rec.App.Reason)
	case !rec.Claimed:
		return ErrNotClaimed
	}
	e.observe(rec.App)
	if rec.App.State != engines.Running {
		return errNotYet
	}
	if err := l.connect(ctx, e); err != nil {
		l.opt.Log.Info("an engine of another gateway does not answer", "engine", e.id(), "error", err)
		return errNotYet
	}
	l.own(e, rec)
	return nil
}

// giveWay puts the entry of an engine that we have taken over into the place of one that waits for it.
func (l *Launcher) giveWay(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.byID[e.id()]
	if taken == nil || taken == e {
		return false
	}
	if !taken.draining {
		l.byPlace[e.place] = taken
	}
	return true
}

// drop lets those go on who wait for an entry that got no engine.
func (l *Launcher) drop(e *entry, why error) {
	l.mu.Lock()
	l.unplace(e)
	l.mu.Unlock()
	e.end(why)
}
