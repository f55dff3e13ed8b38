// Package hs2 is the HiveServer2 front end: it speaks Thrift's TCLIService with JDBC, Beeline and Python clients over
// TCP, and turns their calls into sessions and operations.
package hs2

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/google/uuid"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

// Options of a Server.
type Options struct {
	Sessions          *session.Manager
	Auth              auth.Authenticator
	Proxies           *auth.Proxies // who may act for whom; nil means that there are no rules
	OpenProxy         bool          // without rules anybody may act for anybody: where names are believed they prove nothing anyway
	SASL              bool          // false: bare Thrift, for clients that are set to NOSASL
	MaxMessage        int64
	MaxConnections    int
	LoginTimeout      time.Duration
	MessageTimeout    time.Duration // for one request to arrive, once it has begun, and for one reply to be taken
	PollTimeout       time.Duration // longest wait of GetOperationStatus
	FetchBytes        int64         // of one reply to FetchResults, about
	StackTraces       bool
	CloseOnDisconnect bool
	DisconnectGrace   time.Duration
	SparkVersion      string // told to clients before an engine is there
	HTTP              HTTPOptions
	Hooks             Hooks
	Log               *slog.Logger
}

// Hooks observe; each may be nil.
type Hooks struct {
	Connected func(delta int)
	Call      func(method string, took time.Duration, failed bool)
	Fetched   func(rows, bytes int)
	// LoginRefused is told of everybody who named a user and could not prove it, or may not act for another one.
	LoginRefused func(Login, error)
}

// Login is who wanted to log in.
type Login struct {
	User, Target      string // Target is whom it wanted to act for, or empty
	Address, FrontEnd string
}

// Server is the HiveServer2 front end.
type Server struct {
	opt     Options
	cookies *cookies
	wait    sync.WaitGroup
	// What calls need, for whichever is next.
	answerers, tools sync.Pool

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	users map[uuid.UUID]int // live connections that used a session
}

// New makes a Server.
func New(opt Options) *Server {
	s := &Server{opt: opt, cookies: newCookies(opt.HTTP), conns: map[net.Conn]struct{}{}, users: map[uuid.UUID]int{}}
	s.answerers.New, s.tools.New = s.newAnswerer, s.newTools
	return s
}

// Serve accepts connections until ctx ends, then closes them all and waits for what they do.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.Close()
		}
	})
	defer stop()
	defer s.wait.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed): // the gateway drains: who is inside may stay for a while
			<-ctx.Done()
			return nil
		case err != nil: // out of descriptors, say: others will end
			s.opt.Log.Warn("cannot accept a connection", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if !s.admit(conn) {
			continue
		}
		s.wait.Add(1)
		go func() {
			defer s.wait.Done()
			defer s.leave(conn)
			s.serve(ctx, conn)
		}()
	}
}

// linger lets a refused client read why: closing a connection with bytes of the client unread would reset it, and the
// answer be lost. Clients send their response together with the mechanism that we refused.
func linger(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok { // TCP, and TLS over it
		_ = c.CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 2*maxNegotiation))
}

var errClientGone = errors.New("the client is gone")

// watcher watches a connection while a call is answered. The client sends nothing then, so looking for its next byte
// tells when it goes; the byte stays in the buffer.
func watcher(conn net.Conn, in *bufio.Reader) func(context.Context) (context.Context, func()) {
	return func(ctx context.Context) (context.Context, func()) {
		_ = conn.SetReadDeadline(time.Time{}) // the request is here, and its call may take long
		ctx, cancel := context.WithCancelCause(ctx)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, err := in.Peek(1)
			var timeout net.Error
			if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
				cancel(errClientGone)
			}
		}()
		return ctx, func() {
			_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the goroutine
			<-gone
			_ = conn.SetReadDeadline(time.Time{})
			cancel(nil)
		}
	}
}

func (s *Server) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.opt.MaxConnections {
		s.opt.Log.Warn("connection refused: hs2.max_connections is reached", "client", conn.RemoteAddr(), "limit", s.opt.MaxConnections)
		_ = conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	if s.opt.Hooks.Connected != nil {
		s.opt.Hooks.Connected(1)
	}
	return true
}

func (s *Server) leave(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	if s.opt.Hooks.Connected != nil {
		s.opt.Hooks.Connected(-1)
	}
}

