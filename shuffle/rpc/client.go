package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
)

// ErrClosed is what calls of a connection that ended get.
var ErrClosed = errors.New("the connection ended")

// RemoteError is what the other side said of a request.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// Client is a connection to an RPC port. It may be used by many at once; a broken one stays broken, and one on which a call ends
// before its request was written is broken.
type Client struct {
	out    writer
	closed chan struct{} // when the reader ended

	mu      sync.Mutex
	next    int64
	pending map[int64]chan<- answer // nil when the connection ended
}

type answer struct {
	body []byte
	err  error
}

// Dial connects to an RPC port. The context bounds the attempt.
func Dial(ctx context.Context, address string) (*Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return NewClient(conn), nil
}

// NewClient speaks over a connection, which it owns.
func NewClient(conn net.Conn) *Client {
	c := &Client{out: writer{conn: conn}, closed: make(chan struct{}), pending: map[int64]chan<- answer{}}
	go c.read(conn)
	return c
}

// Close ends the connection; calls in flight get ErrClosed.
func (c *Client) Close() { _ = c.out.conn.Close(); <-c.closed }

// Closed is closed when the connection ended.
func (c *Client) Closed() <-chan struct{} { return c.closed }

func (c *Client) read(conn net.Conn) {
	defer close(c.closed)
	defer func() {
		_ = conn.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, ch := range c.pending {
			ch <- answer{err: ErrClosed}
		}
		c.pending = nil
	}()
	r := wire.NewReader(conn)
	for {
		h, message, err := r.Next()
		if err != nil {
			return
		}
		var id int64
		var a answer
		switch h.Type {
		case wire.RPCResponse:
			id, err = wire.ParseRPC(message)
			a.body = make([]byte, h.Body)
		case wire.RPCFailure:
			var text string
			id, text, err = wire.ParseFailure(message)
			a.err = RemoteError(text)
		default:
			id = -1
		}
		if err != nil || r.ReadBody(a.body) != nil || r.Discard() != nil {
			return
		}
		c.mu.Lock()
		if ch, ok := c.pending[id]; ok {
			delete(c.pending, id)
			ch <- a
		}
		c.mu.Unlock()
	}
}

// Call sends a message to an endpoint and reads its answer, which must be of that type, into a message.
func (c *Client) Call(ctx context.Context, endpoint string, t wire.MessageType, m proto.Message, want wire.MessageType, into proto.Message) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	body, err := c.ask(ctx, wire.AppendEnvelope(nil, endpoint, wire.AppendContent(nil, wire.Neutral, t, payload)))
	if err != nil {
		return err
	}
	_, got, payload, err := wire.ParseContent(body)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s answered message %d with %d instead of %d", endpoint, t, got, want)
	}
	_, err = Unmarshal(payload, into)
	return err
}

func (c *Client) ask(ctx context.Context, body []byte) ([]byte, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.pending == nil {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	id := c.next
	c.next++
	c.pending[id] = ch
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.out.conn.Close() }) // a peer that does not read holds the call, and whatever would follow it
	c.out.write(wire.AppendRequest(nil, id, body))
	stop()
	select {
	case a := <-ch:
		if a.err == ErrClosed && ctx.Err() != nil { //nolint:errorlint // its own value
			return nil, ctx.Err()
		}
		return a.body, a.err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return nil, ctx.Err()
	}
}
