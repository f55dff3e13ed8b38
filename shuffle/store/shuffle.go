package store

import (
	"net/url"
	"path"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Limits say when a shuffle's partitions are split, and what is kept beside their bytes.
type Limits struct {
	SplitThreshold int64 // bytes; 0 never splits
	HardSplit      bool  // a partition over the threshold takes no more, rather than asking for another one
	RangeFilter    bool  // commits answer with the map ids in each partition
}

// shuffle is what a worker has of one shuffle.
type shuffle struct {
	key, app string
	id       int32
	dir      string   // below each disk
	parts    sync.Map // copyID → *Partition
	bytes    atomic.Int64
	copies   atomic.Int32 // in parts

	mu       sync.Mutex
	user     *pb.UserIdentifier
	attempts []int32 // by map id: the attempt that won, or -1; nil before a commit said so
	commits  map[int64]*commit
	dropped  bool
}

// dirPrefix begins the name of every shuffle's directory, whatever an application calls itself.
const dirPrefix = "shuffle-"

// newShuffle is a shuffle whose directory no other ever had: removing an old one's never touches it.
func (s *Store) newShuffle(key string, user *pb.UserIdentifier, dir string) (*shuffle, error) {
	app, id, err := wire.ParseShuffleKey(key)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		name := url.PathEscape(key)
		dir = dirPrefix + strconv.FormatInt(s.names.Add(1), 10) + "-" + name[max(0, len(name)-128):]
	}
	return &shuffle{key: key, app: app, id: id, dir: dir, user: user, commits: map[int64]*commit{}}, nil
}

func (s *Store) shuffle(key string) *shuffle {
	if v, ok := s.shuffles.Load(key); ok {
		return v.(*shuffle)
	}
	return nil
}

// Reserve makes room for copies of partitions. A copy that is there stays as it is. On an error nothing is made.
func (s *Store) Reserve(key string, user *pb.UserIdentifier, limits Limits, locations []wire.Location) error {
	if s.draining.Load() {
		return ErrDraining
	}
	for {
		sh := s.shuffle(key)
		if sh == nil {
			fresh, err := s.newShuffle(key, user, "")
			if err != nil {
				return err
			}
			v, _ := s.shuffles.LoadOrStore(key, fresh)
			sh = v.(*shuffle)
		}
		if again, err := s.reserveIn(sh, user, limits, locations); !again {
			return err
		}
	}
}

// reserveIn reserves in a shuffle, unless that was dropped meanwhile.
func (s *Store) reserveIn(sh *shuffle, user *pb.UserIdentifier, limits Limits, locations []wire.Location) (again bool, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.dropped {
		return true, nil
	}
	disks := make([]*disk, len(locations))
	for i := range locations { // before anything is made
		if disks[i] = s.pick(nil); disks[i] == nil {
			for _, d := range disks[:i] {
				d.placed.Add(-1)
			}
			if sh.empty() {
				s.shuffles.CompareAndDelete(sh.key, sh)
				sh.dropped = true
			}
			return false, ErrNoDisk
		}
		disks[i].placed.Add(1)
	}
	if user != nil {
		sh.user = user
	}
	for i, l := range locations {
		p := &Partition{copyID: copyID{PartitionID: l.PartitionID, mode: l.Mode}, shuffle: sh, store: s, peer: l.Peer, limits: limits, disk: disks[i]}
		if limits.RangeFilter {
			p.maps = roaring.New()
		}
		if _, there := sh.parts.LoadOrStore(p.copyID, p); there {
			disks[i].placed.Add(-1)
		} else {
			sh.copies.Add(1)
		}
	}
	return false, nil
}

func (sh *shuffle) empty() bool { return sh.copies.Load() == 0 }

// Missing says why there is no partition to append to.
type Missing int

const (
	// Unknown says that nothing is known of the shuffle here.
	Unknown Missing = iota
	// Ended says that the map task has ended, by what a commit said.
	Ended
	// Elsewhere says that the data must go to another partition.
	Elsewhere
)

// Find is a copy of a partition, if there is one.
func (s *Store) Find(key string, id wire.PartitionID, mode byte) (*Partition, bool) {
	if sh := s.shuffle(key); sh != nil {
		if v, ok := sh.parts.Load(copyID{PartitionID: id, mode: mode}); ok {
			return v.(*Partition), true
		}
	}
	return nil, false
}

// Why says why a push of that map task is not taken: there is no such partition, or it is sealed.
func (s *Store) Why(key string, mapID int32) Missing {
	sh := s.shuffle(key)
	if sh == nil {
		return Unknown
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case sh.attempts == nil && sh.empty():
		return Unknown
	case sh.attempts == nil:
		return Elsewhere
	case mapID >= 0 && int(mapID) < len(sh.attempts) && sh.attempts[mapID] != -1:
		return Ended
	}
	return Elsewhere
}

// Destroy removes copies of partitions.
func (s *Store) Destroy(key string, primaries, replicas []wire.PartitionID) {
	sh := s.shuffle(key)
	if sh == nil {
		return
	}
	remove := func(ids []wire.PartitionID, mode byte) {
		for _, id := range ids {
			if v, ok := sh.parts.LoadAndDelete(copyID{PartitionID: id, mode: mode}); ok {
				p := v.(*Partition)
				sh.copies.Add(-1)
				p.destroy()
				sh.bytes.Add(-p.Length())
				p.mu.Lock()
				p.removeFiles()
				p.mu.Unlock()
			}
		}
	}
	remove(primaries, wire.Primary)
	remove(replicas, wire.Replica)
}

// removeFiles has the files of a destroyed partition removed that are its alone; its lock is held.
func (p *Partition) removeFiles() {
	if p.flushes {
		return // comes back when the flush ended
	}
	for _, e := range p.extents {
		if e.file != nil && !e.file.shared() {
			e.file.disk.push(&removal{path: e.file.path})
		}
	}
	p.extents = nil
}

// Drop removes a shuffle: its application has ended, or needs it no longer.
func (s *Store) Drop(key string) {
	v, ok := s.shuffles.LoadAndDelete(key)
	if !ok {
		return
	}
	sh := v.(*shuffle)
	sh.mu.Lock()
	sh.dropped = true
	sh.mu.Unlock()
	sh.parts.Range(func(_, v any) bool {
		v.(*Partition).destroy()
		return true
	})
	s.streams.drop(sh)
	sh.remove(s)
}

// remove has the shuffle's directories removed.
func (sh *shuffle) remove(s *Store) {
	for _, d := range s.disks {
		d.push(&removal{path: path.Join(d.path, sh.dir)})
	}
}

// swept is called after a file was made in the shuffle's directory: if the shuffle was dropped meanwhile, that is removed again.
func (sh *shuffle) swept(s *Store) {
	sh.mu.Lock()
	dropped := sh.dropped
	sh.mu.Unlock()
	if dropped {
		sh.remove(s)
	}
}

// removal removes a file, or a shuffle's directory.
type removal struct{ path string }

func (r *removal) write(d *disk) {
	if err := d.fs.RemoveAll(r.path); err != nil {
		d.store.log.Warn("shuffle data could not be removed; it is tried again when the disk works", "path", r.path, "err", err)
		d.failed(err)
		d.mu.Lock()
		d.again = append(d.again, r)
		d.mu.Unlock()
	}
}
