package store

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/shuffle/tier"
)

// disk is one directory for data, the queue of what is to be written there, and how it fares.
type disk struct {
	store *Store
	path  string
	fs    tier.FS

	noRoom atomic.Bool // fuller than its reserve allows
	hung   atomic.Bool // a write does not come back
	placed atomic.Int64

	noting sync.Mutex // held while a manifest is written

	mu      sync.Mutex
	some    sync.Cond
	queue   []job
	again   []job               // removals that failed
	dirty   list.List           // of *Partition with pending bytes, the oldest first
	running map[int64]time.Time // when the writes began that have not ended
	started int64
	bad     error // why it is set aside
	left    bool  // for good
	healthy time.Time
	usable  int64
	total   int64
	mean    time.Duration // of a write, lately
	ended   bool
}

// job is something to write.
type job interface{ write(d *disk) }

func newDisk(s *Store, o Disk) *disk {
	d := &disk{store: s, path: strings.TrimSuffix(o.Path, "/"), fs: o.FS, running: map[int64]time.Time{}}
	d.some.L = &d.mu
	return d
}

func (d *disk) push(j job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(d.queue, j)
	d.some.Signal()
}

// first is push for what is small and waited for.
func (d *disk) first(j job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = slices.Insert(d.queue, 0, j)
	d.some.Signal()
}

// touched is a partition's place in the list of those with pending bytes.
type touched struct {
	disk *disk
	at   *list.Element
}

// touch notes that a partition has pending bytes: they are written when memory runs short.
func (d *disk) touch(p *Partition) touched {
	pressed := d.store.pressed()
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.dirty.PushBack(p)
	if pressed {
		d.some.Signal()
	}
	return touched{disk: d, at: at}
}

// end takes the partition off the list, where it would stay for as long as memory does not run short.
func (t *touched) end() {
	if t.at != nil {
		t.disk.mu.Lock()
		t.disk.dirty.Remove(t.at) // nothing if it was taken already
		t.disk.mu.Unlock()
		t.at = nil
	}
}

func (d *disk) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.some.Broadcast()
}

func (d *disk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	d.some.Broadcast()
}

// next is what to write now, in order of urgency: what is full or sealed, and, when memory runs short, what waited longest.
func (d *disk) next(wait bool) (job, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if len(d.queue) > 0 {
			j := d.queue[0]
			d.queue = d.queue[1:]
			return j, d.begin()
		}
		if e := d.dirty.Front(); e != nil && d.store.pressed() {
			return d.dirty.Remove(e).(*Partition), d.begin()
		}
		if d.ended || !wait {
			return nil, 0
		}
		d.some.Wait()
	}
}

func (d *disk) begin() int64 {
	d.started++
	d.running[d.started] = d.store.opts.Now()
	return d.started
}

// step writes one thing.
func (d *disk) step(wait bool) bool {
	j, n := d.next(wait)
	if j == nil {
		return false
	}
	j.write(d)
	d.mu.Lock()
	defer d.mu.Unlock()
	took := d.store.opts.Now().Sub(d.running[n])
	d.mean += (took - d.mean) / 16
	delete(d.running, n)
	return true
}

// full reports whether the disk takes no more new data.
func (d *disk) full() bool { return d.noRoom.Load() }

// hangs reports whether a write there does not come back.
func (d *disk) hangs() bool { return d.hung.Load() }

// failed notes what became of an operation on the disk.
func (d *disk) failed(err error) {
	switch {
	case err == nil || tier.IsTransient(err) || errors.Is(err, fs.ErrNotExist):
	case tier.IsFull(err):
		d.noRoom.Store(true)
	default:
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.bad == nil {
			d.store.log.Error("shuffle disk set aside", "disk", d.path, "err", err)
		}
		d.bad = err
	}
}

// leave leaves the disk out of everything.
func (d *disk) leave(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad, d.left = fmt.Errorf("it could not be used when this worker started, which must be started anew once that is repaired: %w", err), true
	d.store.log.Error("shuffle disk left out", "disk", d.path, "err", err)
}

// state is how the disk fares.
func (d *disk) state() DiskState {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := DiskState{Path: d.path, Usable: d.usable, Total: d.total, Partitions: d.placed.Load(), MeanWrite: d.mean}
	if d.bad != nil {
		out.Problem = d.bad.Error()
	} else if d.noRoom.Load() {
		out.Problem = fmt.Sprintf("full: %d bytes of %d are left", d.usable, d.total)
	}
	return out
}

// usableNow reports whether new partitions may go there.
func (d *disk) usableNow() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bad == nil && !d.noRoom.Load()
}

// look asks the disk itself: for its room, and whether it works again if it was set aside. It may hang, which watch sees.
func (d *disk) look(now time.Time) {
	d.mu.Lock()
	if d.left {
		d.mu.Unlock()
		return
	}
	n := d.begin()
	d.mu.Unlock()
	usable, total, err := d.fs.Space(d.path)
	if err != nil {
		d.failed(err)
	}
	d.mu.Lock()
	if err == nil {
		d.usable, d.total = usable, total
		d.noRoom.Store(usable < d.store.opts.Reserve)
	}
	bad := d.bad != nil && len(d.running) == 1
	d.mu.Unlock()
	if bad {
		d.probe(now)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, n)
	if d.bad == nil && len(d.again) > 0 {
		d.queue = append(d.queue, d.again...)
		d.again = nil
		d.some.Broadcast()
	}
}

