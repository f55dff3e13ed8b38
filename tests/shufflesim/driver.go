package shufflesim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// driver is an application: it runs shuffles one after another, as Celeborn's lifecycle manager and Spark do.
type driver struct {
	s         *Sim
	app       string
	replicate bool
	shuffles  []*shuffle
	next      int32
	excluded  map[wire.WorkerID]time.Time // until when
	rpcs      map[wire.WorkerID]*conn
	dead      bool      // it vanished
	over      bool      // it ended
	spoke     time.Time // when the master last heard of it
}

// location is one epoch of a partition.
type location struct {
	id        wire.PartitionID
	on        [2]*node // primary, and replica or nil
	life      [2]int   // in which it was reserved
	kills     [2]int   // of the node at that time
	served    [2]bool  // committed there
	failed    [2]bool  // the commit there said so, or nothing
	cut       [2]bool  // nobody could be asked
	committed bool     // asked for
	settled   bool
	lost      bool
}

// shuffle is one try of a stage.
type shuffle struct {
	d       *driver
	id      int32
	key     string
	limits  store.Limits
	spare   []*node // that the master told of
	all     []*location
	latest  []*location // by partition
	revives map[int32]*revival
	winner  []int32                         // by map; -1
	wrote   map[[2]int32]map[int32][][]byte // by map and attempt: by partition its batches
	epoch   int64
	needed  bool // neither unregistered nor its application gone
	failure string
}

type revival struct {
	then []func(*location)
}

func (s *Sim) newDriver(i int) *driver {
	d := &driver{s: s, app: fmt.Sprint("app-", i), replicate: s.r.IntN(3) > 0, excluded: map[wire.WorkerID]time.Time{}, rpcs: map[wire.WorkerID]*conn{}, spoke: s.now}
	s.spawn(d.heartbeats)
	s.spawn(d.job)
	return d
}

func (d *driver) heartbeats(p *proc) {
	for !d.dead && !d.over {
		d.ask(p, func() {
			out := d.s.master.ApplicationHeartbeat(d.s.now, &pb.HeartbeatFromApplication{AppId: d.app, ShouldResponse: true})
			for _, w := range out.GetExcludedWorkers() {
				d.exclude(d.s.node(wire.WorkerOf(w)), "the master says so")
			}
		})
		p.sleep(10 * time.Second)
	}
}

// ask speaks to the master; again, until it is there.
func (d *driver) ask(p *proc, f func()) {
	for !d.dead {
		p.sleep(d.s.between(0, 5*time.Millisecond))
		if d.s.master != nil && !d.dead {
			f()
			d.spoke = d.s.now
			return
		}
		p.sleep(500 * time.Millisecond)
	}
}

func (d *driver) rpc(n *node) *conn {
	c := d.rpcs[n.id]
	if c == nil {
		c = &conn{s: d.s, to: n}
		d.rpcs[n.id] = c
	}
	return c
}

func (d *driver) usable(n *node) bool { return !d.s.now.Before(d.excluded[n.id]) }

func (d *driver) exclude(n *node, why string) {
	d.s.log("%s excludes %s: %s", d.app, n.name, why)
	d.excluded[n.id] = d.s.now.Add(20 * time.Second)
}

// job runs some stages, each until its partitions were read.
func (d *driver) job(p *proc) {
	for range 1 + d.s.r.IntN(3) {
		done := false
		for try := 0; try < 8 && !done && !d.dead; try++ {
			sh := d.newShuffle()
			done = sh.stage(p)
			if !done {
				d.s.log("%s is run again: %s", sh.key, sh.failure)
				p.sleep(d.s.between(time.Second, 5*time.Second))
			}
			if !d.dead && (done || d.s.chance(500)) {
				d.ask(p, func() {
					sh.needed = false
					d.s.master.Unregister(d.s.now, &pb.UnregisterShuffle{AppId: d.app, ShuffleId: sh.id})
				})
			}
		}
		if !done && !d.dead {
			d.s.Failed = append(d.s.Failed, d.app+": "+d.shuffles[len(d.shuffles)-1].failure)
			break
		}
	}
	if !d.dead {
		d.ask(p, func() {
			for _, sh := range d.shuffles {
				sh.needed = false
			}
			d.s.master.ApplicationLost(d.s.now, &pb.ApplicationLost{AppId: d.app})
		})
	}
	d.over = true
}

func (d *driver) newShuffle() *shuffle {
	sh := &shuffle{d: d, id: d.next, key: wire.ShuffleKey(d.app, d.next), revives: map[int32]*revival{}, wrote: map[[2]int32]map[int32][][]byte{}, needed: true}
	d.next++
	sh.limits = store.Limits{SplitThreshold: int64(1000 << d.s.r.IntN(6)), HardSplit: d.s.r.IntN(2) == 0}
	d.shuffles = append(d.shuffles, sh)
	return sh
}

