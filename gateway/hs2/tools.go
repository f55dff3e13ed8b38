package hs2

import (
	"bufio"
	"net"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
)

// answerer answers calls for whoever has it; making one takes longer than many a call.
type answerer struct {
	caller
	thrift.TProcessor
}

// caller is a handler that can be exchanged behind a processor.
type caller struct{ *handler }

func (s *Server) newAnswerer() any {
	a := &answerer{}
	a.TProcessor = thrift.WrapProcessor(tcli.NewProcessor(&a.caller, &a.caller), s.observe)
	return a
}

// tools are what a connection needs for a call. Most connections are idle most of the time, and have none then.
type tools struct {
	*answerer
	in        *bufio.Reader
	transport *transport
	proto     thrift.TProtocol
}

// readBuffer holds most requests; what is longer is read past it.
const readBuffer = 4 << 10

func (s *Server) newTools() any {
	t := &tools{answerer: s.newAnswerer().(*answerer), in: bufio.NewReaderSize(nil, readBuffer)}
	t.transport = newTransport(t.in, s.opt.SASL, uint32(s.opt.MaxMessage), s.opt.MessageTimeout)
	t.proto = thrift.NewTBinaryProtocolConf(t.transport, tcli.Configuration(int32(s.opt.MaxMessage)))
	return t
}

// line is a connection that has tools while it needs them.
type line struct {
	net.Conn
	server  *Server
	handler *handler
	*tools          // nil while it is idle
	ahead   [1]byte // the byte that ended the idle time
	has     bool
}

func (s *Server) newLine(conn net.Conn, h *handler) *line {
	l := &line{Conn: conn, server: s, handler: h}
	l.equip()
	return l
}

func (l *line) equip() {
	l.tools = l.server.tools.Get().(*tools)
	l.caller.handler = l.handler
	l.in.Reset(l)
	l.transport.bind(l.Conn)
	l.handler.watch = watcher(l.Conn, l.in)
}

// leave gives the tools back.
func (l *line) leave() {
	if l.tools == nil {
		return
	}
	l.handler.watch = nil
	l.caller.handler = nil
	l.in.Reset(nil)
	l.transport.bind(nil)
	l.server.tools.Put(l.tools)
	l.tools = nil
}

// wait waits for the next call, without tools if nothing of it is here yet.
func (l *line) wait() error {
	if l.in.Buffered() > 0 || l.transport.left > 0 {
		_, err := l.in.Peek(1)
		return err
	}
	l.leave()
	n, err := l.Conn.Read(l.ahead[:])
	if n == 0 {
		return err
	}
	l.has = true
	l.equip()
	return nil
}

// Read gives the byte that ended the idle time first.
func (l *line) Read(p []byte) (int, error) {
	if l.has && len(p) > 0 {
		l.has = false
		return copy(p, l.ahead[:]), nil
	}
	return l.Conn.Read(p)
}
