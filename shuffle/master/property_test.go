package master

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// world is what is really so: workers with what they hold, drivers with what they need. It speaks to a master as both do, with
// messages late, repeated and lost, and checks what the master says against what it knows.
type world struct {
	t       *testing.T
	r       *rand.Rand
	now     time.Time
	s       *State
	started time.Time

	workers []*simWorker
	drivers map[string]*driver
	next    int
	trace   []string
}

type simWorker struct {
	hb      *pb.HeartbeatFromWorker
	up      bool
	linked  bool // the master has heard of it since its connection last ended
	spoke   time.Time
	holds   map[shuffleRef]bool
	restart int
}

type driver struct {
	id    string
	spoke time.Time
	over  bool           // it said so, or crashed
	needs map[int32]bool // shuffles that it has and did not unregister
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 2)), now: t0, drivers: map[string]*driver{}}
	w.restartMaster()
	for i := range 2 + w.r.IntN(6) {
		host := i
		if w.r.IntN(3) == 0 {
			host = i / 2
		}
		hb := beat(host, func(hb *pb.HeartbeatFromWorker) { hb.RpcPort = int32(10 + i) })
		w.workers = append(w.workers, &simWorker{hb: hb, up: true, holds: map[shuffleRef]bool{}})
	}
	return w
}

func (w *world) restartMaster() {
	w.s, w.started = New(w.now, Options{}), w.now
	for _, k := range w.workers {
		k.linked = false
	}
}

func (w *world) driverIDs() []string {
	var ids []string
	for id := range w.drivers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.r.IntN(400)) * time.Millisecond)
	switch n := w.r.IntN(100); {
	case n < 50:
		for _, k := range w.workers {
			if w.r.IntN(4) > 0 {
				w.beat(k)
			}
		}
	case n < 60:
		w.driverSpeaks()
	case n < 75:
		w.request()
	case n < 80:
		w.unregister()
	case n < 83:
		w.finish()
	case n < 90:
		w.faults()
	default:
		w.s.Tick(w.now)
	}
}

func (w *world) faults() {
	k := w.workers[w.r.IntN(len(w.workers))]
	switch w.r.IntN(6) {
	case 0: // a worker dies
		w.cut(k)
		k.up = false
		w.trace = append(w.trace, "down "+idOf(k.hb).String())
	case 1: // it comes back empty
		w.cut(k)
		k.restart++
		k.hb.Incarnation, k.up = fmt.Sprint("life ", k.restart), true
		clear(k.holds)
	case 2:
		k.hb.Draining = !k.hb.Draining
	case 3:
		k.hb.Disks[0].UsableSpace = []int64{0, gib, 1000 * gib}[w.r.IntN(3)]
	case 4:
		w.restartMaster()
		w.trace = append(w.trace, "master restarts")
	case 5: // a long time without this driver or that
		w.now = w.now.Add(time.Duration(w.r.IntN(5)) * time.Second)
	}
}

func (w *world) cut(k *simWorker) {
	if k.linked {
		w.s.WorkerGone(w.now, idOf(k.hb), k.hb.Incarnation)
		k.linked = false
	}
}

// beat is a worker's heartbeat, and what it is told to delete: nothing that a living driver needs.
func (w *world) beat(k *simWorker) {
	if !k.up {
		return
	}
	k.hb.Shuffles = nil
	refs := make([]shuffleRef, 0, len(k.holds))
	for ref := range k.holds {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b shuffleRef) int { return slices.Compare([]byte(a.key()), []byte(b.key())) })
	for _, ref := range refs {
		if w.r.IntN(20) > 0 { // a partial report
			holds(ref.app, ref.id, int64(w.r.IntN(1000)))(k.hb)
		}
	}
	hb := *beat(0)
	hb.Host, hb.RpcPort, hb.Incarnation, hb.Draining, hb.Shuffles = k.hb.Host, k.hb.RpcPort, k.hb.Incarnation, k.hb.Draining, k.hb.Shuffles
	hb.Disks = []*pb.DiskInfo{{UsableSpace: k.hb.Disks[0].UsableSpace, TotalSpace: 2000 * gib}}
	out := w.s.WorkerHeartbeat(w.now, &hb)
	require.True(w.t, out.Registered, "%v", w.trace)
	k.linked, k.spoke = true, w.now
	for _, key := range out.ExpiredShuffleKeys {
		app, id, err := wire.ParseShuffleKey(key)
		require.NoError(w.t, err)
		d := w.drivers[app]
		if live := !d.over && w.now.Sub(d.spoke) < 300*time.Second; live {
			require.False(w.t, d.needs[id], "%s is needed and a worker was told to delete it: %v", key, w.trace)
		}
		delete(k.holds, shuffleRef{app, id})
	}
}

func (w *world) driverSpeaks() {
	for _, id := range w.driverIDs() {
		d := w.drivers[id]
		if d.over && w.r.IntN(10) > 0 { // a late message of one that is over
			continue
		}
		out := heartbeat(w.s, w.now, id)
		require.True(w.t, out.CheckQuotaResponse.Available)
		if !d.over {
			d.spoke = w.now
		}
		for _, info := range out.UnknownWorkers {
			require.Fail(w.t, "nobody asked", "%v", info)
		}
	}
}

