package hs2

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/apache/thrift/lib/go/thrift"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
)

// ServeHTTP answers one Thrift message in the body of a POST, HiveServer2's HTTP transport. Every request proves who
// its client is (Basic), and belongs to no connection: sessions end by CloseSession or when they are idle. A W3C trace
// context in the headers goes with the statement to the engine's jobs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Thrift calls are POSTed here", http.StatusMethodNotAllowed)
		return
	}
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	identity, err := s.basic(ctx, r)
	if err != nil {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, s.opt.MaxMessage)) // proxies want the body read
		w.Header().Set("WWW-Authenticate", `Basic realm="sluice"`)
		http.Error(w, "the user name or the password is wrong", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opt.MaxMessage))
	if err != nil {
		http.Error(w, "the request cannot be read, or is larger than hs2.max_message_size: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	reply, sent := s.answer(ctx, identity, doAs(r.URL.Query()), r.RemoteAddr, body)
	if reply.Len() == 0 {
		http.Error(w, "the body is no call of TCLIService", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-thrift")
	w.Header().Set("Content-Length", strconv.Itoa(reply.Len())) // so that a client sees when a part is missing
	if _, err := w.Write(reply.Bytes()); err != nil {
		return
	}
	if err := http.NewResponseController(w).Flush(); err == nil {
		sent()
	}
}

// answer runs the call that the body holds. sent is to be called once the answer is written.
func (s *Server) answer(ctx context.Context, identity *auth.Identity, target, client string, body []byte) (reply *bytes.Buffer, sent func()) {
	h := &handler{server: s, client: client, log: s.opt.Log.With("client", client), identity: identity, target: target,
		watch: func(ctx context.Context) (context.Context, func()) { return ctx, func() {} }} // net/http ends ctx when the client goes
	in, out := &thrift.TMemoryBuffer{Buffer: bytes.NewBuffer(body)}, &thrift.TMemoryBuffer{Buffer: &bytes.Buffer{}}
	conf := tcli.Configuration(int32(s.opt.MaxMessage))
	processor := thrift.WrapProcessor(tcli.NewProcessor(h, h), s.observe)
	if _, err := processor.Process(ctx, thrift.NewTBinaryProtocolConf(in, conf), thrift.NewTBinaryProtocolConf(out, conf)); err != nil {
		h.log.Debug("a call over HTTP failed", "error", err)
	}
	return out.Buffer, h.done
}

// basic proves the credentials of a request; one without any is asked like one with a wrong password, unless names
// are believed anyway.
func (s *Server) basic(ctx context.Context, r *http.Request) (*auth.Identity, error) {
	user, password, asked := r.BasicAuth()
	id, err := s.opt.Auth.Authenticate(ctx, user, password)
	if err != nil {
		err = s.loginFailure(err, s.opt.Log)
		if asked { // clients send no credentials first, to see whether any are wanted
			s.loginRefused(Login{User: user, Target: doAs(r.URL.Query()), Address: r.RemoteAddr, FrontEnd: frontEndHTTP}, err)
		}
	}
	return &id, err
}