func (sh *shuffle) fail(format string, args ...any) bool {
	if sh.failure == "" {
		sh.failure = fmt.Sprintf(format, args...)
	}
	return false
}

// stage registers the shuffle, runs its maps, commits and reads it.
func (sh *shuffle) stage(p *proc) bool {
	partitions, maps := 1+sh.d.s.r.IntN(6), 1+sh.d.s.r.IntN(5)
	if !sh.register(p, partitions) {
		return false
	}
	sh.winner = slices.Repeat([]int32{-1}, maps)
	running := maps
	p.wait(func(wake func()) {
		for m := range maps {
			sh.d.s.spawn(func(q *proc) {
				sh.mapTask(q, int32(m))
				if running--; running == 0 {
					wake()
				}
			})
		}
	})
	if sh.d.dead {
		return sh.fail("the application vanished")
	}
	if slices.Contains(sh.winner, -1) {
		return sh.fail("a map task failed: %s", sh.failure)
	}
	if !sh.commitAll(p) {
		return false
	}
	rest := 3 * time.Second
	if sh.d.s.chance(300) { // others run first: workers may die and come back meanwhile
		rest = time.Minute
	}
	p.sleep(sh.d.s.between(0, rest))
	for part := range int32(partitions) {
		if !sh.read(p, part) {
			return false
		}
	}
	return true
}

// register asks for slots and reserves them; for pairs that cannot be reserved it chooses others.
func (sh *shuffle) register(p *proc, partitions int) bool {
	d, s := sh.d, sh.d.s
	ids := make([]int32, partitions)
	for i := range ids {
		ids[i] = int32(i)
	}
	m := &pb.RequestSlots{ApplicationId: d.app, ShuffleId: sh.id, PartitionIdList: ids, ShouldReplicate: d.replicate}
	for _, n := range s.nodes {
		if !d.usable(n) {
			m.ExcludedWorkerSet = append(m.ExcludedWorkerSet, n.id.Info())
		}
	}
	var out *pb.RequestSlotsResponse
	for try := 0; ; try++ { // as the master's server waits
		placed := false
		d.ask(p, func() {
			if placed = s.master.Settled(s.now) && s.master.CanPlace(s.now, m); placed || try == 10 {
				out = s.master.RequestSlots(s.now, m)
			}
		})
		if d.dead {
			return sh.fail("the application vanished")
		}
		if out != nil {
			break
		}
		p.sleep(time.Second)
	}
	if out.GetStatus() != 0 {
		return sh.fail("no slots")
	}
	sh.latest = make([]*location, partitions)
	for _, n := range s.nodes {
		r, ok := out.GetWorkerResource()[n.id.String()]
		if !ok {
			continue
		}
		sh.spare = append(sh.spare, n)
		for _, l := range r.GetPrimaryPartitions() {
			loc := sh.locate(l.GetId(), 0, n, nil)
			if peer := l.GetPeer(); peer != nil {
				loc.on[1] = s.node(wire.WorkerID{Host: peer.GetHost(), RPC: peer.GetRpcPort(), Push: peer.GetPushPort(), Fetch: peer.GetFetchPort(), Replicate: peer.GetReplicatePort()})
			}
			sh.latest[l.GetId()] = loc
		}
	}
	for try := 0; ; try++ {
		missing := sh.reserve(p, sh.latest)
		if len(missing) == 0 {
			sh.all = slices.Clone(sh.latest)
			return true
		}
		if try == 3 {
			return sh.fail("slots could not be reserved")
		}
		for _, l := range missing {
			fresh := sh.choose(l.id)
			if fresh == nil {
				return sh.fail("too few workers")
			}
			sh.latest[l.id.ID] = fresh
		}
	}
}

func (sh *shuffle) locate(part, epoch int32, primary, replica *node) *location {
	return &location{id: wire.PartitionID{ID: part, Epoch: epoch}, on: [2]*node{primary, replica}}
}

// choose places an epoch of a partition on workers that the driver does not avoid; nil if there are too few.
func (sh *shuffle) choose(id wire.PartitionID) *location {
	var can []*node
	for _, n := range sh.spare {
		if sh.d.usable(n) {
			can = append(can, n)
		}
	}
	sh.d.s.r.Shuffle(len(can), func(i, j int) { can[i], can[j] = can[j], can[i] })
	switch {
	case sh.d.replicate && len(can) >= 2:
		return sh.locate(id.ID, id.Epoch, can[0], can[1])
	case !sh.d.replicate && len(can) >= 1:
		return sh.locate(id.ID, id.Epoch, can[0], nil)
	}
	return nil
}

