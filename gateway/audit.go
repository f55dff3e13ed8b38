package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/sluicedata/sluice/gateway/event"
	"github.com/sluicedata/sluice/gateway/hs2"
	"github.com/sluicedata/sluice/gateway/session"
	"github.com/sluicedata/sluice/gateway/store"
)

// audit turns what the rooms tell into records of the trail.
type audit struct {
	trail   *event.Trail
	gateway func() string // who we are among the gateways
	lines   io.WriteCloser
}

func (g *Gateway) newAudit() (*audit, error) {
	c := g.cfg.Audit
	a := &audit{gateway: g.replica.ID}
	opt := event.Options{
		Keep: c.Keep, Statements: c.Statements, MaxStatement: int(c.MaxStatement), Buffer: int64(c.Buffer), Log: g.log,
		Dropped: func(to string, n int) { g.metrics.auditDropped.WithLabelValues(to).Add(float64(n)) },
	}
	if c.Store {
		opt.Store = g.store
	}
	switch c.File {
	case "":
	case "stdout":
		opt.Lines = os.Stdout
	case "stderr":
		opt.Lines = os.Stderr
	default:
		a.lines = &lumberjack.Logger{Filename: c.File, MaxSize: int(c.FileSize >> 20), MaxBackups: c.Files}
		if _, err := a.lines.Write(nil); err != nil { // opens it
			return nil, fmt.Errorf("audit.file: %w", err)
		}
		opt.Lines = a.lines
	}
	a.trail = event.New(opt)
	return a, nil
}

func (a *audit) close() {
	if a.lines != nil {
		_ = a.lines.Close()
	}
}

// add completes a record with its time, unless it has one, and with who we are.
func (a *audit) add(r event.Record) {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	if r.ID == uuid.Nil {
		r.ID = uuid.New()
	}
	r.Gateway = a.gateway()
	a.trail.Add(r)
}

// sessions adds the trail to the hooks of the metrics.
func (a *audit) sessions(h session.Hooks) session.Hooks {
	h.SessionOpened = func(s store.Session) {
		r := ofSession(event.SessionOpened, s)
		r.Time = s.OpenedAt
		a.add(r)
	}
	h.SessionClosed = func(s store.Session, why string) {
		r := ofSession(event.SessionClosed, s)
		r.Reason, r.RanMS = why, time.Since(s.OpenedAt).Milliseconds()
		a.add(r)
	}
	h.SessionRefused = func(req session.OpenRequest, err error) {
		r := event.Record{Kind: event.SessionRefused, User: req.Identity.User, RealUser: req.Identity.RealUser, Address: req.ClientAddr,
			FrontEnd: req.FrontEnd, Catalog: req.Catalog, Database: req.Database, Profile: req.Conf[session.ProfileKey]}
		setError(&r, err)
		a.add(r)
	}
	h.OperationDone = func(d session.Done) { a.add(ofOperation(d)) }
	return h
}

// hs2 adds the trail to the hooks of the metrics.
func (a *audit) hs2(h hs2.Hooks) hs2.Hooks {
	h.LoginRefused = func(l hs2.Login, err error) {
		r := event.Record{Kind: event.LoginRefused, User: l.User, Address: l.Address, FrontEnd: l.FrontEnd}
		if l.Target != "" && l.Target != l.User {
			r.User, r.RealUser = l.Target, l.User
		}
		setError(&r, err)
		a.add(r)
	}
	return h
}

func ofSession(kind string, s store.Session) event.Record {
	return event.Record{
		ID: event.ID(kind, s.ID), Kind: kind, Session: s.ID.String(), User: s.User, RealUser: s.RealUser, Address: s.ClientAddr, FrontEnd: s.FrontEnd,
		Catalog: s.Catalog, Database: s.Database, Profile: s.Conf[session.ProfileKey],
	}
}

func ofOperation(d session.Done) event.Record {
	o := d.Operation
	r := ofSession(event.OperationEnded, d.Session)
	r.ID, r.Operation = event.ID(event.OperationEnded, o.ID), o.ID.String()
	r.Catalog, r.Database = d.Catalog, d.Database
	r.StatementKind, r.Statement = o.Kind, ""
	if o.Kind == string(session.Statement) {
		r.StatementKind, r.Statement = firstWord(o.Statement), o.Statement
	}
	if r.Engine = o.EngineID; r.Engine != "" && d.Key.Cluster != "" {
		r.Cluster, r.ShareKey, r.Route = d.Key.Cluster, d.Key.String(), d.Route
	}
	r.Rows, r.RowsFetched, r.Bytes = o.Rows, d.RowsSent, d.BytesSent
	r.State, r.ErrorClass, r.SQLState, r.Error = o.State, o.ErrorClass, o.SQLState, o.ErrorMessage
	if o.EndedAt != nil {
		r.Time = *o.EndedAt
		r.WaitedMS, r.RanMS = spans(o, d.Key.Cluster != "")
	}
	return r
}

// spans are how long an operation waited for an engine and how long it ran. One that reached none only waited, unless the
// gateway answered it.
func spans(o store.Operation, reached bool) (waited, ran int64) {
	started := o.StartedAt
	if started == nil || !reached && o.State != string(session.Finished) {
		started = o.EndedAt
	}
	return started.Sub(o.CreatedAt).Milliseconds(), o.EndedAt.Sub(*started).Milliseconds()
}

// firstWord is the word that a statement begins with, behind comments and brackets: SELECT, INSERT, WITH.
func firstWord(statement string) string {
	word := session.FirstWord(statement)
	if len(word) > 32 || strings.ContainsFunc(word, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "" // nothing that a statement begins with
	}
	return strings.ToUpper(word)
}

func setError(r *event.Record, err error) {
	r.Error = err.Error()
	var f *session.Failure
	if errors.As(err, &f) {
		r.ErrorClass, r.SQLState = f.Class, f.SQLState
	}
}
