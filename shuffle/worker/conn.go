package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// conn is a connection of a client, or of another worker, to one of the data ports.
type conn struct {
	net.Conn
	raw syscall.RawConn // nil if it is not a socket
	r   *wire.Reader
	out replies
	// open counts requests that wait for an answer. While there are some, the peer is told every second that this worker lives:
	// clients give up a connection on which nothing moves for a few seconds.
	open atomic.Int64
	last atomic.Int64 // when something was written, Unix nanoseconds
}

func newConn(c net.Conn) *conn {
	out := &conn{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		out.raw, _ = s.SyscallConn()
	}
	if out.raw != nil {
		out.r = wire.NewReader(&socket{Conn: c, raw: out.raw})
	} else {
		out.r = wire.NewReader(c)
	}
	out.out.c = out
	return out
}

// socket reads into two buffers at once.
type socket struct {
	net.Conn
	raw syscall.RawConn
}

// ReadV implements wire.Vectored.
func (s *socket) ReadV(first, second []byte) (n int, err error) {
	bufs := [2][]byte{first, second}
	rerr := s.raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Readv(int(fd), bufs[:])
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		return !errors.Is(err, syscall.EAGAIN)
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err != nil:
		return 0, os.NewSyscallError("readv", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// replies are the small answers of a connection. They are written together, when the reader is about to wait for the peer.
type replies struct {
	c  *conn
	mu sync.Mutex // held while a frame is written, so that frames stay whole
	// Below is under bmu, so that an answer can be added while another goroutine writes a long one.
	bmu     sync.Mutex
	buf     []byte
	waiting bool // the reader waits: nobody writes what is added now but who adds it
}

// writeTimeout ends connections of peers that do not read what they asked for.
const writeTimeout = 2 * time.Minute

// add appends an answer with a function that appends it, and writes it if the reader will not.
func (o *replies) add(f func([]byte) []byte) {
	o.bmu.Lock()
	o.buf = f(o.buf)
	waiting := o.waiting
	o.bmu.Unlock()
	if waiting {
		o.flush(true)
	}
}

// later is add that leaves writing to a flush that will follow.
func (o *replies) later(f func([]byte) []byte) {
	o.bmu.Lock()
	o.buf = f(o.buf)
	o.bmu.Unlock()
}

// flush writes what was added. wait says whether the reader is about to wait.
func (o *replies) flush(wait bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bmu.Lock()
	b := o.buf
	o.buf = nil
	o.waiting = wait
	o.bmu.Unlock()
	if len(b) > 0 {
		o.write(b)
		o.bmu.Lock()
		if o.buf == nil && cap(b) <= 64<<10 {
			o.buf = b[:0]
		}
		o.bmu.Unlock()
	}
}

// write writes frames; the lock is held. A broken connection is the reader's to see.
func (o *replies) write(b []byte) {
	_ = o.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := o.c.Write(b); err != nil {
		_ = o.c.Close()
	}
	o.c.last.Store(time.Now().UnixNano())
}

// beat tells the peer that this worker lives, if requests of its wait and nothing was written for a second.
func (c *conn) beat(now time.Time) {
	if c.open.Load() == 0 || now.UnixNano()-c.last.Load() < int64(time.Second)*9/10 {
		return
	}
	if c.out.mu.TryLock() { // else something is being written
		defer c.out.mu.Unlock()
		c.out.write(wire.AppendHeartbeat(nil))
	}
}

// vectored sends the pieces of a chunk after a header.
func (c *conn) vectored(header []byte, pieces []store.Piece) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	defer func() { c.last.Store(time.Now().UnixNano()) }()
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if c.raw == nil || len(pieces) == 0 || pieces[0].File == nil {
		if _, err := c.Write(header); err != nil {
			return err
		}
	} else if err := c.sendMore(header); err != nil {
		return err
	}
	for _, p := range pieces {
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := c.send(p); err != nil {
			return err
		}
	}
	return nil
}

// sendMore writes bytes that more follow, so that they share a segment with those.
func (c *conn) sendMore(b []byte) error {
	var serr error
	err := c.raw.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			n, err := unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			switch {
			case errors.Is(err, syscall.EINTR):
			case errors.Is(err, syscall.EAGAIN):
				return false
			case err != nil:
				serr = os.NewSyscallError("sendmsg", err)
				return true
			default:
				b = b[n:]
			}
		}
		return true
	})
	return errors.Join(err, serr)
}

// sender is a file that goes to a socket without passing through this process.
type sender interface {
	SendTo(socket syscall.RawConn, off, n int64) error
}

func (c *conn) send(p store.Piece) error {
	if p.File == nil {
		_, err := c.Write(p.Data)
		return err
	}
	if f, ok := p.File.(sender); ok && c.raw != nil {
		return f.SendTo(c.raw, p.Off, p.Length)
	}
	_, err := io.CopyN(c.Conn, io.NewSectionReader(p.File, p.Off, p.Length), p.Length) // too few bytes are an error: the header promised them
	return err
}

// conns are the open connections of a port.
type conns struct{ all sync.Map }

// serve runs a connection and keeps it in the list.
func (cs *conns) serve(c net.Conn, f func(*conn)) {
	k := newConn(c)
	cs.all.Store(k, nil)
	defer cs.all.Delete(k)
	f(k)
}

// beats tells the peers of all connections that this worker lives, until the context ends.
func (cs *conns) beats(ctx context.Context) {
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			cs.all.Range(func(k, _ any) bool {
				k.(*conn).beat(now)
				return true
			})
		}
	}
}

func (cs *conns) count() (n int64) {
	cs.all.Range(func(any, any) bool { n++; return true })
	return n
}