func (w *world) request() {
	id := fmt.Sprint("app-", w.r.IntN(4), "-", w.next/40)
	w.next++
	d := w.drivers[id]
	if d == nil {
		d = &driver{id: id, needs: map[int32]bool{}}
		w.drivers[id] = d
	}
	if d.over {
		return
	}
	shuffle := int32(w.r.IntN(8) + w.next*8)
	m := ask(id, shuffle, w.r.IntN(20))
	m.ShouldReplicate = w.r.IntN(2) == 0
	if w.r.IntN(4) == 0 {
		m.MaxWorkers = int32(1 + w.r.IntN(4))
	}
	d.spoke = w.now
	out := w.s.RequestSlots(w.now, m)
	if w.r.IntN(10) == 0 {
		out = w.s.RequestSlots(w.now, m)
	}
	if out.Status != int32(wire.Success) {
		require.Equal(w.t, int32(wire.SlotNotAvailable), out.Status)
		return
	}
	d.needs[shuffle] = true
	w.check(m, out)
	for _, k := range w.workers {
		_, told := out.WorkerResource[idOf(k.hb).String()]
		if told && k.up && w.r.IntN(10) > 0 { // the driver may die before it reserves
			k.holds[shuffleRef{id, shuffle}] = true
		}
	}
}

func (w *world) worker(key string) *simWorker {
	i := slices.IndexFunc(w.workers, func(k *simWorker) bool { return idOf(k.hb).String() == key })
	require.GreaterOrEqual(w.t, i, 0, key)
	return w.workers[i]
}

// check holds an answer against the rules of placing.
func (w *world) check(m *pb.RequestSlots, out *pb.RequestSlotsResponse) {
	primary, replica := map[int32]string{}, map[int32]string{}
	counts := map[string]int{}
	for key, r := range out.WorkerResource {
		k := w.worker(key)
		last := w.s.workers[key].last
		require.True(w.t, k.linked, "%s is silent: %v", key, w.trace)
		require.LessOrEqual(w.t, w.now.Sub(k.spoke), 3*time.Second, key)
		require.False(w.t, last.Draining, key)
		require.NotZero(w.t, last.Disks[0].UsableSpace, key)
		for _, p := range r.PrimaryPartitions {
			require.NotContains(w.t, primary, p.Id)
			primary[p.Id] = key
			require.Equal(w.t, m.ShouldReplicate, p.Peer != nil)
		}
		for _, p := range r.ReplicaPartitions {
			require.NotContains(w.t, replica, p.Id)
			replica[p.Id] = key
		}
		counts[key] = len(r.PrimaryPartitions) + len(r.ReplicaPartitions)
	}
	require.Len(w.t, primary, len(m.PartitionIdList))
	if !m.ShouldReplicate {
		require.Empty(w.t, replica)
		return
	}
	require.Len(w.t, replica, len(m.PartitionIdList))
	for id, key := range primary {
		require.NotEqual(w.t, key, replica[id])
	}
}

func (w *world) unregister() {
	ids := w.driverIDs()
	if len(ids) == 0 {
		return
	}
	d := w.drivers[ids[w.r.IntN(len(ids))]]
	for shuffle := range d.needs {
		if d.over || shuffle%2 == 0 {
			continue
		}
		w.s.Unregister(w.now, &pb.UnregisterShuffle{AppId: d.id, ShuffleId: shuffle})
		d.spoke = w.now
		delete(d.needs, shuffle)
	}
}

func (w *world) finish() {
	ids := w.driverIDs()
	if len(ids) == 0 {
		return
	}
	d := w.drivers[ids[w.r.IntN(len(ids))]]
	if !d.over && w.r.IntN(2) == 0 {
		w.s.ApplicationLost(w.now, &pb.ApplicationLost{AppId: d.id})
	}
	d.over = true // or it crashed
	w.trace = append(w.trace, "over "+d.id)
}

// TestProperties: over random histories with restarts of everybody, nothing is placed on who cannot take it, every copy is
// placed once, and no worker is told to delete what a driver needs. In the end, nothing is left of applications that are over.
func TestProperties(t *testing.T) {
	for seed := range uint64(150) {
		w := newWorld(t, seed)
		for range 400 {
			w.step()
		}
		for _, d := range w.drivers {
			d.over = true
		}
		for i := range 3 * 300 { // leases end, after twice their time if it looks like our own fault
			w.now = w.now.Add(time.Second)
			w.s.Tick(w.now)
			for _, k := range w.workers {
				if k.up = true; i%10 == 0 {
					w.beat(k)
				}
			}
		}
		for _, k := range w.workers {
			for ref := range k.holds {
				require.Empty(t, ref, "seed %d: still there", seed)
			}
		}
		require.Empty(t, w.s.users, "seed %d", seed)
	}
}

// TestDeterministic: the same history gives the same answers.
func TestDeterministic(t *testing.T) {
	run := func() string {
		w := newWorld(t, 7)
		for range 500 {
			w.step()
		}
		return fmt.Sprint(w.s.Status(w.now), w.s.Counts())
	}
	first, second := run(), run()
	require.True(t, first == second)
}
