// Package replica is one gateway among several that share a store: it beats, takes over what dead ones have left, and
// speaks for its gateway when engines are claimed, held and given up.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/gateway/store"
)

// Options of a Replica.
type Options struct {
	Store   *store.Store
	Address string        // of our HTTP port, for people who look who is there
	Timeout time.Duration // a replica that has not beaten for so long is dead
	// Before is the replica that this gateway was before it started anew, if it is known to be gone.
	Before string
	// Only says that no other gateway can work on the store: whoever is there was killed.
	Only bool
	// Lost is called when others took us for dead: the sessions of the replica that we were are theirs now.
	Lost func(was string)
	// Inherited is called when sessions and engines of another replica have become ours.
	Inherited func()
	Log       *slog.Logger
}

// Replica is this gateway among the others.
type Replica struct {
	opt Options

	mu sync.Mutex
	id string

	steady time.Time // since when no beat has failed
}

// Join makes this gateway one of those that work on the store, and takes over at once from those that are surely gone.
func Join(ctx context.Context, opt Options) (*Replica, error) {
	r := &Replica{opt: opt}
	if err := r.join(ctx); err != nil {
		return nil, fmt.Errorf("join the replicas: %w", err)
	}
	gone := []string{opt.Before}
	if opt.Only {
		gone = nil
		all, err := opt.Store.Replicas(ctx)
		if err != nil {
			return nil, fmt.Errorf("join the replicas: %w", err)
		}
		for _, other := range all {
			gone = append(gone, other.ID)
		}
	}
	for _, id := range gone {
		if id == "" || id == r.ID() {
			continue
		}
		if _, err := r.takeOver(ctx, id, 0); err != nil {
			return nil, fmt.Errorf("join the replicas: %w", err)
		}
	}
	return r, r.inherit(ctx)
}

func (r *Replica) join(ctx context.Context) error {
	id := uuid.NewString()
	if err := r.opt.Store.Join(ctx, store.Replica{ID: id, Address: r.opt.Address, StartedAt: time.Now()}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id, r.steady = id, time.Now()
	return nil
}

// ID is who we are; it changes when we were taken for dead.
func (r *Replica) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// Run beats until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	tick := time.NewTicker(r.opt.Timeout / 6)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := r.beat(ctx); err != nil && ctx.Err() == nil {
				r.opt.Log.Warn("a beat of this replica failed", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Leave ends the replica in order. What it still owns is left to the others.
func (r *Replica) Leave(ctx context.Context) error { return r.opt.Store.Leave(ctx, r.ID()) }

// beat tells that we live, and looks for those who do not.
func (r *Replica) beat(ctx context.Context) error {
	err := r.opt.Store.Beat(ctx, r.ID())
	switch {
	case errors.Is(err, store.ErrFenced):
		return r.rejoin(ctx)
	case err != nil:
		r.steady = time.Time{}
		return err
	}
	if r.steady.IsZero() {
		r.steady = time.Now()
	}
	// Whoever could not reach the store itself has no right to call others silent: they may not have reached it either.
	if time.Since(r.steady) < r.opt.Timeout {
		return nil
	}
	silent, err := r.opt.Store.Silent(ctx, r.opt.Timeout)
	if err != nil {
		return err
	}
	for _, other := range silent {
		taken, err := r.takeOver(ctx, other.ID, r.opt.Timeout)
		if err != nil {
			return err
		}
		if taken && r.opt.Inherited != nil {
			r.opt.Inherited()
		}
	}
	return r.inherit(ctx)
}

func (r *Replica) takeOver(ctx context.Context, dead string, silent time.Duration) (bool, error) {
	taken, err := r.opt.Store.TakeOver(ctx, dead, r.ID(), silent)
	if err != nil {
		return false, fmt.Errorf("take over from replica %s: %w", dead, err)
	}
	if taken {
		r.opt.Log.Info("taken over from a replica that is gone", "replica", dead)
	}
	return taken, nil
}

// inherit makes engines ours that a replica has left which stopped in order.
func (r *Replica) inherit(ctx context.Context) error { return r.opt.Store.Inherit(ctx, r.ID()) }

// rejoin begins a new life after others took us for dead.
func (r *Replica) rejoin(ctx context.Context) error {
	was := r.ID()
	if err := r.join(ctx); err != nil {
		return fmt.Errorf("join the replicas again: %w", err)
	}
	r.opt.Log.Warn("this gateway was silent for too long, and others took it for dead; it goes on as a new replica", "was", was, "is", r.ID())
	if r.opt.Lost != nil {
		r.opt.Lost(was)
	}
	return nil
}
