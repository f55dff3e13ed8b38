package hs2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
)

// HTTPOptions are those of the HTTP transport.
type HTTPOptions struct {
	CookieKey  []byte        // signs cookies; the same on every replica
	CookieAge  time.Duration // for how long a cookie proves who its client is; 0 gives none out
	Secure     bool          // cookies go over TLS only
	ClientCert bool          // clients must have shown a certificate, too
	Compress   bool          // replies in gzip for clients that take it
}

// Paths are where the HTTP transport is found: at the configured path and below it, since clients end it with a slash or
// not; where JDBC goes without a path; and where clients of Databricks' servers go.
func Paths(path string) []string {
	path = strings.Trim(path, "/")
	out := []string{"/", "/sql/protocolv1/o/:org/*cluster"}
	if path != "" {
		out = append(out, "/"+path, "/"+path+"/*rest")
	}
	return out
}

// ServeHTTP answers one Thrift message in the body of a POST, HiveServer2's HTTP transport. Every request proves who
// its client is, and belongs to no connection: sessions end by CloseSession or when they are idle. A W3C trace context
// in the headers goes with the statement to the engine's jobs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	deadlines := http.NewResponseController(w)
	until := time.Now().Add(s.opt.MessageTimeout)
	_ = deadlines.SetReadDeadline(until)
	_ = deadlines.SetWriteDeadline(until)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Thrift calls are POSTed here", http.StatusMethodNotAllowed)
		return
	}
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	identity, err := s.identify(ctx, w, r)
	if err != nil {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, s.opt.MaxMessage)) // proxies want the body read
		w.Header().Set("WWW-Authenticate", `Basic realm="sluice"`)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	body, ok := s.readBody(w, r)
	if !ok {
		return
	}
	_ = deadlines.SetReadDeadline(time.Time{}) // a call may take long, and net/http reads on to see whether its client goes
	_ = deadlines.SetWriteDeadline(time.Time{})
	reply, sent := s.answer(ctx, identity, doAs(r.URL.Query()), r.RemoteAddr, r.UserAgent(), body)
	if reply.Len() == 0 {
		http.Error(w, "the body is no call of TCLIService", http.StatusBadRequest)
		return
	}
	_ = deadlines.SetWriteDeadline(time.Now().Add(s.opt.MessageTimeout))
	s.writeReply(w, r, reply.Bytes(), sent)
}

// readBody reads a request whole; where it cannot, it tells the client so.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		http.Error(w, fmt.Sprintf("Content-Encoding %q: requests are taken as they are, without an encoding", e), http.StatusUnsupportedMediaType)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opt.MaxMessage))
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return body, true
	case errors.As(err, &large):
		http.Error(w, fmt.Sprintf("the request is larger than hs2.max_message_size (%d bytes)", large.Limit), http.StatusRequestEntityTooLarge)
	default:
		http.Error(w, "the request cannot be read: "+err.Error(), http.StatusBadRequest)
	}
	return nil, false
}

// writeReply sends a reply with its length, so that a client sees when a part is missing.
func (s *Server) writeReply(w http.ResponseWriter, r *http.Request, reply []byte, sent func()) {
	w.Header().Set("Content-Type", "application/x-thrift")
	if s.opt.HTTP.Compress {
		w.Header().Set("Vary", "Accept-Encoding")
		if len(reply) >= worthCompressing && acceptsGzip(r.Header.Values("Accept-Encoding")) {
			w.Header().Set("Content-Encoding", "gzip")
			reply = compress(reply)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	if _, err := w.Write(reply); err != nil {
		return
	}
	if err := http.NewResponseController(w).Flush(); err == nil {
		sent()
	}
}

// worthCompressing is about what fits into one packet anyway.
const worthCompressing = 1400

// compressors are writers whose tables, several hundred kilobytes, are used again. The fastest level is the one that
// pays inside a data centre.
var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}}

func compress(data []byte) []byte {
	var out bytes.Buffer
	z := compressors.Get().(*gzip.Writer)
	defer compressors.Put(z)
	z.Reset(&out)
	_, _ = z.Write(data) // a buffer takes everything
	_ = z.Close()
	return out.Bytes()
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3): a coding with q=0 is one that the client does not want.
func acceptsGzip(accept []string) bool {
	for _, coding := range strings.Split(strings.Join(accept, ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, weighted := strings.CutPrefix(strings.ToLower(strings.TrimSpace(weight)), "q=")
		n, err := strconv.ParseFloat(q, 64)
		return !weighted || err == nil && n > 0
	}
	return false
}

// answer runs the call that the body holds. sent is to be called once the answer is written.
func (s *Server) answer(ctx context.Context, identity *auth.Identity, target, client, agent string, body []byte) (reply *bytes.Buffer, sent func()) {
	h := &handler{server: s, client: client, agent: agent, log: s.opt.Log.With("client", client), identity: identity, target: target,
		watch: func(ctx context.Context) (context.Context, func()) { return ctx, func() {} }} // net/http ends ctx when the client goes
	in, out := &thrift.TMemoryBuffer{Buffer: bytes.NewBuffer(body)}, &thrift.TMemoryBuffer{Buffer: &bytes.Buffer{}}
	conf := tcli.Configuration(int32(s.opt.MaxMessage))
	a := s.answerers.Get().(*answerer)
	defer s.answerers.Put(a)
	a.handler = h
	if _, err := a.Process(ctx, thrift.NewTBinaryProtocolConf(in, conf), thrift.NewTBinaryProtocolConf(out, conf)); err != nil {
		h.log.Debug("a call over HTTP failed", "error", err)
	}
	return out.Buffer, h.done
}
