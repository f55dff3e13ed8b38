package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// A file is a row of records: the schema, the batches, and, once all rows are there, an end. It outlives a gateway that
// is killed, not a machine that is: nothing is synced. So a record is either whole or runs over the file's end, and a
// header is enough to know; the sum of what follows is looked at when it is read.
//
//	magic 3, kind 1, length of token 4, rows 8, length of payload 8, sum of payload 4, sum of header and token 4
//	token
//	payload: an Arrow IPC message; a batch is read behind the schema's
const (
	suffix     = ".rows"
	magic      = "SL1"
	headerSize = 32

	schemaRecord = 's'
	batchRecord  = 'b'
	endRecord    = 'e'
)

var sums = crc32.MakeTable(crc32.Castagnoli)

// file is what a spool asks of an open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
}

func openFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

// rowFile is the file of one spool. One writer appends; readers read what was appended before.
type rowFile struct {
	pool   *Pool
	name   string
	f      file
	end    int64        // the writer's
	buf    bytes.Buffer // the writer's
	schema []byte       // its IPC message

	size int64 // reserved in the pool, and guarded by it
	gone bool  // too
}

// span is where a batch lies.
type span struct {
	offset, length int64
	sum            uint32
}

// record is one record's header.
type record struct {
	kind  byte
	rows  int64
	token string
	at    span
}

func (p *Pool) path(name string) string { return filepath.Join(p.limits.Dir, name) }

// create makes the file of a spool. A leftover of the same name is overwritten.
func (p *Pool) create(name string, schema *arrow.Schema) (*rowFile, error) {
	p.mu.Lock()
	p.live[name] = true
	p.mu.Unlock()
	r := &rowFile{pool: p, name: name}
	f, err := p.open(p.path(name), os.O_CREATE|os.O_TRUNC|os.O_RDWR)
	if err != nil {
		r.remove()
		return nil, p.diskError(err)
	}
	r.f = f
	payload := ipc.GetSchemaPayload(schema, memory.DefaultAllocator)
	defer payload.Release()
	if _, err := r.append(record{kind: schemaRecord}, &payload); err != nil {
		r.remove()
		return nil, err
	}
	r.schema = bytes.Clone(r.buf.Bytes()[headerSize:])
	return r, nil
}

// remove closes and deletes the file, and gives its room back. It is called once.
func (r *rowFile) remove() {
	if r.f != nil {
		_ = r.f.Close()
	}
	_ = os.Remove(r.pool.path(r.name)) // what cannot be deleted is swept by the next gateway
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	r.gone = true
	r.pool.disk -= r.size
	delete(r.pool.live, r.name)
}

func (r *rowFile) appendBatch(b arrow.RecordBatch, token string) (span, error) {
	payload, err := ipc.GetRecordBatchPayload(b)
	if err != nil {
		return span{}, fmt.Errorf("spool a batch: %w", err)
	}
	defer payload.Release()
	return r.append(record{kind: batchRecord, rows: b.NumRows(), token: token}, &payload)
}

func (r *rowFile) append(rec record, payload *ipc.Payload) (span, error) {
	r.buf.Reset()
	r.buf.Write(make([]byte, headerSize))
	r.buf.WriteString(rec.token)
	body := r.buf.Len()
	if payload != nil {
		if _, err := payload.WritePayload(&r.buf); err != nil {
			return span{}, fmt.Errorf("spool a batch: %w", err)
		}
	}
	data := r.buf.Bytes()
	at := span{offset: r.end + int64(body), length: int64(len(data) - body), sum: crc32.Checksum(data[body:], sums)}
	copy(data, header(rec, at))
	binary.BigEndian.PutUint32(data[28:], crc32.Update(crc32.Checksum(data[:28], sums), sums, data[headerSize:body]))
	if err := r.pool.takeDisk(r, int64(len(data))); err != nil {
		return span{}, err
	}
	if _, err := r.f.WriteAt(data, r.end); err != nil {
		return span{}, r.pool.diskError(err)
	}
	r.end += int64(len(data))
	return at, nil
}

// header is everything but the header's own sum.
func header(rec record, at span) []byte {
	h := append([]byte(magic), rec.kind)
	h = binary.BigEndian.AppendUint32(h, uint32(len(rec.token)))
	h = binary.BigEndian.AppendUint64(h, uint64(rec.rows))
	h = binary.BigEndian.AppendUint64(h, uint64(at.length))
	return binary.BigEndian.AppendUint32(h, at.sum)
}

