// Package rpc is the request and answer layer of the shuffle service's RPC ports: the master's one port and every worker's.
// Drivers' lifecycle managers speak it in the form of their version; our own workers in the neutral one.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
)

// Handler answers one message of an endpoint. Its context ends with the connection. A nil answer with a type is an empty message;
// an error reaches the peer as text, and a driver asks the master again on it, so what will stay wrong is an answer with a status.
type Handler func(ctx context.Context, t wire.MessageType, payload []byte) (wire.MessageType, proto.Message, error)

// Server serves endpoints to any number of connections.
type Server struct {
	Endpoints map[string]Handler
	Log       *slog.Logger
}

const (
	maxBody    = 64 << 20        // bytes of a request: one with slots for a million partitions has 5 MB
	concurrent = 64              // requests of one connection in work
	writeTime  = 2 * time.Minute // for a peer to take a frame; one that reads nothing holds what it asked for
)

// Serve accepts connections until the context ends, and waits for them to end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return Accept(ctx, ln, s.serve)
}

// Accept runs serve on each connection of a listener, closing all when the context ends, and waits for them.
func Accept(ctx context.Context, ln net.Listener, serve func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		all.Go(func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			serve(ctx, conn)
		})
	}
}

func (s *Server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx) // what its requests run under
	var requests sync.WaitGroup
	defer requests.Wait()
	defer cancel()
	r := wire.NewReader(conn)
	out := &writer{conn: conn}
	room := make(chan struct{}, concurrent)
	for {
		h, message, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.Log.Debug("shuffle connection ended", "peer", conn.RemoteAddr(), "err", err)
			}
			return
		}
		if h.Type == wire.Heartbeat {
			out.write(wire.AppendHeartbeat(nil))
			continue
		}
		id, err := wire.ParseRPC(message)
		if h.Type != wire.RPCRequest || err != nil || h.Body > maxBody {
			s.Log.Warn("not a request of a Celeborn client: the connection is closed", "peer", conn.RemoteAddr(), "type", h.Type, "bytes", h.Body)
			return
		}
		body := make([]byte, h.Body)
		if err := r.ReadBody(body); err != nil {
			return
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		requests.Go(func() {
			out.write(s.answer(ctx, id, body))
			<-room
		})
	}
}

// answer is the frame that answers a request.
func (s *Server) answer(ctx context.Context, id int64, body []byte) []byte {
	fail := func(err error) []byte { return wire.AppendFailure(nil, id, err.Error()) }
	e, err := wire.ParseEnvelope(body)
	if err != nil {
		if _, _, raw := wire.ParseRaw(body); raw == nil {
			return fail(errors.New("this port takes no authentication yet: set spark.celeborn.auth.enabled=false"))
		}
		return fail(err)
	}
	if e.Endpoint == wire.VerifierEndpoint {
		name, err := wire.ParseCheckExistence(e.Content)
		if err != nil {
			return fail(err)
		}
		_, there := s.Endpoints[name]
		return wire.AppendResponse(nil, id, wire.AppendBoolean(nil, there || name == wire.VerifierEndpoint))
	}
	handle, there := s.Endpoints[e.Endpoint]
	if !there {
		return fail(fmt.Errorf("Could not find %s.", e.Endpoint)) //nolint:revive,staticcheck // Celeborn's own words, which clients may look for
	}
	form, t, payload, err := wire.ParseContent(e.Content)
	if err != nil {
		return fail(err)
	}
	if form == wire.Java3 { // JVM clients that send it read the neutral form
		form = wire.Neutral
	}
	rt, m, err := handle(ctx, t, payload)
	if err != nil {
		return fail(err)
	}
	var reply []byte
	if m != nil {
		if reply, err = proto.Marshal(m); err != nil {
			return fail(err)
		}
		if reply == nil {
			reply = []byte{}
		}
	}
	return wire.AppendResponse(nil, id, wire.AppendContent(nil, form, rt, reply))
}

// writer keeps the frames of one connection whole.
type writer struct {
	mu   sync.Mutex
	conn net.Conn
}

func (w *writer) write(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := w.conn.Write(frame); err != nil {
		_ = w.conn.Close() // which the reader sees
	}
}

// Unmarshal reads a payload into a message, and names the message on failure.
func Unmarshal[M proto.Message](payload []byte, into M) (M, error) {
	if err := proto.Unmarshal(payload, into); err != nil {
		return into, fmt.Errorf("%s: %w", into.ProtoReflect().Descriptor().Name(), err)
	}
	return into, nil
}
