// Package shuffleclient is a small client of shuffle workers, for tests and load: it sends what a stock client sends and takes the
// answers apart, and leaves to its caller what to do about them.
package shuffleclient

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Answer is what a worker says of a push.
type Answer struct {
	Body []byte // empty or one status byte, or of a merged push more
	Err  error  // a failure that the worker tells, or the connection's end
}

// Status is the answer's status byte.
func (a Answer) Status() wire.Status {
	if len(a.Body) == 0 {
		return wire.Success
	}
	return wire.Status(a.Body[0])
}

// Conn is a connection to a data port: for pushes or for fetches.
type Conn struct {
	net.Conn
	wmu sync.Mutex

	mu      sync.Mutex
	next    int64
	pending map[int64]func(Answer)
	chunks  map[wire.ChunkSlice]func([]byte, error)
	err     error
	closed  chan struct{}
	beats   int
}

// Dial connects to a port of a worker.
func Dial(ctx context.Context, host string, port int32) (*Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	out := &Conn{Conn: c, pending: map[int64]func(Answer){}, chunks: map[wire.ChunkSlice]func([]byte, error){}, closed: make(chan struct{})}
	go out.read()
	return out, nil
}

// Close ends the connection, and waits for its reader.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	<-c.closed
	return err
}

// Beats is how many heartbeats came.
func (c *Conn) Beats() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beats
}

func (c *Conn) read() {
	defer close(c.closed)
	r := wire.NewReader(c.Conn)
	for {
		err := c.frame(r)
		if err == nil {
			continue
		}
		_ = c.Conn.Close()
		c.mu.Lock()
		pending, chunks := c.pending, c.chunks
		c.pending, c.chunks, c.err = nil, nil, err
		c.mu.Unlock()
		for _, f := range pending {
			f(Answer{Err: fmt.Errorf("connection closed: %w", err)})
		}
		for _, f := range chunks {
			f(nil, fmt.Errorf("connection closed: %w", err))
		}
		return
	}
}