// finish says that all rows are there, and lets go of what only a writer needs. A file without an end is no fault of
// the result: at worst it is lost with a gateway that is killed, which is what the next one says then.
func (r *rowFile) finish() {
	_, _ = r.append(record{kind: endRecord}, nil)
	r.buf = bytes.Buffer{}
}

func (r *rowFile) read(at span) (arrow.RecordBatch, error) {
	data, err := r.bytes(at)
	if err != nil {
		return nil, err
	}
	in, err := ipc.NewReader(io.MultiReader(bytes.NewReader(r.schema), bytes.NewReader(data)))
	if err != nil {
		return nil, r.pool.diskError(err)
	}
	defer in.Release()
	if !in.Next() {
		return nil, r.pool.diskError(fmt.Errorf("%s holds no batch at byte %d: %w", r.name, at.offset, in.Err()))
	}
	b := in.RecordBatch()
	b.Retain()
	return b, nil
}

func (r *rowFile) bytes(at span) ([]byte, error) {
	data := make([]byte, at.length)
	if _, err := r.f.ReadAt(data, at.offset); err != nil {
		return nil, r.pool.diskError(fmt.Errorf("read %s: %w", r.name, err))
	}
	if crc32.Checksum(data, sums) != at.sum {
		return nil, r.pool.diskError(fmt.Errorf("%s is damaged at byte %d", r.name, at.offset))
	}
	return data, nil
}

// found is what a file holds.
type found struct {
	schema   *arrow.Schema
	parts    []part
	complete bool
}

// reopen reads the headers of a file and cuts off a record that is not whole.
func (p *Pool) reopen(name string) (_ *rowFile, in found, err error) {
	r := &rowFile{pool: p, name: name}
	if r.f, err = p.open(p.path(name), os.O_RDWR); err != nil {
		return nil, in, err
	}
	info, err := r.f.Stat()
	if err == nil {
		err = r.scan(info.Size(), &in)
	}
	if err == nil {
		err = r.f.Truncate(r.end)
	}
	if err != nil {
		_ = r.f.Close()
		return nil, in, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[name] = true
	r.size = r.end
	p.disk += r.size // it is there, whatever the limits are by now
	return r, in, nil
}

func (r *rowFile) scan(size int64, in *found) error {
	for !in.complete {
		rec, err := r.header(size)
		if err != nil || rec == nil {
			return err
		}
		switch rec.kind {
		case schemaRecord:
			if r.schema, err = r.bytes(rec.at); err != nil {
				return err
			}
			s, err := ipc.NewReader(bytes.NewReader(r.schema))
			if err != nil {
				return err
			}
			in.schema = s.Schema()
			s.Release()
		case batchRecord:
			p := part{rows: rec.rows, token: rec.token, at: rec.at}
			if n := len(in.parts); n > 0 {
				p.first = in.parts[n-1].first + in.parts[n-1].rows
			}
			in.parts = append(in.parts, p)
		case endRecord:
			in.complete = true
		}
		r.end = rec.at.offset + rec.at.length
	}
	return nil
}

// header reads the header at the end of what is known; nil means that no whole record lies there.
func (r *rowFile) header(size int64) (*record, error) {
	var h [headerSize]byte
	if size-r.end < headerSize {
		return nil, nil
	}
	if _, err := r.f.ReadAt(h[:], r.end); err != nil {
		return nil, err
	}
	token, length := int64(binary.BigEndian.Uint32(h[4:])), int64(binary.BigEndian.Uint64(h[16:]))
	left := size - r.end - headerSize
	if string(h[:3]) != magic || token > left || length < 0 || length > left-token {
		return nil, nil
	}
	text := make([]byte, token)
	if _, err := r.f.ReadAt(text, r.end+headerSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if binary.BigEndian.Uint32(h[28:]) != crc32.Update(crc32.Checksum(h[:28], sums), sums, text) {
		return nil, nil
	}
	return &record{kind: h[3], rows: int64(binary.BigEndian.Uint64(h[8:])), token: string(text),
		at: span{offset: r.end + headerSize + token, length: length, sum: binary.BigEndian.Uint32(h[24:])}}, nil
}
