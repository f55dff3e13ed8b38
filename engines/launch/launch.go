// Package launch gives sessions the engines they need: it finds a warm one, or starts one, shares it among those who
// may share it, renews its lease while it is wanted, and ends it when nobody has wanted it for a while.
//
// Several gateways may work on one store. Which engine belongs to a key is a claim there, so one engine is started
// however many ask; each engine has one owner, who alone decides about its end, and whose every decision is checked by
// the store against a fence, so that an owner that was paused cannot act when it wakes.
package launch

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// Request asks for an engine.
type Request struct {
	Key    Key
	User   string            // in whose name it runs
	Name   string            // what people see in the cluster's lists
	Memory string            // heap of its driver; empty for the launcher's default
	Conf   map[string]string // settings for the engine, if this request is the one that starts it
	Pool   int               // how many engines share the work of the key; 0 is one
}

// Record is what is stored of an engine, before its cluster hears of it.
type Record struct {
	ID, Key, Cluster, Kind, User string
	Slot                         int
	Claimed                      bool // who asks for its key gets it
	Replica                      string
	Fence                        int64
	App                          engines.App
	CreatedAt                    time.Time
}

// What a Store answers beside records.
var (
	// ErrFenced says that another gateway owns the engine by now: we must not act on it.
	ErrFenced = errors.New("another gateway owns the engine by now")
	// ErrNotClaimed says that there is no engine to be had under a key, or that one is not to be had any more.
	ErrNotClaimed = errors.New("the engine is not to be had any more")
	// ErrTooMany says that a limit allows no engine more; its text says which.
	ErrTooMany = errors.New("there are too many engines")
	// ErrFull says that an engine has all the sessions that it takes.
	ErrFull = errors.New("the engine has all the sessions that it takes")
)

// Store keeps the records of engines for all gateways. It knows which gateway it speaks for.
type Store interface {
	// Self is the gateway that it speaks for. It changes when the gateway was taken for dead, and with it is lost all
	// that it owned and held.
	Self() string
	// Alone says that no other gateway is known to live.
	Alone(context.Context) (bool, error)
	// Claim stores a new engine as ours and with it the claim on its key and slot; false if another engine has it. It
	// returns the record with its owner and fence. It fails with ErrTooMany while a limit forbids the engine.
	Claim(context.Context, Record) (Record, bool, error)
	// Claimed returns the engine that has the claim, or ErrNotClaimed.
	Claimed(ctx context.Context, key string, slot int) (Record, error)
	// Find returns an engine, live or ended, or ErrNotClaimed if it was never stored.
	Find(ctx context.Context, id string) (Record, error)
	// Live returns all engines that have not ended.
	Live(context.Context) ([]Record, error)
	// Save stores an engine's App, or returns ErrFenced. One that has ended gives up its claim.
	Save(context.Context, Record) error
	// Yield gives up the claim of an engine of ours, or returns ErrFenced. With unheld it does so only if no gateway
	// has held the engine for so long, and returns false otherwise.
	Yield(ctx context.Context, r Record, unheld *time.Duration) (bool, error)
	// Hold tells how many sessions we have on an engine, of max that all gateways may have together (0: any number).
	// With more than before it may fail with ErrNotClaimed and ErrFull. With none we do not use the engine any more.
	Hold(ctx context.Context, id string, sessions, max int) error
}

// Hooks observe; each may be nil.
type Hooks struct {
	// Start is asked before an engine is started; its error forbids it. The returned function is told how that went.
	Start   func(key Key) (end func(user string, err error), err error)
	Started func(key Key, took time.Duration, steps engines.Steps, err error)
	Ended   func(key Key, reason string)
}

// Options of a Launcher.
type Options struct {
	Clusters     map[string]engines.Cluster
	Drivers      map[engines.Kind]engines.Driver
	Store        Store
	Secret       []byte            // master secret; engine tokens are derived from it
	Memory       string            // heap of engines
	Conf         map[string]string // settings of every engine
	StartTimeout time.Duration
	IdleTimeout  time.Duration
	MaxLifetime  time.Duration // after it an engine is given to nobody any more; 0 is none
	DrainTimeout time.Duration // for how long those who have it may go on then; 0 is any time
	Lease        time.Duration
	Hooks        Hooks
	Log          *slog.Logger
}

// place is where an engine stands among others: the key, and which of the key's pool it is.
type place struct {
	key  Key
	slot int
}

// Launcher hands out leases on engines.
type Launcher struct {
	opt  Options
	life context.Context // ends with Run; what is started belongs to it
	stop context.CancelCauseFunc
	wait sync.WaitGroup
	// ready is closed once the engines that were there before us are known: nobody starts one beside them.
	ready chan struct{}
	warm  map[place]*warmth
	as    string // the replica as which we hold engines; used by Run alone

	mu      sync.Mutex
	byPlace map[place]*entry // the ones that are to be had
	byID    map[string]*entry
	ending  map[string]bool // engines that are being ended, and are in no table any more
	closed  bool
}

