package shufflesim

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
	"github.com/sluicedata/sluice/shuffle/worker"
)

// node is a worker's machine: its disks stay when the worker dies.
type node struct {
	s     *Sim
	id    wire.WorkerID
	name  string
	store *store.Store // nil while it is down
	life  int
	disks []*faultyDisk
	conns []*conn
	peers map[wire.WorkerID]*conn
	busy  bool // a step is due
	blind bool // a disk did not work when it started
	dying bool // killed by an operation of a disk, and still on the stack

	kills int       // how often it died
	harms int       // how often something was done to its disks
	since time.Time // when it came up
	opts  store.Options
}

// faultyDisk outlives the worker's lives.
type faultyDisk struct {
	n     *node
	mem   *tier.Mem
	wrong string // how it fails now: "", full, broken, unreadable
}

func (s *Sim) newNode(i, disks int) *node {
	n := &node{s: s, id: wire.WorkerID{Host: fmt.Sprint("w", i), RPC: 1, Push: 2, Fetch: 3, Replicate: 4}, name: fmt.Sprint("w", i)}
	n.opts = store.Options{
		Memory: 128 << 10 << s.r.IntN(4), FlushSize: 512 << s.r.IntN(5), ChunkSize: 1 << 10 << s.r.IntN(4), Reserve: 2, Verify: s.r.IntN(4) > 0,
		OpenFiles: int64(1 + s.r.IntN(20)), Now: func() time.Time { return s.now },
	}
	for d := range disks {
		f := &faultyDisk{n: n, mem: tier.NewMem()}
		n.disks = append(n.disks, f)
		n.opts.Disks = append(n.opts.Disks, store.Disk{Path: fmt.Sprint("/d", d), FS: &tier.Faulty{FS: f.mem, Fail: f.fail}})
	}
	return n
}

func (f *faultyDisk) fail(op tier.Op, _ string) error {
	n := f.n
	if n.dying {
		return syscall.EIO // a dead process does nothing
	}
	if n.s.Faults.Crash > 0 && !n.s.settling && n.store != nil && n.s.chance(n.s.Faults.Crash) && n.s.mayKill(n) {
		n.s.log("%s dies in %s", n.name, op)
		n.dying = true
		n.s.in(0, n.kill)
		return syscall.EIO
	}
	switch {
	case f.wrong == "full" && op == tier.OpWrite:
		return syscall.ENOSPC
	case f.wrong == "broken" && op != tier.OpRead && op != tier.OpOpen && op != tier.OpList:
		return syscall.EIO
	case f.wrong == "unreadable" && (op == tier.OpRead || op == tier.OpOpen):
		return syscall.EIO
	}
	return nil
}

func (n *node) up() bool { return n.store != nil && !n.dying }

// start opens the worker's store, as a new incarnation.
func (n *node) start() {
	n.life++
	n.dying = false
	n.blind = slices.ContainsFunc(n.disks, func(d *faultyDisk) bool { return d.wrong == "unreadable" || d.wrong == "broken" })
	st, err := store.Open(n.opts)
	if err != nil { // a disk does not work: it is tried again
		n.s.log("%s does not start: %v", n.name, err)
		n.s.in(time.Second, n.start)
		return
	}
	st.Seed(n.s.r.Int64N(1 << 40))
	n.store, n.since = st, n.s.now
	n.peers = map[wire.WorkerID]*conn{}
	n.s.log("%s life %d holds %d shuffles", n.name, n.life, len(st.Held()))
	life := n.life
	n.s.in(n.s.between(0, time.Second), func() { n.tick(life) })
	n.kick()
}

// kill drops all that was in memory; the disks stay as they are.
func (n *node) kill() {
	if n.store == nil {
		return
	}
	n.s.log("%s dies", n.name)
	n.kills++
	n.store, n.dying = nil, false
	for _, c := range n.conns {
		c.reset()
	}
	n.conns = nil
	for _, id := range sortedIDs(n.peers) {
		n.peers[id].reset()
	}
	inc := n.incarnation()
	n.s.in(n.s.between(0, 5*time.Millisecond), func() {
		if n.s.master != nil {
			n.s.master.WorkerGone(n.s.now, n.id, inc)
		}
	})
	down := n.s.between(10*time.Millisecond, 5*time.Second)
	if n.s.chance(300) {
		down = n.s.between(5*time.Second, 60*time.Second)
	}
	n.s.in(down, n.start)
}

func (n *node) incarnation() string { return fmt.Sprint(n.name, "-", n.life) }

// kick has the store write what is to be written, one thing after another, each after a while.
func (n *node) kick() {
	if n.busy || !n.up() {
		return
	}
	n.busy = true
	life := n.life
	n.s.in(n.s.between(50*time.Microsecond, 10*time.Millisecond), func() {
		n.busy = false
		if n.up() && n.life == life && n.store.Step() {
			n.kick()
		}
	})
}

// tick is what a worker does every second.
func (n *node) tick(life int) {
	if n.life != life || !n.up() {
		return
	}
	n.store.Check()
	n.kick()
	n.beat(life)
	n.s.in(time.Second, func() { n.tick(life) })
}

