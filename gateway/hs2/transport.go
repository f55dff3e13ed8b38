package hs2

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// transport is a connection as Thrift sees it, bare or in SASL frames. A frame is four bytes of length and its data;
// messages may span frames and frames hold several messages, so frames are read as a stream of bytes. A reply is
// written at once, in one frame, when it is complete: a failure half-way must not leave half a reply on the wire.
type transport struct {
	conn     net.Conn
	in       *bufio.Reader
	framed   bool
	max      uint32        // bytes of a frame
	patience time.Duration // for a reply to be taken
	left     uint32        // of the current frame
	head     [frameHeader]byte
	out      [][]byte // pieces of the reply
}

const frameHeader = 4

// oneWrite is how large a reply is that is cheaper to copy than to write in pieces, each of them a record of its own with TLS.
const oneWrite = 16 << 10

func newTransport(in *bufio.Reader, framed bool, max uint32, patience time.Duration) *transport {
	return &transport{in: in, framed: framed, max: max, patience: patience}
}

// bind begins anew with another connection.
func (t *transport) bind(conn net.Conn) {
	t.conn, t.left = conn, 0
	t.forget()
}

// forget drops the reply: an idle connection keeps none.
func (t *transport) forget() {
	clear(t.out)
	t.out = t.out[:0]
}

func (t *transport) Read(p []byte) (int, error) {
	if !t.framed {
		n, err := t.in.Read(p)
		return n, transportError(err)
	}
	for t.left == 0 {
		var head [frameHeader]byte
		if _, err := io.ReadFull(t.in, head[:]); err != nil {
			return 0, transportError(err)
		}
		t.left = binary.BigEndian.Uint32(head[:])
		if t.left > t.max {
			return 0, thrift.NewTTransportException(thrift.UNKNOWN_TRANSPORT_EXCEPTION,
				fmt.Sprintf("a frame of %d bytes; hs2.max_message_size allows %d", t.left, t.max))
		}
	}
	if len(p) > int(t.left) {
		p = p[:t.left]
	}
	n, err := t.in.Read(p)
	t.left -= uint32(n)
	return n, transportError(err)
}

func transportError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return thrift.NewTTransportException(thrift.END_OF_FILE, err.Error())
	}
	return thrift.NewTTransportExceptionFromError(err)
}

// Write keeps p until Flush: a reply may be large, and is not copied.
func (t *transport) Write(p []byte) (int, error) {
	t.out = append(t.out, p)
	return len(p), nil
}

// Flush sends what was written.
func (t *transport) Flush(context.Context) error {
	defer t.forget()
	size := 0
	for _, p := range t.out {
		size += len(p)
	}
	if size == 0 {
		return nil
	}
	pieces := net.Buffers(t.out)
	if t.framed {
		binary.BigEndian.PutUint32(t.head[:], uint32(size))
		pieces = append(net.Buffers{t.head[:]}, pieces...)
	}
	if err := t.conn.SetWriteDeadline(time.Now().Add(t.patience)); err != nil {
		return transportError(err)
	}
	var err error
	if size <= oneWrite {
		_, err = t.conn.Write(slices.Concat(pieces...))
	} else {
		_, err = pieces.WriteTo(t.conn)
	}
	return transportError(err)
}

// RemainingBytes is not known: a message may go on in the next frame.
func (t *transport) RemainingBytes() uint64 { return math.MaxUint64 }

func (t *transport) Open() error  { return nil }
func (t *transport) IsOpen() bool { return true }
func (t *transport) Close() error { return t.conn.Close() }
