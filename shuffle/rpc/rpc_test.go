package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server until the test ends.
func serve(t *testing.T, h rpc.Handler) (address string, end func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := &rpc.Server{Endpoints: map[string]rpc.Handler{wire.MasterEndpoint: h}, Log: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Serve(ctx, ln) }()
	end = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(end)
	return ln.Addr().String(), end
}

func dial(t *testing.T, address string) *rpc.Client {
	t.Helper()
	c, err := rpc.Dial(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func ask(ctx context.Context, c *rpc.Client, endpoint, key string) (string, error) {
	out := &pb.UnregisterShuffle{}
	err := c.Call(ctx, endpoint, wire.UnregisterShuffle, &pb.UnregisterShuffle{AppId: key}, wire.UnregisterShuffleResponse, out)
	return out.GetAppId(), err
}

// echo answers with what it was asked, once let is closed.
func echo(let <-chan struct{}) rpc.Handler {
	return func(ctx context.Context, _ wire.MessageType, payload []byte) (wire.MessageType, proto.Message, error) {
		m, err := rpc.Unmarshal(payload, &pb.UnregisterShuffle{})
		if err != nil {
			return 0, nil, err
		}
		if strings.HasPrefix(m.GetAppId(), "slow") {
			select {
			case <-let:
			case <-ctx.Done():
				return 0, nil, ctx.Err()
			}
		}
		if m.GetAppId() == "bad" {
			return 0, nil, errors.New("it is bad")
		}
		return wire.UnregisterShuffleResponse, m, nil
	}
}

// TestConcurrent: many requests of one connection are in work at once, and a slow one keeps no other.
func TestConcurrent(t *testing.T) {
	let := make(chan struct{})
	address, _ := serve(t, echo(let))
	c := dial(t, address)
	var slow sync.WaitGroup
	for i := range 20 {
		slow.Go(func() {
			got, err := ask(t.Context(), c, wire.MasterEndpoint, fmt.Sprint("slow ", i))
			if err != nil || got != fmt.Sprint("slow ", i) {
				t.Errorf("%q %v", got, err)
			}
		})
	}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			got, err := ask(t.Context(), c, wire.MasterEndpoint, fmt.Sprint("fast ", i))
			if err != nil || got != fmt.Sprint("fast ", i) {
				t.Errorf("%q %v", got, err)
			}
		})
	}
	all.Wait()
	close(let)
	slow.Wait()
}

// TestRefusals: what is wrong is said in words, and the connection goes on.
func TestRefusals(t *testing.T) {
	address, _ := serve(t, echo(nil))
	c := dial(t, address)
	for name, f := range map[string]struct {
		do   func() error
		want string
	}{
		"another endpoint": {func() error { _, err := ask(t.Context(), c, "Nobody", "a"); return err }, "Could not find Nobody."},
		"an error":         {func() error { _, err := ask(t.Context(), c, wire.MasterEndpoint, "bad"); return err }, "it is bad"},
		"another answer": {func() error {
			return c.Call(t.Context(), wire.MasterEndpoint, wire.UnregisterShuffle, &pb.UnregisterShuffle{}, wire.StatusResponse, &pb.StatusResponse{})
		}, "answered message"},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, f.do(), f.want) })
	}
	got, err := ask(t.Context(), c, wire.MasterEndpoint, "still here")
	require.NoError(t, err)
	require.Equal(t, "still here", got)
}

// raw sends bytes, and returns the first frame that comes back: its type, and its text if it is a failure.
func raw(t *testing.T, address string, b []byte) (h wire.Header, text string, err error) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = c.Write(b)
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	h, message, err := wire.NewReader(c).Next()
	if err == nil && h.Type == wire.RPCFailure {
		_, text, err = wire.ParseFailure(message)
	}
	return h, text, err
}

// TestStrangers: a client that wants to authenticate is told what to set; one that speaks something else loses its connection, and
// costs no memory for what it only says it will send.
func TestStrangers(t *testing.T) {
	address, _ := serve(t, echo(nil))
	h, text, err := raw(t, address, wire.AppendRequest(nil, 1, wire.AppendRawProto(nil, 77, &pb.UnregisterShuffle{AppId: "x"})))
	require.NoError(t, err)
	require.Equal(t, wire.RPCFailure, h.Type)
	require.Contains(t, text, "spark.celeborn.auth.enabled=false")
	h, _, err = raw(t, address, wire.AppendHeartbeat(nil))
	require.NoError(t, err)
	require.Equal(t, wire.Heartbeat, h.Type)
	h, text, err = raw(t, address, wire.AppendRequest(nil, 1, []byte{1}))
	require.NoError(t, err)
	require.Equal(t, wire.RPCFailure, h.Type)
	require.NotEmpty(t, text)
	for name, b := range map[string][]byte{
		"another protocol": []byte("GET / HTTP/1.1\r\n\r\n"),
		"a push":           wire.AppendPush(nil, 1, wire.Primary, "a-1", "0-0", 0),
		"a large body":     append([]byte{0, 0, 0, 8, byte(wire.RPCRequest), 0x7f, 0xff, 0xff, 0xff}, make([]byte, 8)...),
	} {
		_, _, err := raw(t, address, b)
		require.Error(t, err, name)
		var ne net.Error
		require.False(t, errors.As(err, &ne) && ne.Timeout(), name)
	}
}

// TestBrokenPeers: calls end when the other side goes away in any moment, says nonsense, or their context ends.
func TestBrokenPeers(t *testing.T) {
	body := wire.AppendContent(nil, wire.Neutral, wire.UnregisterShuffleResponse, nil)
	answer := wire.AppendResponse(nil, 0, body)
	for cut := range len(answer) {
		ours, theirs := net.Pipe()
		c := rpc.NewClient(ours)
		go func() {
			r := wire.NewReader(theirs)
			if _, _, err := r.Next(); err == nil {
				_ = r.Discard()
			}
			_, _ = theirs.Write(answer[:cut])
			_ = theirs.Close()
		}()
		_, err := ask(t.Context(), c, wire.MasterEndpoint, "a")
		require.ErrorIs(t, err, rpc.ErrClosed, cut)
		_, err = ask(t.Context(), c, wire.MasterEndpoint, "a")
		require.ErrorIs(t, err, rpc.ErrClosed, "a broken one stays broken")
		<-c.Closed()
		c.Close()
	}
}

// TestPeerThatDoesNotRead: a call whose request cannot be written ends with its context.
func TestPeerThatDoesNotRead(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	c := rpc.NewClient(ours)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := ask(ctx, c, wire.MasterEndpoint, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	<-c.Closed() // half a request may be on its way, so nothing can follow
}

// TestEnd: a server that ends cuts its connections, and waits for what it has in work.
func TestEnd(t *testing.T) {
	address, end := serve(t, echo(make(chan struct{})))
	c := dial(t, address)
	_, err := ask(t.Context(), c, wire.MasterEndpoint, "there")
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := ask(context.WithoutCancel(t.Context()), c, wire.MasterEndpoint, "slow")
		got <- err
	}()
	end()
	require.Error(t, <-got)
	_, err = rpc.Dial(t.Context(), address)
	require.Error(t, err)
}
