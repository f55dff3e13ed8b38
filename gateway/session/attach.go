package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/router/sql"
)

// engineID is the engine that knows the session now, or empty.
func (s *Session) engineID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached {
		return ""
	}
	return s.rec.EngineID
}

// hasEngine says whether an engine knows the session now. Without one, what needs none is answered here.
func (s *Session) hasEngine() bool { return s.engineID() != "" }

// onEngine returns the session's engine for a statement, acquiring one and opening a session on it if there is none, or if
// the router wants it elsewhere.
func (s *Session) onEngine(ctx context.Context, what *sql.Facts, report func(string)) (engines.Session, *launch.Lease, error) {
	select {
	case s.engine <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-s.engine }()
	if s.lease != nil && s.lease.Err() != nil {
		report("The session's engine is gone: " + s.lease.Err().Error())
		s.detach()
	}
	if s.remote != nil && s.lease.Draining() && s.running() <= 1 { // this one
		report("The session's engine is to end; the session goes on with another one")
		s.leave(ctx)
	}
	to, wanted, err := s.settle(ctx, what, nil, report)
	if err != nil {
		return nil, nil, err
	}
	if s.remote != nil {
		s.setPlace(to)
		return s.remote, s.lease, nil
	}
	if max, n := int64(s.manager.opt.Limits.Waiting), s.manager.waiting.Add(1); max > 0 && n > max {
		s.manager.waiting.Add(-1)
		return nil, nil, limitError("waiting", int(max), "too many statements wait for engines to start; try again in a moment")
	}
	defer s.manager.waiting.Add(-1)
	var avoid []string
	for try := 1; ; try++ {
		err := s.acquire(ctx, to, wanted, report)
		switch {
		case err == nil:
			return s.remote, s.lease, nil
		case try == maxTries:
			return nil, nil, err
		case errors.Is(err, engines.ErrAway):
			report(fmt.Sprintf("Cluster %s is away, and nothing was sent: %v", to.key.Cluster, err))
			avoid = append(avoid, to.key.Cluster)
		case errors.Is(err, errLostAtOnce):
			report("The engine was lost before the statement reached it; looking for another one")
		default:
			return nil, nil, err
		}
		var again error
		if to, wanted, again = s.settle(ctx, what, avoid, report); again != nil {
			return nil, nil, fmt.Errorf("%w (and: %w)", again, err)
		}
	}
}

// maxTries is how many engines may be lost in a row before a statement has reached one.
const maxTries = 3

// lastWords is how long the end of an engine may take to be known.
const lastWords = 5 * time.Second

// errLostAtOnce says that an engine was lost before anything of a user's was sent to it.
var errLostAtOnce = errors.New("the engine was lost before it was used")

// acquire gets an engine and opens the session there; the caller holds s.engine.
func (s *Session) acquire(ctx context.Context, to place, wanted launch.Request, report func(string)) error {
	starting, started := s.untilAway(ctx, to.key.Cluster)
	lease, err := s.manager.opt.Engines.Acquire(starting, wanted, report)
	started()
	if err != nil {
		return err
	}
	s.setPlace(to)
	err = s.attach(ctx, lease, report)
	lost := lease.Err()
	switch {
	case err == nil && lost != nil:
		s.detach()
		return fmt.Errorf("%w: %w", errLostAtOnce, lost)
	case err == nil:
		return nil
	}
	defer lease.Release()
	if errors.Is(err, engines.ErrLost) {
		awaitEnd(ctx, lease)
	} else if lost == nil {
		return err
	}
	return fmt.Errorf("%w: %w", errLostAtOnce, err)
}

// awaitEnd waits until the end of an engine is known that does not answer any more: until then it would be given out again.
func awaitEnd(ctx context.Context, lease *launch.Lease) {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-lease.Done():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// attach opens the session on an engine, under an id that is stored first.
func (s *Session) attach(ctx context.Context, lease *launch.Lease, report func(string)) error {
	id, known := s.engineSession(lease.EngineID())
	s.mu.Lock()
	kept := s.journal
	s.mu.Unlock()
	rec := s.record()
	if err := s.manager.ledger.updateSession(context.WithoutCancel(ctx), rec); err != nil {
		return fmt.Errorf("store the session before its engine hears of it: %w", err)
	}
	remote, err := lease.Engine().OpenSession(ctx, engines.SessionSpec{
		ID: id, Known: known, User: rec.User, Conf: sessionConf(rec.Conf), Catalog: unquote(rec.Catalog), Database: rec.Database,
	})
	if known && errors.Is(err, engines.ErrLost) {
		return s.attach(ctx, lease, report) // the engine has forgotten it: begin there anew
	}
	if err != nil {
		return err
	}
	if !known {
		if err = s.manager.initialize(ctx, remote, rec.Conf); err == nil {
			err = kept.replay(ctx, remote, rec.Catalog, rec.Database, report)
		}
		if err != nil {
			_ = remote.Close(context.WithoutCancel(ctx))
			return err
		}
	}
	s.lease, s.remote = lease, remote
	s.setAttached(true)
	return nil
}

func (s *Session) setAttached(yes bool) {
	s.mu.Lock()
	s.attached = yes
	s.mu.Unlock()
}

// detach forgets the engine; the caller holds s.engine.
func (s *Session) detach() {
	s.lease.Release()
	s.lease, s.remote = nil, nil
	s.setAttached(false)
}

// lost is called when a statement found that the engine does not know the session any more.
func (s *Session) lost(remote engines.Session) {
	s.engine <- struct{}{}
	defer func() { <-s.engine }()
	if s.remote == remote {
		s.detach()
	}
}

func unquote(name string) string { return strings.ReplaceAll(strings.Trim(name, "`"), "``", "`") }

// leaveDraining lets go of an engine that is to end, if the session does not need it at the moment: its next statement
// gets another one.
func (s *Session) leaveDraining(ctx context.Context) {
	select {
	case s.engine <- struct{}{}:
	default:
		return // a statement is on its way to it
	}
	defer func() { <-s.engine }()
	if s.remote != nil && s.lease.Draining() && s.running() == 0 {
		s.leave(ctx)
		s.log.Info("session left an engine that is to end")
	}
}