// New makes a Launcher. Run must be called for engines to be watched, renewed and ended.
func New(opt Options) *Launcher {
	life, stop := context.WithCancelCause(context.Background())
	return &Launcher{opt: opt, life: life, stop: stop, byPlace: map[place]*entry{}, byID: map[string]*entry{}, ending: map[string]bool{}, ready: make(chan struct{}),
		warm: map[place]*warmth{}}
}

// Lease is the right to use an engine. Release must be called once.
type Lease struct {
	entry *entry
	once  sync.Once
	owner *Launcher
}

// Engine is the engine of the lease.
func (l *Lease) Engine() engines.Engine { return l.entry.engine }

// Key is the engine's share key.
func (l *Lease) Key() Key { return l.entry.place.key }

// EngineID is the id under which the engine is stored and tagged.
func (l *Lease) EngineID() string { return l.entry.id() }

// Version is the version of the engine's software.
func (l *Lease) Version() string { return l.entry.identity.Version }

// Done is closed when the engine is gone; Err says then why.
func (l *Lease) Done() <-chan struct{} { return l.entry.gone }

// Err returns why the engine is gone, wrapping engines.ErrLost, or nil while it is there.
func (l *Lease) Err() error {
	select {
	case <-l.entry.gone:
		return l.entry.err
	default:
		return nil
	}
}

// News passes on what happens to the engine, in words for its users, until the returned function is called.
func (l *Lease) News(report func(string)) (stop func()) {
	l.entry.mu.Lock()
	defer l.entry.mu.Unlock()
	return l.entry.add(l.entry.users, report)
}

// Draining says that the engine will be ended once nobody uses it: whoever can go on with another one should.
func (l *Lease) Draining() bool {
	l.owner.mu.Lock()
	defer l.owner.mu.Unlock()
	return l.entry.draining
}

// Release gives the engine back. An engine without a lease idles out.
func (l *Lease) Release() { l.once.Do(func() { l.owner.release(l.entry) }) }

// Acquire returns a lease on an engine of the key, starting one if there is none. The start belongs to the launcher:
// a caller that goes away leaves it to the others. report is told in words what is being waited for.
func (l *Launcher) Acquire(ctx context.Context, req Request, report func(string)) (*Lease, error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for {
		e, err := l.entry(req)
		if err != nil {
			return nil, err
		}
		err = l.take(ctx, e, report)
		if err == nil {
			return &Lease{entry: e, owner: l}, nil
		}
		l.disuse(e)
		switch {
		case errors.Is(err, ErrFull):
			l.full(e)
		case errors.Is(err, ErrNotClaimed):
			l.unclaimed(e) // it was given up a moment ago: there will be another one
		default:
			return nil, err
		}
	}
}

// take waits for an engine and holds it.
func (l *Launcher) take(ctx context.Context, e *entry, report func(string)) error {
	defer e.listen(report)()
	select {
	case <-e.ready:
	case <-e.gone:
		if e.isReady() { // it has ended just now, and nothing was asked of it
			return fmt.Errorf("%w: %w", ErrNotClaimed, e.err)
		}
		return e.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := l.hold(ctx, e); err != nil {
		return fmt.Errorf("take engine %s: %w", e.id(), err)
	}
	return nil
}

// entry finds an engine of the key or begins to get one; the caller has a use of it.
func (l *Launcher) entry(req Request) (*entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	best, err := l.best(req)
	if err != nil {
		return nil, err
	}
	best.uses++
	return best, nil
}

// best is the engine of the pool with the fewest users here. When all of them are full there are more behind the pool, as
// many as are needed.
func (l *Launcher) best(req Request) (best *entry, err error) {
	for slot := 0; ; slot++ {
		if slot >= max(1, req.Pool) && best != nil {
			return best, nil
		}
		e := l.byPlace[place{req.Key, slot}]
		switch {
		case e == nil && (best == nil || slot >= req.Pool):
			return l.begin(req, slot)
		case e != nil && !e.full && (best == nil || e.better(best)):
			best = e
		}
	}
}

// begin makes an entry for a place that has none, and gets its engine in the background. The caller holds l.mu.
func (l *Launcher) begin(req Request, slot int) (*entry, error) {
	cluster, ok := l.opt.Clusters[req.Key.Cluster]
	if !ok {
		return nil, fmt.Errorf("there is no cluster %q", req.Key.Cluster)
	}
	driver, ok := l.opt.Drivers[req.Key.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no driver for engines of kind %q", req.Key.Kind)
	}
	if l.closed {
		return nil, errors.New("the gateway is stopping")
	}
	e := newEntry(place{req.Key, slot}, cluster, driver)
	l.byPlace[e.place] = e
	l.wait.Go(func() { l.bring(e, req) })
	return e, nil
}

// hold tells the store that an engine gets one more session here. For an engine that takes any number, and has one, there
// is nothing to tell.
func (l *Launcher) hold(ctx context.Context, e *entry) error {
	e.holding.Lock()
	defer e.holding.Unlock()
	max := e.identity.MaxSessions
	if e.held == 0 || max > 0 {
		if err := l.opt.Store.Hold(ctx, e.id(), e.held+1, max); err != nil {
			return err
		}
		e.held++
	}
	e.leases.Add(1)
	e.used = true
	return nil
}

// disuse takes back a use of an engine.
func (l *Launcher) disuse(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.uses--
	e.idleSince = time.Now()
}

func (l *Launcher) release(e *entry) {
	e.leases.Add(-1)
	l.disuse(e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && (e.place.key.Level == Connection || e.identity.MaxSessions > 0) {
		l.wait.Go(func() { l.settle(e) }) // others wait for the next round, in case somebody comes back
	}
}

// settle tells the store of sessions that have gone, and ends an engine that nobody else can ever want.
func (l *Launcher) settle(e *entry) {
	e.holding.Lock()
	left := int(e.leases.Load())
	if e.held > left && (left == 0 || e.identity.MaxSessions > 0) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), storeLimit)
		if err := l.opt.Store.Hold(ctx, e.id(), left, 0); err == nil {
			e.held = left
		} // otherwise the next round tries again
		cancel()
	}
	over := e.used && e.held == 0 // one that was taken over may still be asked for by its session
	e.holding.Unlock()
	l.mu.Lock()
	e.full = false
	unused := e.uses == 0
	l.mu.Unlock()
	if over && unused && e.place.key.Level == Connection && e.isReady() {
		l.retire(e, fmt.Errorf("%w: its session ended", engines.ErrLost), new(time.Duration))
	}
}