// watch sees whether something hangs on the disk, and asks it nothing. It returns what waits to be written there if so: it must
// go elsewhere.
func (d *disk) watch(now time.Time) (stranded []job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, since := range d.running {
		if hangs := now.Sub(since); hangs > d.store.opts.SlowAfter {
			if d.bad == nil {
				d.store.log.Error("shuffle disk set aside: a write hangs", "disk", d.path, "for", hangs)
			}
			d.bad = fmt.Errorf("a write hangs since %s", hangs.Round(time.Second))
			d.healthy = time.Time{}
			d.hung.Store(true)
			return d.strand()
		}
	}
	d.hung.Store(false)
	return nil
}

// strand takes the partitions off the queues: they must go elsewhere. What concerns this disk itself stays. The lock is held.
func (d *disk) strand() (stranded []job) {
	kept := d.queue[:0:0]
	for _, j := range d.queue {
		switch j.(type) {
		case *Partition, *pack:
			stranded = append(stranded, j)
		default:
			kept = append(kept, j)
		}
	}
	d.queue = kept
	for e := d.dirty.Front(); e != nil; e = d.dirty.Front() {
		stranded = append(stranded, d.dirty.Remove(e).(*Partition))
	}
	return stranded
}

// probe writes, reads and removes a small file on a disk that was set aside; one that works for a while is taken again.
func (d *disk) probe(now time.Time) {
	err := d.try()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		d.bad, d.healthy = err, time.Time{}
	case d.healthy.IsZero():
		d.healthy = now
	case now.Sub(d.healthy) >= d.store.opts.SlowAfter:
		d.store.log.Info("shuffle disk works again", "disk", d.path)
		d.bad, d.healthy = nil, time.Time{}
	}
}

func (d *disk) try() error {
	name := path.Join(d.path, "probe")
	if err := d.fs.RemoveAll(name); err != nil {
		return err
	}
	f, err := d.fs.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.WriteV([][]byte{[]byte("sluice")}, 0); err != nil {
		return err
	}
	if _, err := f.ReadAt(make([]byte, 6), 0); err != nil {
		return err
	}
	return d.fs.RemoveAll(name)
}

// dataFile is a file with partitions' bytes. Its writer keeps it open as long as there are not too many.
type dataFile struct {
	disk *disk
	path string
	size int64 // bytes that count

	mu     sync.Mutex
	handle tier.File
	stamp  atomic.Int64 // of the file after our last write; 0 if that is not known
}

// shared reports whether the file is many partitions': a pack.
func (f *dataFile) shared() bool { return strings.HasPrefix(path.Base(f.path), packPrefix) }

// create makes a new file in a shuffle's directory on the disk.
func (d *disk) create(sh *shuffle, name string) (*dataFile, error) {
	dir := path.Join(d.path, sh.dir)
	if err := d.fs.MkdirAll(dir); err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		file := path.Join(dir, name)
		if n > 0 {
			file = fmt.Sprintf("%s.%d", file, n)
		}
		h, err := d.fs.Create(file)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d.store.open.Add(1)
		return &dataFile{disk: d, path: file, handle: h}, nil
	}
}

// append writes pieces at the file's end, and returns where that was. After an error the file is as it was.
func (f *dataFile) append(pieces []piece) (off int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle == nil {
		if f.handle, err = f.disk.fs.Open(f.path); err != nil {
			return 0, err
		}
		f.disk.store.open.Add(1)
	}
	bufs := make([][]byte, len(pieces))
	n := int64(0)
	for i, p := range pieces {
		bufs[i] = p.data
		n += int64(len(p.data))
	}
	off = f.size
	if err := f.handle.WriteV(bufs, off); err != nil {
		return 0, err
	}
	f.size += n
	if f.disk.store.open.Load() > f.disk.store.opts.OpenFiles {
		f.close()
	}
	return off, nil
}

// untouched reports whether bytes of the file, opened by a reader, have been in memory ever since they were written here, and
// nobody else has written the file.
func (f *dataFile) untouched(opened tier.File, off, n int64) bool {
	w, ok := opened.(tier.Witness)
	stamp := f.stamp.Load()
	if !ok || stamp == 0 {
		return false
	}
	now, err := w.Stamp()
	return err == nil && now == stamp && w.Cached(off, n)
}

// rest closes the file until it is needed again.
func (f *dataFile) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

func (f *dataFile) close() {
	if f.handle != nil {
		stamp := int64(0)
		if w, ok := f.handle.(tier.Witness); ok {
			stamp, _ = w.Stamp()
		}
		f.stamp.Store(stamp)
		_ = f.handle.Close() // what was written is the kernel's since WriteV returned
		f.handle = nil
		f.disk.store.open.Add(-1)
	}
}