// serve speaks with one client until it goes.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	client := conn.RemoteAddr().String()
	log := s.opt.Log.With("client", client)
	h := &handler{server: s, client: client, log: log, used: map[uuid.UUID]struct{}{}}
	l := s.newLine(conn, h)
	defer l.leave()
	_ = conn.SetDeadline(time.Now().Add(s.opt.LoginTimeout))
	if err := s.greet(ctx, h, conn, l.in); err != nil {
		if !errors.Is(err, io.EOF) { // a port probe
			log.Info("login refused", "error", err)
			linger(conn)
		}
		return
	}
	_ = conn.SetDeadline(time.Time{})
	defer s.disconnected(h)
	for usable := true; usable && ctx.Err() == nil; {
		if err := l.wait(); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(s.opt.MessageTimeout))
		var err thrift.TException
		usable, err = l.Process(ctx, l.proto, l.proto)
		if usable {
			h.done()
			_ = conn.SetReadDeadline(time.Time{})
		}
		var panicked *tcli.PanicError
		switch {
		case errors.As(err, &panicked):
			log.Error("a call failed by a fault of ours", "error", err, "stack", string(panicked.Stack))
		case isTimeout(err):
			log.Info("connection closed: a request or its answer took longer than hs2.message_timeout on the way", "limit", s.opt.MessageTimeout)
		case err != nil && !isEnd(err) && !usable:
			log.Info("connection closed: the client's bytes are no call that we know", "error", err)
		}
	}
}

// greet brings a connection to where its first call can come: TLS, then the login.
func (s *Server) greet(ctx context.Context, h *handler, conn net.Conn, in *bufio.Reader) error {
	if c, ok := conn.(*tls.Conn); ok {
		if err := c.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("no TLS: %w", err)
		}
	}
	if !s.opt.SASL {
		return nil
	}
	rw := struct {
		io.Reader
		io.Writer
	}{in, conn}
	return negotiate(rw, func(authzid, user, password string) error { return h.login(ctx, authzid, user, password) })
}

// observe tells how long each call took.
func (s *Server) observe(name string, next thrift.TProcessorFunction) thrift.TProcessorFunction {
	if s.opt.Hooks.Call == nil {
		return next
	}
	return thrift.WrappedTProcessorFunction{Wrapped: func(ctx context.Context, seqID int32, in, out thrift.TProtocol) (bool, thrift.TException) {
		began := time.Now()
		usable, err := next.Process(ctx, seqID, in, out)
		s.opt.Hooks.Call(name, time.Since(began), err != nil)
		return usable, err
	}}
}

func isTimeout(err error) bool { return isTransport(err, thrift.TIMED_OUT) }

func isEnd(err error) bool { return isTransport(err, thrift.END_OF_FILE) }

// isTransport says that a transport failed in one of Thrift's ways.
func isTransport(err error, kind int) bool {
	var te thrift.TTransportException
	return errors.As(err, &te) && te.TypeId() == kind
}

// use counts a connection among a session's users.
func (s *Server) use(h *handler, id uuid.UUID) {
	if _, known := h.used[id]; known || h.used == nil {
		return
	}
	h.used[id] = struct{}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[id]++
}

// disconnected closes the sessions that no connection uses any more, after a grace time in which one may come back:
// several clients never close their sessions, and some use one session from a pool of connections.
func (s *Server) disconnected(h *handler) {
	for id := range h.used {
		s.mu.Lock()
		s.users[id]--
		orphan := s.users[id] == 0
		if orphan {
			delete(s.users, id)
		}
		s.mu.Unlock()
		if sess := s.opt.Sessions.Peek(id); orphan && sess != nil {
			s.orphaned(sess)
		}
	}
}

// Adopted tells of sessions that a gateway before this one has left: their connections are gone.
func (s *Server) Adopted(sessions []*session.Session) {
	for _, sess := range sessions {
		if sess.FrontEnd == frontEnd {
			s.orphaned(sess)
		}
	}
}

// orphaned closes a session unless a connection uses it before the grace time is over.
func (s *Server) orphaned(sess *session.Session) {
	if !s.opt.CloseOnDisconnect {
		return
	}
	time.AfterFunc(s.opt.DisconnectGrace, func() {
		s.mu.Lock()
		back := s.users[sess.ID] > 0
		s.mu.Unlock()
		if !back {
			_ = s.opt.Sessions.Close(context.Background(), sess, fmt.Sprintf("its client is gone for hs2.disconnect_grace (%s)", s.opt.DisconnectGrace))
		}
	})
}