func (c *Conn) frame(r *wire.Reader) error {
	h, message, err := r.Next()
	if err != nil {
		return err
	}
	message = append([]byte(nil), message...)
	body := make([]byte, h.Body)
	if err := r.ReadBody(body); err != nil {
		return err
	}
	switch h.Type {
	case wire.Heartbeat:
		c.mu.Lock()
		c.beats++
		c.mu.Unlock()
		c.wmu.Lock()
		defer c.wmu.Unlock()
		_, err := c.Write(wire.AppendHeartbeat(nil))
		return err
	case wire.RPCResponse, wire.RPCFailure:
		a := Answer{Body: body}
		var id int64
		if h.Type == wire.RPCResponse {
			id, err = wire.ParseRPC(message)
		} else {
			var text string
			id, text, err = wire.ParseFailure(message)
			a.Err = rpc.RemoteError(text)
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		f := c.pending[id]
		delete(c.pending, id)
		c.mu.Unlock()
		if f != nil {
			f(a)
		}
		return nil
	case wire.ChunkFetchSuccess, wire.ChunkFetchFailure:
		s, text, err := wire.ParseChunk(h.Type, message)
		if err != nil {
			return err
		}
		c.mu.Lock()
		f := c.chunks[s]
		delete(c.chunks, s)
		c.mu.Unlock()
		if f == nil {
			return fmt.Errorf("a chunk that was not asked for: %+v", s)
		}
		if h.Type == wire.ChunkFetchFailure {
			f(nil, rpc.RemoteError(text))
		} else {
			f(body, nil)
		}
		return nil
	}
	return fmt.Errorf("a frame of type %d", h.Type)
}

// send writes frames whose answer, by id, goes to then.
func (c *Conn) send(frame func(id int64) net.Buffers, then func(Answer)) {
	c.mu.Lock()
	if c.pending == nil {
		err := c.err
		c.mu.Unlock()
		then(Answer{Err: fmt.Errorf("connection closed: %w", err)})
		return
	}
	id := c.next
	c.next++
	c.pending[id] = then
	c.mu.Unlock()
	c.wmu.Lock()
	bufs := frame(id)
	_, _ = bufs.WriteTo(c.Conn)
	c.wmu.Unlock()
}

// Push sends one batch; then gets the answer.
func (c *Conn) Push(key string, id wire.PartitionID, mode byte, batch []byte, then func(Answer)) {
	c.send(func(n int64) net.Buffers {
		return net.Buffers{wire.AppendPush(nil, n, mode, key, id.String(), len(batch)), batch}
	}, then)
}

// Entry is one of a merged push.
type Entry struct {
	ID    wire.PartitionID
	Batch []byte
}

// PushMerged sends batches for several partitions at once.
func (c *Conn) PushMerged(key string, mode byte, entries []Entry, then func(Answer)) {
	names, offsets := make([]string, len(entries)), make([]int32, len(entries))
	var body []byte
	for i, e := range entries {
		names[i], offsets[i] = e.ID.String(), int32(len(body))
		body = append(body, e.Batch...)
	}
	c.send(func(n int64) net.Buffers {
		return net.Buffers{wire.AppendMergedPush(nil, n, mode, key, names, offsets, len(body)), body}
	}, then)
}

// Ask sends a message of the push or fetch ports and waits for the raw answer.
func (c *Conn) Ask(ctx context.Context, t wire.MessageType, m proto.Message) ([]byte, error) {
	ch := make(chan Answer, 1)
	c.send(func(n int64) net.Buffers {
		return net.Buffers{wire.AppendRequest(nil, n, wire.AppendRawProto(nil, t, m))}
	}, func(a Answer) { ch <- a })
	select {
	case a := <-ch:
		return a.Body, a.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Open opens a copy of a partition for reading.
func (c *Conn) Open(ctx context.Context, key, file string, start, end int32) (stream int64, chunks int32, err error) {
	b, err := c.Ask(ctx, wire.OpenStream, &pb.OpenStream{ShuffleKey: key, FileName: file, StartIndex: start, EndIndex: end})
	if err != nil {
		return 0, 0, err
	}
	t, payload, err := wire.ParseRaw(b)
	if err != nil {
		return 0, 0, err
	}
	if t != wire.StreamHandler {
		return 0, 0, fmt.Errorf("message %d answers OPEN_STREAM", t)
	}
	h, err := rpc.Unmarshal(payload, &pb.StreamHandler{})
	return h.GetStreamId(), h.GetNumChunks(), err
}

// Chunk fetches one chunk.
func (c *Conn) Chunk(ctx context.Context, stream int64, chunk int32) ([]byte, error) {
	type got struct {
		b   []byte
		err error
	}
	ch := make(chan got, 1)
	c.AskChunk(stream, chunk, func(b []byte, err error) { ch <- got{b, err} })
	select {
	case g := <-ch:
		return g.b, g.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// AskChunk asks for one chunk.
func (c *Conn) AskChunk(stream int64, chunk int32, then func([]byte, error)) {
	s := wire.ChunkSlice{StreamID: stream, Chunk: chunk, Len: math.MaxInt32}
	c.mu.Lock()
	if c.pending == nil {
		err := c.err
		c.mu.Unlock()
		then(nil, err)
		return
	}
	c.chunks[s] = then
	id := c.next
	c.next++
	c.mu.Unlock()
	m := &pb.ChunkFetchRequest{StreamChunkSlice: &pb.StreamChunkSlice{StreamId: stream, ChunkIndex: chunk, Len: math.MaxInt32}}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, _ = c.Write(wire.AppendRequest(nil, id, wire.AppendRawProto(nil, wire.ChunkFetch, m)))
}

// End closes a stream.
func (c *Conn) End(stream int64) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, _ = c.Write(wire.AppendRequest(nil, math.MaxInt64, wire.AppendRawProto(nil, wire.BufferStreamEnd, &pb.BufferStreamEnd{StreamId: stream})))
}

// ReadAll fetches all chunks of a copy, or of a range of maps.
func (c *Conn) ReadAll(ctx context.Context, key, file string, start, end int32) ([][]byte, error) {
	stream, n, err := c.Open(ctx, key, file, start, end)
	if err != nil {
		return nil, err
	}
	defer c.End(stream)
	var out [][]byte
	for i := range n {
		b, err := c.Chunk(ctx, stream, i)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// Batches takes chunks apart; a chunk that does not end with a batch is an error.
func Batches(chunks [][]byte) (heads []wire.Batch, data [][]byte, err error) {
	for _, b := range chunks {
		for len(b) > 0 {
			h, err := wire.ParseBatch(b)
			if err != nil {
				return nil, nil, err
			}
			heads = append(heads, h)
			data = append(data, b[wire.BatchHeader:wire.BatchHeader+h.Size])
			b = b[wire.BatchHeader+h.Size:]
		}
	}
	return heads, data, nil
}

// ErrRefused is what a worker's refusal wraps.
var ErrRefused = errors.New("refused")

// Reserve reserves copies on a worker.
func Reserve(ctx context.Context, c *rpc.Client, app string, shuffle int32, locations []wire.Location, change ...func(*pb.ReserveSlots)) error {
	m := &pb.ReserveSlots{ApplicationId: app, ShuffleId: shuffle, SplitThreshold: 1 << 30, PartitionSplitEnabled: true, UserIdentifier: &pb.UserIdentifier{TenantId: "default", Name: "ann"}}
	for _, l := range locations {
		if l.Mode == wire.Primary {
			m.PrimaryLocations = append(m.PrimaryLocations, l.Proto(0))
		} else {
			m.ReplicaLocations = append(m.ReplicaLocations, l.Proto(0))
		}
	}
	for _, f := range change {
		f(m)
	}
	out := &pb.ReserveSlotsResponse{}
	if err := c.Call(ctx, wire.WorkerEndpoint, wire.ReserveSlots, m, wire.ReserveSlotsResponse, out); err != nil {
		return err
	}
	if out.GetStatus() != 0 {
		return fmt.Errorf("%w: %s: %s", ErrRefused, wire.Status(out.GetStatus()), out.GetReason())
	}
	return nil
}

// Commit commits copies on a worker.
func Commit(ctx context.Context, c *rpc.Client, m *pb.CommitFiles) (*pb.CommitFilesResponse, error) {
	out := &pb.CommitFilesResponse{}
	return out, c.Call(ctx, wire.WorkerEndpoint, wire.CommitFiles, m, wire.CommitFilesResponse, out)
}
