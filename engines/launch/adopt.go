package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// adopt takes over the engines that run on the clusters: a gateway that was killed has left them. They are found by
// listing, and known by their records. What has no record is left alone, and ends with its lease.
func (l *Launcher) adopt(ctx context.Context) {
	for name, c := range l.opt.Clusters {
		apps, err := c.List(ctx)
		if err != nil {
			l.opt.Log.Warn("cannot list the engines of a cluster; none is taken over", "cluster", name, "error", err)
			continue
		}
		for _, app := range apps {
			if err := l.adoptOne(ctx, c, app); err != nil {
				l.opt.Log.Warn("an engine is not taken over; it ends with its lease", "cluster", name, "engine", app.Tag, "error", err)
			}
		}
	}
}

func (l *Launcher) adoptOne(ctx context.Context, c engines.Cluster, app engines.App) error {
	rec, found, err := l.opt.Store.FindEngine(ctx, string(app.Tag))
	if err != nil {
		return err
	}
	if !found {
		return errors.New("there is no record of it")
	}
	key, err := ParseKey(rec.Key)
	if err != nil {
		return err
	}
	driver, ok := l.opt.Drivers[key.Kind]
	if !ok {
		return fmt.Errorf("there is no driver for engines of kind %q", key.Kind)
	}
	e := newEntry(Request{Key: key, User: rec.User}, rec.ID, c, driver)
	e.created, e.uses, e.app = rec.CreatedAt, 0, rec.App
	l.mu.Lock()
	if l.byKey[key] != nil || l.byTag[app.Tag] != nil {
		l.mu.Unlock()
		return nil // somebody was quicker
	}
	l.byKey[key], l.byTag[app.Tag] = e, e
	l.wait.Add(1)
	l.mu.Unlock()
	go func() {
		defer l.wait.Done()
		l.takeOver(e, app)
	}()
	return nil
}

// takeOver connects with an engine as if it had just started. Whoever wants it meanwhile waits for that.
func (l *Launcher) takeOver(e *entry, app engines.App) {
	ctx, cancel := context.WithTimeoutCause(l.life, l.opt.StartTimeout,
		fmt.Errorf("the engine did not answer within engine.start_timeout (%s)", l.opt.StartTimeout))
	defer cancel()
	l.observe(e, app)
	if err := l.connect(ctx, e); err != nil {
		l.forget(e, fmt.Errorf("take over engine %s: %w", e.id, err))
		l.kill(e)
		return
	}
	l.opt.Log.Info("engine taken over", "engine", e.id, "key", e.key.String(), "age", time.Since(e.created))
	close(e.ready)
}
