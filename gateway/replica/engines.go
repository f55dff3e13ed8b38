package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/launch"
	"github.com/sluicedata/sluice/gateway/store"
)

// Engines is the launcher's view of the store, with the replica's name on everything that it owns and holds.
type Engines struct {
	*Replica
	// Limits are those that a new engine must fit into, with the words for who waits; nil is none.
	Limits func(cluster, queue, user string) (limits []store.EngineLimit, words string)
}

var _ launch.Store = Engines{}

// Self implements launch.Store.
func (e Engines) Self() string { return e.ID() }

// Alone implements launch.Store. A replica that is silent at the moment may come back.
func (e Engines) Alone(ctx context.Context) (bool, error) {
	all, err := e.opt.Store.Replicas(ctx)
	return len(all) <= 1, err
}

// Claim implements launch.Store.
func (e Engines) Claim(ctx context.Context, r launch.Record) (launch.Record, bool, error) {
	r.Replica, r.Fence, r.Claimed = e.ID(), 1, true
	rec := e.toStore(r)
	var limits []store.EngineLimit
	words := ""
	if e.Limits != nil {
		limits, words = e.Limits(rec.Cluster, rec.Queue, rec.User)
	}
	ok, err := e.opt.Store.ClaimEngine(ctx, rec, limits...)
	if errors.Is(err, store.ErrTooMany) {
		err = fmt.Errorf("%w: %s", launch.ErrTooMany, words)
	}
	return r, ok, err
}

// Claimed implements launch.Store.
func (e Engines) Claimed(ctx context.Context, key string, slot int) (launch.Record, error) {
	return fromStore(e.opt.Store.ClaimedEngine(ctx, key, slot))
}

// Find implements launch.Store.
func (e Engines) Find(ctx context.Context, id string) (launch.Record, error) {
	return fromStore(e.opt.Store.Engine(ctx, id))
}

// Live implements launch.Store.
func (e Engines) Live(ctx context.Context) ([]launch.Record, error) {
	all, err := e.opt.Store.LiveEngines(ctx)
	out := make([]launch.Record, len(all))
	for i, r := range all {
		out[i], _ = fromStore(r, nil)
	}
	return out, err
}

// Save implements launch.Store.
func (e Engines) Save(ctx context.Context, r launch.Record) error {
	return translate(e.opt.Store.UpdateEngine(ctx, e.toStore(r)))
}

// Yield implements launch.Store.
func (e Engines) Yield(ctx context.Context, r launch.Record, unheld *time.Duration) (bool, error) {
	ok, err := e.opt.Store.YieldEngine(ctx, e.toStore(r), unheld)
	return ok, translate(err)
}

// Hold implements launch.Store.
func (e Engines) Hold(ctx context.Context, id string, sessions, max int) error {
	return translate(e.opt.Store.HoldEngine(ctx, id, e.ID(), sessions, max))
}

// toStore writes a record as ours, whoever's it was when it was read: the store compares.
func (e Engines) toStore(r launch.Record) store.Engine {
	out := store.Engine{
		ID: r.ID, ShareKey: r.Key, Slot: r.Slot, Claimed: r.Claimed, Replica: e.ID(), Fence: r.Fence, Cluster: r.Cluster, Kind: r.Kind,
		Tag: string(r.App.Tag), User: r.User, AppID: string(r.App.ID), Address: r.App.Address, State: string(r.App.State), Reason: r.App.Reason,
		CreatedAt: r.CreatedAt,
	}
	if key, err := launch.ParseKey(r.Key); err == nil {
		out.Queue = key.Queue
	}
	if r.App.State == engines.Ended {
		now := time.Now()
		out.EndedAt = &now
	}
	return out
}

func fromStore(r store.Engine, err error) (launch.Record, error) {
	app := engines.App{Tag: engines.Tag(r.Tag), ID: engines.AppID(r.AppID), State: engines.State(r.State), Address: r.Address, Reason: r.Reason}
	return launch.Record{ID: r.ID, Key: r.ShareKey, Slot: r.Slot, Claimed: r.Claimed, Replica: r.Replica, Fence: r.Fence, Cluster: r.Cluster,
		Kind: r.Kind, User: r.User, App: app, CreatedAt: r.CreatedAt}, translate(err)
}

func translate(err error) error {
	switch {
	case errors.Is(err, store.ErrFenced):
		return launch.ErrFenced
	case errors.Is(err, store.ErrFull):
		return launch.ErrFull
	case errors.Is(err, store.ErrNotFound):
		return launch.ErrNotClaimed
	}
	return err
}
