package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/store/storepb"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// manifestName is the file in a shuffle's directory that says what was committed: records of a length, a CRC-32C and a
// storepb.Manifest. One that is cut short or does not sum up is the end of the file.
const manifestName = "manifest"

const recordHeader = 8

// note is what one disk is to be told of a commit. A commit does not fail if that fails: it is served until a restart.
type note struct {
	disk    *disk
	shuffle *shuffle
	record  *storepb.Manifest
	then    func() // may be nil
}

// notes are what is to be written down of partitions, beside their data: of those that are committed and on disks.
func (s *Store) notes(sh *shuffle, parts []*Partition) (out []*note) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.dropped {
		return nil
	}
	records := map[*disk]*storepb.Manifest{}
	for _, p := range parts {
		p.mu.Lock()
		if p.done && !p.gone && !slices.ContainsFunc(p.extents, func(e extent) bool { return e.file == nil }) {
			d := p.disk
			if records[d] == nil {
				records[d] = &storepb.Manifest{ShuffleKey: sh.key, Tenant: sh.user.GetTenantId(), User: sh.user.GetName(), MapAttempts: slices.Clone(sh.attempts)}
			}
			records[d].Partitions = append(records[d].Partitions, p.record())
		}
		p.mu.Unlock()
	}
	for _, d := range s.disks {
		if r := records[d]; r != nil {
			out = append(out, &note{disk: d, shuffle: sh, record: r})
		}
	}
	return out
}

// write implements job.
func (n *note) write(d *disk) {
	sh := n.shuffle
	if err := d.record(path.Join(d.path, sh.dir), n.record); err != nil {
		d.failed(err)
		d.store.log.Warn("what was committed could not be noted: it is served until this worker ends", "shuffle", sh.key, "disk", d.path, "err", err)
	}
	sh.swept(d.store)
	if n.then != nil {
		n.then()
	}
}

func (p *Partition) record() *storepb.Partition {
	out := &storepb.Partition{Id: p.ID, Epoch: p.Epoch, Mode: int32(p.mode), ChunkStarts: p.starts, Checksums: p.sums, Length: p.length}
	for _, e := range p.extents {
		out.Extents = append(out.Extents, &storepb.Extent{File: e.file.path, Offset: e.off, Length: e.length})
	}
	if p.maps != nil {
		out.MapIds, _ = p.maps.ToBytes()
	}
	return out
}

// record appends to the manifest in a directory.
func (d *disk) record(dir string, m *storepb.Manifest) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	d.noting.Lock()
	defer d.noting.Unlock()
	if err := d.fs.MkdirAll(dir); err != nil {
		return err
	}
	name := path.Join(dir, manifestName)
	f, err := d.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = d.fs.Create(name)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	end, err := f.Size()
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(payload, castagnoli))
	if err := f.WriteV([][]byte{head, payload}, end); err != nil {
		return errors.Join(err, f.Truncate(end)) // what follows a torn record would never be read
	}
	return nil
}

// readManifest reads the records of a manifest up to the first that is torn, which it cuts off.
func readManifest(fsys tier.FS, name string) ([]*storepb.Manifest, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	all := make([]byte, size)
	if n, err := f.ReadAt(all, 0); int64(n) < size && err != nil {
		return nil, err
	}
	var out []*storepb.Manifest
	good := int64(0)
	for b := all; ; b = all[good:] {
		m, n := parseRecord(b)
		if m == nil {
			break
		}
		out = append(out, m)
		good += int64(n)
	}
	if good < size {
		return out, f.Truncate(good)
	}
	return out, nil
}

func parseRecord(b []byte) (*storepb.Manifest, int) {
	if len(b) < recordHeader {
		return nil, 0
	}
	n, sum := int64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
	if n > int64(len(b)-recordHeader) {
		return nil, 0
	}
	payload := b[recordHeader : recordHeader+n]
	m := &storepb.Manifest{}
	if crc32.Checksum(payload, castagnoli) != sum || proto.Unmarshal(payload, m) != nil {
		return nil, 0
	}
	return m, recordHeader + int(n)
}