// beat tells the master all, and deletes what it says.
func (n *node) beat(life int) {
	if !n.up() {
		return
	}
	hb := &pb.HeartbeatFromWorker{
		Host: n.id.Host, RpcPort: n.id.RPC, PushPort: n.id.Push, FetchPort: n.id.Fetch, ReplicatePort: n.id.Replicate,
		Shuffles: n.store.Held(), Incarnation: n.incarnation(),
		MemoryUsed: n.store.Memory(wire.Primary).Used(), MemoryLimit: n.store.Memory(wire.Primary).Limit(),
	}
	for _, d := range n.store.Disks() {
		i := &pb.DiskInfo{MountPoint: d.Path, UsableSpace: d.Usable, TotalSpace: d.Total}
		if d.Problem != "" {
			i.Status = 3
		}
		hb.Disks = append(hb.Disks, i)
	}
	n.s.in(n.s.between(0, 10*time.Millisecond), func() {
		if n.s.master == nil || n.life != life || n.s.chance(n.s.Faults.Reset) {
			return
		}
		out := n.s.master.WorkerHeartbeat(n.s.now, hb)
		n.s.in(n.s.between(0, 10*time.Millisecond), func() {
			if n.life != life || !n.up() {
				return
			}
			for _, key := range out.GetExpiredShuffleKeys() {
				n.s.expired(n, key)
				n.store.Drop(key)
			}
			n.kick()
		})
	})
}

// push is a push on its way. A merged one has several entries.
type push struct {
	mode    byte
	key     string
	ids     []wire.PartitionID
	batches [][]byte
	merged  bool
	waits   time.Time // for memory, since
	place   *store.Place
	left    bool // the place was left, or gave memory
}

func (p *push) size() (n int) {
	for _, b := range p.batches {
		n += len(b)
	}
	return n
}

// memoryTime is worker's.
const memoryTime = 30 * time.Second

// take is what the worker's push and replicate ports do, with the worker's own decisions.
func (p *push) take(n *node, answer func(any)) bool {
	st := n.store
	var part *store.Partition
	if !p.merged {
		part, _ = st.Find(p.key, p.ids[0], p.mode)
		verdict := store.Split
		if part != nil {
			verdict = part.Takes()
		}
		if verdict == store.Split {
			answer(worker.Refuse(st, p.key, part, wire.ParseBatchHeader(p.batches[0]).MapID).Answer)
			return true
		}
	}
	buf := p.memory(n)
	if buf == nil {
		if n.kick(); n.s.now.Sub(p.waits) < memoryTime && st.Writes() {
			return false
		}
		p.leave()
		answer(worker.Answer{Body: []byte{byte(wire.HardSplit)}})
		return true
	}
	defer buf.Release()
	m := &wire.MergedPush{Mode: p.mode}
	at := 0
	for i, b := range p.batches {
		m.Partitions, m.Offsets = append(m.Partitions, []byte(p.ids[i].String())), append(m.Offsets, int32(at))
		at += copy(buf.Bytes()[at:], b)
	}
	var d worker.Decision
	if p.merged {
		d = worker.TakeMerged(st, p.mode, p.key, m, buf)
	} else {
		d = worker.Take(st, p.mode, p.key, part, buf)
	}
	if d.Peer == nil {
		answer(d.Answer)
		return true
	}
	on := &push{mode: wire.Replica, key: p.key, ids: p.ids, batches: p.batches, merged: p.merged}
	n.peer(*d.Peer).send(on.take, func(out any, err error) {
		a, _ := out.(worker.Answer)
		switch {
		case errors.Is(err, errConnect):
			a = worker.Answer{Failure: wire.CreateConnectionReplica.String() + ": " + d.Peer.Host}
		case err != nil:
			a = worker.Answer{Failure: wire.ConnectionExceptionReplica.String() + ": " + d.Peer.Host}
		}
		answer(d.Combine(a))
	})
	return true
}

// memory is where the push goes, or nil if it must wait.
func (p *push) memory(n *node) *store.Buffer {
	m := n.store.Memory(p.mode)
	if p.place == nil {
		if buf := m.TryGet(p.size()); buf != nil {
			return buf
		}
		p.waits = n.s.now
		p.place = new(store.Place)
		*p.place = m.Queue(p.size())
		n.s.in(memoryTime+time.Second, p.leave) // also if the connection is gone by then
	}
	buf := p.place.Take()
	p.left = p.left || buf != nil
	return buf
}

func (p *push) leave() {
	if !p.left {
		p.left = true
		p.place.Leave()
	}
}

func (n *node) peer(id wire.WorkerID) *conn {
	c := n.peers[id]
	if c == nil {
		c = &conn{s: n.s, to: n.s.node(id)}
		n.peers[id] = c
	}
	return c
}

func (s *Sim) node(id wire.WorkerID) *node {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *node) bool { return n.id == id })]
}

func sortedIDs[V any](m map[wire.WorkerID]V) []wire.WorkerID {
	var out []wire.WorkerID
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b wire.WorkerID) int { return slices.Compare([]byte(a.String()), []byte(b.String())) })
	return out
}