// reserve reserves locations that are not yet, and returns those that could not be. Of a pair that failed in part, the other copy
// is destroyed.
func (sh *shuffle) reserve(p *proc, all []*location) (missing []*location) {
	by := map[wire.WorkerID][]wire.Location{}
	for _, l := range all {
		for mode, n := range l.on {
			if n == nil || l.life[mode] > 0 {
				continue
			}
			at := wire.Location{PartitionID: l.id, Mode: byte(mode), Worker: n.id}
			if peer := l.on[1-mode]; peer != nil {
				at.Peer = &peer.id
			}
			by[n.id] = append(by[n.id], at)
		}
	}
	bad := map[wire.WorkerID]bool{}
	lives := map[wire.WorkerID][2]int{}
	for _, id := range sortedIDs(by) {
		n := sh.d.s.node(id)
		out, err := p.call(sh.d.rpc(n), twice(sh.d.s, func(n *node, answer func(any)) bool {
			err := n.store.Reserve(sh.key, nil, sh.limits, by[id])
			answer([]any{err, n.life, n.kills})
			return true
		}))
		var refused error
		if err == nil {
			r := out.([]any)
			refused, _ = r[0].(error)
			lives[id] = [2]int{r[1].(int), r[2].(int)}
		}
		if err != nil || refused != nil {
			bad[id] = true
			sh.d.exclude(n, fmt.Sprint("reserve: ", err, refused))
		}
	}
	for _, l := range all {
		broken := false
		for mode, n := range l.on {
			if n == nil || l.life[mode] > 0 {
				continue
			}
			if bad[n.id] {
				broken = true
			} else {
				l.life[mode], l.kills[mode] = lives[n.id][0], lives[n.id][1]
			}
		}
		if broken {
			missing = append(missing, l)
			sh.destroy(l)
		}
	}
	return missing
}

// destroy tells who has a copy of a location that is not used to forget it.
func (sh *shuffle) destroy(l *location) {
	for mode, n := range l.on {
		if n != nil && l.life[mode] > 0 {
			sh.d.rpc(n).send(func(n *node, answer func(any)) bool {
				ids := [2][]wire.PartitionID{}
				ids[mode] = []wire.PartitionID{l.id}
				n.store.Destroy(sh.key, ids[0], ids[1])
				return true
			}, func(any, error) {})
		}
	}
}

// twice sometimes delivers a request twice, as a client's retry does.
func twice(s *Sim, h handler) handler {
	if !s.chance(s.Faults.Duplicate) {
		return h
	}
	return func(n *node, answer func(any)) bool {
		life := n.life
		s.in(s.between(0, 100*time.Millisecond), func() {
			if n.up() && n.life == life {
				h(n, func(any) {})
			}
		})
		return h(n, answer)
	}
}

// revive asks for a new epoch of a partition; then gets it, or nil. Many who ask for the same get the same.
func (sh *shuffle) revive(old *location, cause string, then func(*location)) {
	d := sh.d
	if l := sh.latest[old.id.ID]; l.id.Epoch > old.id.Epoch {
		d.s.in(d.s.between(0, 5*time.Millisecond), func() { then(l) })
		return
	}
	if strings.Contains(cause, "_REPLICA") && old.on[1] != nil && !strings.Contains(cause, "NON_CRITICAL") {
		d.exclude(old.on[1], cause)
	} else if strings.Contains(cause, "_PRIMARY") && !strings.Contains(cause, "NON_CRITICAL") {
		d.exclude(old.on[0], cause)
	}
	if r := sh.revives[old.id.ID]; r != nil {
		r.then = append(r.then, then)
		return
	}
	r := &revival{then: []func(*location){then}}
	sh.revives[old.id.ID] = r
	d.s.spawn(func(p *proc) {
		var fresh *location
		for try := 0; try < 3 && fresh == nil; try++ {
			if fresh = sh.choose(wire.PartitionID{ID: old.id.ID, Epoch: old.id.Epoch + 1}); fresh == nil {
				break
			}
			if len(sh.reserve(p, []*location{fresh})) > 0 {
				fresh = nil
			}
		}
		delete(sh.revives, old.id.ID)
		if fresh != nil {
			sh.latest[old.id.ID] = fresh
			sh.all = append(sh.all, fresh)
			if cause == "HARD_SPLIT" {
				d.s.in(d.s.between(0, 5*time.Second), func() { d.s.spawn(func(q *proc) { sh.commit(q, []*location{old}) }) })
			}
		}
		for _, f := range r.then {
			f(fresh)
		}
	})
}