// adopt takes over what an earlier store has committed on these disks, and removes what it left unfinished.
func (s *Store) adopt() error {
	newest := map[string]string{} // key → its directory of the highest number
	type found struct {
		disk *disk
		dir  string
		m    []*storepb.Manifest
		torn error // why there may be more
	}
	var all []found
	for _, d := range s.disks {
		if d.left {
			continue
		}
		names, err := d.fs.List(d.path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if !strings.HasPrefix(name, dirPrefix) {
				continue
			}
			m, err := readManifest(d.fs, path.Join(d.path, name, manifestName))
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			if err != nil {
				s.log.Warn("a manifest could not be read: its shuffle is not served", "disk", d.path, "dir", name, "err", err)
			}
			all = append(all, found{disk: d, dir: name, m: m, torn: err})
			if len(m) > 0 && dirNumber(name) >= dirNumber(newest[m[0].GetShuffleKey()]) {
				newest[m[0].GetShuffleKey()] = name
			}
			s.names.Store(max(s.names.Load(), dirNumber(name)))
		}
	}
	keep := map[string]bool{}
	for _, f := range all {
		if len(f.m) > 0 && newest[f.m[0].GetShuffleKey()] == f.dir {
			s.adoptShuffle(f.disk, f.dir, f.m, keep)
		}
	}
	for _, f := range all { // after all manifests: a partition may go on on another disk
		if f.torn == nil { // what cannot be read now may be another time
			s.sweep(f.disk, f.dir, keep)
		}
	}
	return nil
}

func dirNumber(name string) int64 {
	number, _, _ := strings.Cut(strings.TrimPrefix(name, dirPrefix), "-")
	n, _ := strconv.ParseInt(number, 10, 64)
	return n
}

func (s *Store) adoptShuffle(d *disk, dir string, records []*storepb.Manifest, keep map[string]bool) {
	key := records[0].GetShuffleKey()
	sh := s.shuffle(key)
	if sh == nil {
		var err error
		if sh, err = s.newShuffle(key, &pb.UserIdentifier{TenantId: records[0].GetTenant(), Name: records[0].GetUser()}, dir); err != nil {
			return
		}
		s.shuffles.Store(key, sh)
	}
	for _, m := range records {
		sh.merge(m.GetMapAttempts())
		for _, c := range m.GetPartitions() {
			p, err := s.adoptPartition(sh, d, c)
			if err != nil {
				s.log.Warn("a committed partition is not served: its file is not as it was left", "shuffle", key, "partition", c.GetId(), "epoch", c.GetEpoch(), "err", err)
				continue
			}
			for _, e := range p.extents {
				keep[e.file.path] = true
			}
			keep[path.Join(d.path, dir)] = true
			if _, again := sh.parts.Swap(p.copyID, p); !again {
				d.placed.Add(1)
				sh.copies.Add(1)
				sh.bytes.Add(p.length)
			}
		}
	}
	if sh.empty() {
		s.shuffles.Delete(key)
	}
}

func (s *Store) adoptPartition(sh *shuffle, d *disk, c *storepb.Partition) (*Partition, error) {
	p := &Partition{
		copyID:  copyID{PartitionID: wire.PartitionID{ID: c.GetId(), Epoch: c.GetEpoch()}, mode: byte(c.GetMode())},
		shuffle: sh, store: s, disk: d, sealed: true, done: true,
		length: c.GetLength(), written: c.GetLength(), starts: c.GetChunkStarts(), sums: c.GetChecksums(),
	}
	for _, e := range c.GetExtents() {
		on := d
		if i := slices.IndexFunc(s.disks, func(o *disk) bool { return strings.HasPrefix(e.GetFile(), o.path+"/") }); i >= 0 {
			on = s.disks[i]
		}
		f, err := on.fs.Open(e.GetFile())
		if err != nil {
			return nil, err
		}
		size, err := f.Size()
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		if size < e.GetOffset()+e.GetLength() {
			return nil, io.ErrUnexpectedEOF
		}
		p.extents = append(p.extents, extent{file: &dataFile{disk: on, path: e.GetFile(), size: size}, off: e.GetOffset(), length: e.GetLength()})
	}
	if b := c.GetMapIds(); len(b) > 0 {
		p.maps = roaring.New()
		if err := p.maps.UnmarshalBinary(b); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// sweep removes what nobody needs of a directory.
func (s *Store) sweep(d *disk, dir string, keep map[string]bool) {
	at := path.Join(d.path, dir)
	names, err := d.fs.List(at)
	if err != nil {
		return
	}
	kept := keep[at]
	for _, n := range names {
		switch name := path.Join(at, n); {
		case keep[name]:
			kept = true
		case n == manifestName:
		default:
			_ = d.fs.RemoveAll(name)
		}
	}
	if !kept {
		_ = d.fs.RemoveAll(at)
	}
}
