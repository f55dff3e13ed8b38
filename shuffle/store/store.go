// Package store keeps pushed partitions: in bounded memory first, then on local disks, and gives them back in chunks. It knows
// nothing of sockets, clocks of its own or goroutines but those that Run starts, so that a simulation can drive every step.
//
// What it promises: data for which Append said Written or WrittenSplit is in the partition once a commit lists it as committed;
// otherwise the commit lists it as failed. See docs/shuffle.md for how that holds through full, broken and slow disks and restarts.
package store

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Disk is a directory to keep data in.
type Disk struct {
	Path string
	FS   tier.FS
}

// Options of a store. Zero values are replaced by defaults.
type Options struct {
	Disks      []Disk
	Memory     int64         // bytes for pushes; a quarter of it is for replicas' pushes alone
	FlushSize  int64         // bytes of a partition that are written at once
	ChunkSize  int64         // bytes of a chunk that a reader gets at once; at least, as batches stay whole
	Reserve    int64         // bytes that stay free on every disk
	OpenFiles  int64         // that are kept open for writing
	Writers    int           // per disk
	SlowAfter  time.Duration // a write that takes longer sets its disk aside
	CommitTime time.Duration // after it a commit waits for no disk any more
	StreamTime time.Duration // after it, a stream that nobody reads from counts as ended
	Verify     bool          // chunks are checked before they are first served
	Now        func() time.Time
	Log        *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Memory = cmp.Or(o.Memory, 80<<20)
	o.FlushSize = cmp.Or(o.FlushSize, 512<<10)
	o.ChunkSize = cmp.Or(o.ChunkSize, 8<<20)
	o.Reserve = cmp.Or(o.Reserve, 1<<30)
	o.OpenFiles = cmp.Or(o.OpenFiles, 4096)
	o.Writers = cmp.Or(o.Writers, 2)
	o.SlowAfter = cmp.Or(o.SlowAfter, 20*time.Second)
	o.CommitTime = cmp.Or(o.CommitTime, 2*time.Second)
	o.StreamTime = cmp.Or(o.StreamTime, 30*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store is the partitions of one worker.
type Store struct {
	opts             Options
	log              *slog.Logger
	disks            []*disk
	primary, replica *Memory
	shuffles         sync.Map // key → *shuffle
	streams          streams
	open             atomic.Int64 // files open for writing
	names            atomic.Int64 // makes names of directories and packs new
	written          atomic.Int64 // bytes that went to disks
	draining         atomic.Bool
	locks            []io.Closer

	stuckMu sync.Mutex
	stuck   []*Partition // with bytes in memory that no disk took

	commitsMu sync.Mutex
	commits   map[*commit]struct{} // that wait
}

// Open makes a store of what its disks hold: partitions that were committed are served again, anything else is removed.
func Open(o Options) (*Store, error) {
	s := &Store{opts: o.withDefaults(), commits: map[*commit]struct{}{}}
	s.log = s.opts.Log
	if len(s.opts.Disks) == 0 {
		return nil, errors.New("a shuffle worker needs a directory for its data (--dir)")
	}
	// Replicas have memory of their own: were it one, two workers that wait for each other's replicas could fill up and stop.
	s.replica = NewMemory(s.opts.Memory/4, s.wake)
	s.primary = NewMemory(s.opts.Memory-s.opts.Memory/4, s.wake)
	for _, d := range s.opts.Disks {
		s.disks = append(s.disks, newDisk(s, d))
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	s.streams.init(s)
	s.names.Store(s.opts.Now().UnixNano())
	if err := s.adopt(); err != nil {
		s.Close()
		return nil, err
	}
	s.Check()
	return s, nil
}

// lock keeps other workers off the disks. A disk that cannot be used is left out for this store's life, as what lies there was not
// taken over: the others have data that readers wait for. With none left there is no store.
func (s *Store) lock() error {
	var bad []error
	for _, d := range s.disks {
		err := d.fs.MkdirAll(d.path)
		if l, ok := d.fs.(tier.Locker); ok && err == nil {
			var c io.Closer
			if c, err = l.Lock(d.path); err == nil {
				s.locks = append(s.locks, c)
			} else if !errors.As(err, new(*fs.PathError)) { // another process has it
				s.Close()
				return err
			}
		}
		if err == nil {
			_, err = d.fs.List(d.path)
		}
		if err != nil {
			bad = append(bad, err)
			d.leave(err)
		}
	}
	if len(bad) == len(s.disks) {
		s.Close()
		return errors.Join(bad...)
	}
	return nil
}

// Close gives the disks free; Run must have ended.
func (s *Store) Close() {
	for _, c := range s.locks {
		_ = c.Close()
	}
	s.locks = nil
}

// Memory is where pushes to copies of that mode are received.
func (s *Store) Memory(mode byte) *Memory {
	if mode == wire.Replica {
		return s.replica
	}
	return s.primary
}

func (s *Store) wake() {
	for _, d := range s.disks {
		d.wake()
	}
}

func (s *Store) pressed() bool { return s.primary.Pressed() || s.replica.Pressed() }

// Run writes and looks after the disks until the context ends.
func (s *Store) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, d := range s.disks {
		for range s.opts.Writers {
			all.Go(func() {
				for d.step(true) { //nolint:revive // all is in the condition
				}
			})
		}
		defer d.end()
	}
	for _, d := range s.disks {
		all.Go(func() { every(ctx, func() { d.look(s.opts.Now()) }) })
	}
	every(ctx, s.watch)
}

func every(ctx context.Context, f func()) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// Step writes one thing that is to be written, if there is one: what Run does all the time.
func (s *Store) Step() bool {
	for _, d := range s.disks {
		if d.step(false) {
			return true
		}
	}
	return false
}

// Check looks after disks, commits that wait and streams that nobody reads: what Run does every second, there with a goroutine for
// each disk, because one that hangs must not keep the others from being looked after.
func (s *Store) Check() {
	for _, d := range s.disks {
		d.look(s.opts.Now())
	}
	s.watch()
}

// watch is the part of Check that asks no disk anything, and so cannot hang.
func (s *Store) watch() {
	now := s.opts.Now()
	for _, d := range s.disks {
		s.rescue(d.watch(now), d)
	}
	s.unstick()
	s.overdue(now)
	s.streams.expire(now, s.opts.StreamTime)
}

// rescue moves what waits for a disk that hangs to another.
func (s *Store) rescue(stranded []job, from *disk) {
	to := s.pick(map[*disk]bool{from: true})
	if to == nil {
		to = from
	}
	for _, j := range stranded {
		switch j := j.(type) {
		case *Partition:
			j.moveTo(to, false)
		case *pack:
			for _, p := range j.parts {
				p.moveTo(to, false)
			}
		}
		to.push(j)
	}
}

// pick is the disk for new data: of those that work the one with the fewest partitions for its room; nil if none works.
func (s *Store) pick(but map[*disk]bool) *disk {
	var best *disk
	var least float64
	for _, d := range s.disks {
		if but[d] || !d.usableNow() {
			continue
		}
		d.mu.Lock()
		load := float64(d.placed.Load()+1) / float64(max(d.usable>>20, 1))
		d.mu.Unlock()
		if best == nil || load < least {
			best, least = d, load
		}
	}
	return best
}

// Writes reports whether any disk takes data: if none does, memory that is full stays full.
func (s *Store) Writes() bool { return s.pick(nil) != nil }

// Drain makes the store take no new partitions and no more data.
func (s *Store) Drain() { s.draining.Store(true) }

// DiskState is how a disk fares.
type DiskState struct {
	Path          string
	Usable, Total int64 // bytes
	Partitions    int64
	MeanWrite     time.Duration
	Problem       string // why it gets no new partitions, or ""
}

// Disks says how the disks fare.
func (s *Store) Disks() []DiskState {
	out := make([]DiskState, len(s.disks))
	for i, d := range s.disks {
		out[i] = d.state()
	}
	return out
}

// Written is how many bytes went to disks since the start.
func (s *Store) Written() int64 { return s.written.Load() }

// Held says what there is, by shuffle key.
func (s *Store) Held() []*pb.HeldShuffle {
	var out []*pb.HeldShuffle
	s.shuffles.Range(func(_, v any) bool {
		sh := v.(*shuffle)
		sh.mu.Lock()
		defer sh.mu.Unlock()
		out = append(out, &pb.HeldShuffle{AppId: sh.app, ShuffleId: sh.id, UserIdentifier: sh.user, Bytes: sh.bytes.Load(), Partitions: sh.copies.Load()})
		return true
	})
	slices.SortFunc(out, func(a, b *pb.HeldShuffle) int {
		return cmp.Or(cmp.Compare(a.AppId, b.AppId), cmp.Compare(a.ShuffleId, b.ShuffleId))
	})
	return out
}

// ErrNoDisk is why nothing can be reserved.
var ErrNoDisk = errors.New("no disk of this worker takes data")

// ErrDraining is why nothing is reserved any more.
var ErrDraining = errors.New("this worker is being drained")