// full passes an engine over until somebody has left it.
func (l *Launcher) full(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.full = true
}

// unplace takes an entry out of its place, if it is the one there. The caller holds l.mu.
func (l *Launcher) unplace(e *entry) {
	if l.byPlace[e.place] == e {
		delete(l.byPlace, e.place)
	}
}

// unclaimed takes an engine out of those that are to be had. Who has it keeps it.
func (l *Launcher) unclaimed(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unplace(e)
	if !e.draining {
		e.draining, e.drainSince = true, time.Now()
	}
}

// token derives an engine's secret, so that any gateway with the master secret can reach any engine.
func (l *Launcher) token(id string) string {
	mac := hmac.New(sha256.New, l.opt.Secret)
	mac.Write([]byte("engine:" + id))
	return hex.EncodeToString(mac.Sum(nil))
}

// Ready are the places on which an engine of a key is ready to be had by somebody who would have to start one elsewhere;
// cluster and queue of the key do not count.
func (l *Launcher) Ready(key Key) (ready []Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, e := range l.byPlace {
		same := at.key
		same.Cluster, same.Queue = key.Cluster, key.Queue
		if same == key && at.slot == 0 && e.isReady() && !e.draining {
			ready = append(ready, at.key)
		}
	}
	return ready
}

// KeyOf is the key of an engine, live or ended, or ErrNotClaimed if there never was one.
func (l *Launcher) KeyOf(ctx context.Context, id string) (Key, error) {
	rec, err := l.opt.Store.Find(ctx, id)
	if err != nil {
		return Key{}, err
	}
	return ParseKey(rec.Key)
}

func (l *Launcher) snapshot() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*entry, 0, len(l.byID))
	for _, e := range l.byID {
		all = append(all, e)
	}
	return all
}

// Draining says whether there is an engine that ends once nobody uses it.
func (l *Launcher) Draining() bool {
	for _, e := range l.snapshot() {
		l.mu.Lock()
		draining := e.draining && e.uses > 0
		l.mu.Unlock()
		if draining {
			return true
		}
	}
	return false
}

// Counts tells how many engines there are in each state.
func (l *Launcher) Counts() (starting, ready, used int) {
	for _, e := range l.snapshot() {
		l.mu.Lock()
		inUse := e.uses > 0
		l.mu.Unlock()
		switch {
		case e.isGone():
		case e.isReady():
			ready++
			if inUse {
				used++
			}
		default:
			starting++
		}
	}
	return starting, ready, used
}

// DriverRoom is what the driver of an engine takes; nothing where its settings cannot be read, which its start will tell.
func (l *Launcher) DriverRoom(req Request) (room engines.Room) {
	memory := req.Memory
	if memory == "" {
		memory = l.opt.Memory
	}
	conf := req.Conf
	if len(l.opt.Conf) > 0 {
		conf = maps.Clone(l.opt.Conf)
		maps.Copy(conf, req.Conf)
	}
	heap, err := engines.Mebibytes(memory)
	if err != nil {
		return room
	}
	cores, err := engines.DriverCores(conf)
	if err != nil {
		return room
	}
	return engines.Room{Memory: int64(heap + engines.DriverOverhead(heap, conf, 0.1)), MilliCores: int64(cores) * 1000}
}
