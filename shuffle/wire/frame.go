// Package wire is the protocol of Apache Celeborn's clients as bytes: frames, the RPC layer in its Java and its neutral form,
// messages and status codes. It knows no sockets. Its facts come from the sources of Celeborn 0.5.4, 0.6.3 and 0.7.0
// (common/.../network/protocol, common/.../rpc/netty) and from captures of both clients; testdata has them as golden bytes.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// FrameType says what a frame carries.
type FrameType byte

// The frames that Spark's clients and our own servers exchange.
const (
	ChunkFetchRequest FrameType = 0
	ChunkFetchSuccess FrameType = 1
	ChunkFetchFailure FrameType = 2
	RPCRequest        FrameType = 3
	RPCResponse       FrameType = 4
	RPCFailure        FrameType = 5
	OneWayMessage     FrameType = 9
	PushData          FrameType = 11
	PushMergedData    FrameType = 12
	Heartbeat         FrameType = 22
)

// HeaderSize is the length of what precedes every frame: int32 length of the message, its type, int32 length of the body.
const HeaderSize = 9

// MaxMessage bounds the encoded message of a frame, bytes: a merged push with a hundred thousand entries is still below. A peer
// that says more speaks another protocol.
const MaxMessage = 8 << 20

// Header precedes a frame's message and body.
type Header struct {
	Message int // bytes
	Type    FrameType
	Body    int // bytes
}

// ParseHeader reads the first HeaderSize bytes of a frame.
func ParseHeader(b []byte) (Header, error) {
	m, n := int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[5:]))
	if m < 0 || m > MaxMessage || n < 0 || m+n == 0 {
		return Header{}, fmt.Errorf("not a frame: message of %d bytes, type %d, body of %d bytes", m, b[4], n)
	}
	return Header{Message: int(m), Type: FrameType(b[4]), Body: int(n)}, nil
}

func appendHeader(b []byte, message int, t FrameType, body int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(message))
	b = append(b, byte(t))
	return binary.BigEndian.AppendUint32(b, uint32(body))
}

// readAhead is how much a Reader asks for at a frame's start: enough for the header and message of a push, and little enough that
// hardly anything of a body is copied twice.
const readAhead = 2 << 10

// maxTrust is how much memory a peer gets because a header says so; for more it has to send.
const maxTrust = 64 << 10

// Reader cuts a stream into frames. After Next the frame's body must be taken whole with ReadBody, or dropped with Discard,
// before Next is called again. It is for one goroutine.
type Reader struct {
	src        io.Reader
	buf        []byte
	start, end int
	body       int // bytes of the body that were not taken
}

// NewReader reads frames from src.
func NewReader(src io.Reader) *Reader { return &Reader{src: src, buf: make([]byte, readAhead)} }

// Buffered is how many bytes were read and not taken: with fewer than a header, Next will wait for the peer.
func (r *Reader) Buffered() int { return r.end - r.start }

// Next returns the next frame's header and message; the message is valid until the body is read. io.EOF is an end between frames.
func (r *Reader) Next() (Header, []byte, error) {
	if r.body > 0 {
		return Header{}, nil, errors.New("the body of the frame before was not read")
	}
	if err := r.need(HeaderSize); err != nil {
		return Header{}, nil, err
	}
	h, err := ParseHeader(r.buf[r.start:])
	if err != nil {
		return Header{}, nil, err
	}
	r.start += HeaderSize
	if err := r.need(h.Message); err != nil {
		return Header{}, nil, unexpected(err)
	}
	message := r.buf[r.start : r.start+h.Message]
	r.start += h.Message
	r.body = h.Body
	return h, message, nil
}

// need reads until n bytes are buffered.
func (r *Reader) need(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.start+n > len(r.buf) {
		to := r.buf
		if n > len(to) {
			to = make([]byte, max(len(to), min(n+readAhead, maxTrust)))
		} else if len(to) > 16*readAhead && n < readAhead {
			to = make([]byte, readAhead) // one huge message does not stay for the connection's life
		}
		r.end = copy(to, r.buf[r.start:r.end])
		r.start, r.buf = 0, to
	}
	for r.end-r.start < n {
		if r.end == len(r.buf) {
			r.buf = append(make([]byte, 0, min(n+readAhead, 2*len(r.buf))), r.buf...)
			r.buf = r.buf[:cap(r.buf)]
		}
		k, err := r.src.Read(r.buf[r.end:])
		r.end += k
		if err != nil && r.end-r.start < n {
			if r.end > r.start {
				return unexpected(err)
			}
			return err
		}
	}
	return nil
}

// Vectored is a source that can fill two buffers at once, the second after the first. With it the read that ends a body also
// takes the frame after it, which spares every other system call and shows whether the peer has sent more.
type Vectored interface {
	ReadV(first, second []byte) (int, error)
}

// ReadBody fills p with the next bytes of the body.
func (r *Reader) ReadBody(p []byte) error {
	if len(p) > r.body {
		return fmt.Errorf("%d bytes asked of a body that has %d left", len(p), r.body)
	}
	n := copy(p, r.buf[r.start:r.end])
	r.start += n
	r.body -= n
	for n < len(p) {
		k, err := r.more(p[n:])
		n += k
		r.body -= k
		if err != nil && n < len(p) {
			return unexpected(err)
		}
	}
	return nil
}

// more reads into p, and what comes after it, if that is the end of the body, into the buffer, which is empty.
func (r *Reader) more(p []byte) (int, error) {
	v, ok := r.src.(Vectored)
	if !ok || len(p) < r.body {
		return r.src.Read(p)
	}
	k, err := v.ReadV(p, r.buf)
	if k > len(p) {
		r.start, r.end = 0, k-len(p)
		k = len(p)
	}
	return k, err
}

// Discard drops what is left of the body.
func (r *Reader) Discard() error {
	n := min(r.body, r.end-r.start)
	r.start += n
	r.body -= n
	if r.body > 0 {
		if _, err := io.CopyN(io.Discard, r.src, int64(r.body)); err != nil {
			return unexpected(err)
		}
		r.body = 0
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decoder takes fields off a message; the first that is missing sticks.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) int64() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (d *decoder) int32() int32 {
	if b := d.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// text is a string with an int32 length.
func (d *decoder) text() []byte { return d.take(int(d.int32())) }

// utf is a string with a uint16 length, Java's writeUTF.
func (d *decoder) utf() []byte {
	if b := d.take(2); b != nil {
		return d.take(int(binary.BigEndian.Uint16(b)))
	}
	return nil
}

func (d *decoder) err(what string) error {
	if d.bad {
		return fmt.Errorf("the %s frame is cut short", what)
	}
	return nil
}
