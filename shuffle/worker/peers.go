package worker

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
)

const (
	peerDial  = 2 * time.Second // to connect to a peer
	peerQuiet = 3 * time.Second // a peer that owes answers and says nothing for so long is taken for dead; living ones beat every second
	peerShun  = 2 * time.Second // after a failure pushes fail at once, so that clients go elsewhere
)

// peers are connections to the replicate ports of other workers.
type peers struct {
	ctx  context.Context // ends them
	dial func(ctx context.Context, address string) (net.Conn, error)
	all  sync.Map // wire.WorkerID → *peer
	run  sync.WaitGroup
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// forwarded is a push on its way to its replica. then is called once, and returns where its answer waits to be written.
type forwarded struct {
	t       wire.FrameType
	message []byte
	buf     *store.Buffer
	then    func(answer []byte, failure string) *replies
}

// peer is one other worker. Its connection is made when there is something to send.
type peer struct {
	peers   *peers
	address string
	heard   atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex
	some    sync.Cond
	running bool
	queue   []forwarded
	next    int64
	waiting map[int64]forwarded
	conn    net.Conn
	shunned time.Time // until
	reason  string    // of shunning
}

func (ps *peers) to(id wire.WorkerID) *peer {
	if v, ok := ps.all.Load(id); ok {
		return v.(*peer)
	}
	p := &peer{peers: ps, address: net.JoinHostPort(id.Host, strconv.Itoa(int(id.Replicate))), waiting: map[int64]forwarded{}}
	p.some.L = &p.mu
	v, _ := ps.all.LoadOrStore(id, p)
	return v.(*peer)
}

func failure(s wire.Status, text string) string { return s.String() + ": " + text }

// send queues a push. It never waits.
func (p *peer) send(f forwarded) {
	p.mu.Lock()
	if p.conn == nil && time.Now().Before(p.shunned) {
		reason := p.reason
		p.mu.Unlock()
		f.end(nil, reason).flushIdle()
		return
	}
	p.queue = append(p.queue, f)
	if !p.running {
		p.running = true
		p.peers.run.Go(p.run)
	}
	p.some.Signal()
	p.mu.Unlock()
}

func (f forwarded) end(answer []byte, failure string) *replies {
	f.buf.Release()
	return f.then(answer, failure)
}

// flushIdle writes answers that nobody else will.
func (o *replies) flushIdle() {
	o.bmu.Lock()
	waiting := o.waiting
	o.bmu.Unlock()
	if waiting {
		o.flush(true)
	}
}

// run connects, writes until the connection ends, and fails what it owes.
func (p *peer) run() {
	ctx, cancel := context.WithTimeout(p.peers.ctx, peerDial)
	c, err := p.peers.dial(ctx, p.address)
	cancel()
	if err != nil {
		p.fail(failure(wire.CreateConnectionReplica, "worker "+p.address+" with the replica cannot be reached: "+err.Error()))
		return
	}
	stop := context.AfterFunc(p.peers.ctx, func() { _ = c.Close() })
	defer stop()
	p.heard.Store(time.Now().UnixNano())
	p.mu.Lock()
	p.conn = c
	p.mu.Unlock()
	read := make(chan error, 1)
	go func() {
		err := p.read(c)
		p.mu.Lock()
		p.conn = nil
		p.some.Signal()
		p.mu.Unlock()
		read <- err
	}()
	p.write(c)
	_ = c.Close()
	err = <-read
	switch {
	case errors.Is(err, errQuiet):
		p.fail(failure(wire.TimeoutReplica, "worker "+p.address+" with the replica says nothing"))
	default:
		p.fail(failure(wire.ConnectionExceptionReplica, "the connection to worker "+p.address+" with the replica broke"))
	}
}

// write sends what is queued until the connection ends.
func (p *peer) write(c net.Conn) {
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && p.conn != nil {
			p.some.Wait()
		}
		if p.conn == nil {
			p.mu.Unlock()
			return
		}
		batch := p.queue
		p.queue = nil
		var heads []byte
		at := make([]int, 0, len(batch)+1)
		for _, f := range batch {
			at = append(at, len(heads))
			if len(p.waiting) == 0 {
				p.heard.Store(time.Now().UnixNano()) // it owed nothing until now
			}
			p.waiting[p.next] = f
			heads = wire.AppendForwarded(heads, f.t, f.message, p.next, len(f.buf.Bytes()))
			p.next++
			f.buf.Retain() // while it is written: its answer may come before
		}
		p.mu.Unlock()
		at = append(at, len(heads))
		bufs := make(net.Buffers, 0, 2*len(batch))
		for i, f := range batch {
			bufs = append(bufs, heads[at[i]:at[i+1]], f.buf.Bytes())
		}
		_, err := bufs.WriteTo(c)
		for _, f := range batch {
			f.buf.Release()
		}
		if err != nil {
			return
		}
	}
}

var errQuiet = errors.New("the peer says nothing")

// listened notes when bytes came.
type listened struct {
	net.Conn
	p *peer
}

func (l listened) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.p.heard.Store(time.Now().UnixNano())
	return n, err
}

// read takes answers until the connection ends, or the peer owes some and is quiet.
func (p *peer) read(c net.Conn) error {
	quiet := make(chan struct{})
	done := make(chan struct{})
	defer close(done)
	go p.listen(c, quiet, done)
	r := wire.NewReader(listened{Conn: c, p: p})
	dirty := map[*replies]bool{}
	for {
		if r.Buffered() < wire.HeaderSize {
			for o := range dirty {
				o.flushIdle()
				delete(dirty, o)
			}
		}
		h, message, err := r.Next()
		if err == nil && h.Type == wire.Heartbeat {
			err = r.Discard()
			if err == nil {
				continue
			}
		}
		var id int64
		var body []byte
		var text string
		if err == nil {
			switch h.Type {
			case wire.RPCResponse:
				id, err = wire.ParseRPC(message)
				body = make([]byte, h.Body)
			case wire.RPCFailure:
				id, text, err = wire.ParseFailure(message)
			default:
				err = errors.New("not an answer to a push")
			}
		}
		if err == nil {
			err = r.ReadBody(body)
		}
		if err != nil {
			for o := range dirty {
				o.flushIdle()
			}
			select {
			case <-quiet:
				return errQuiet
			default:
				return err
			}
		}
		p.mu.Lock()
		f, ok := p.waiting[id]
		delete(p.waiting, id)
		p.mu.Unlock()
		if ok {
			dirty[f.end(body, text)] = true
		}
	}
}

// listen ends a connection whose peer owes answers and is quiet.
func (p *peer) listen(c net.Conn, quiet, done chan struct{}) {
	tick := time.NewTicker(time.Second / 4)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			p.mu.Lock()
			owes := len(p.waiting) > 0
			p.mu.Unlock()
			if owes && now.UnixNano()-p.heard.Load() > int64(peerQuiet) {
				close(quiet)
				_ = c.Close()
				return
			}
		}
	}
}

// fail answers all that is on its way with a failure, and shuns the peer for a while.
func (p *peer) fail(text string) {
	p.mu.Lock()
	all := p.queue
	for _, f := range p.waiting {
		all = append(all, f)
	}
	p.queue, p.waiting = nil, map[int64]forwarded{}
	p.running, p.conn = false, nil
	p.shunned, p.reason = time.Now().Add(peerShun), text
	p.mu.Unlock()
	for _, f := range all {
		f.end(nil, text).flushIdle()
	}
}
