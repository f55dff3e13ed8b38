// Package event keeps the audit trail: a record of every session and operation, in the store and as JSON lines. Records
// are written by goroutines of its own, so that neither a slow nor a broken place to write to is felt by a statement.
package event

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/gateway/store"
)

// Record is one event.
type Record = store.Audit

// The kinds of records.
const (
	LoginRefused   = "login_refused"
	SessionRefused = "session_refused"
	SessionOpened  = "session_opened"
	SessionClosed  = "session_closed"
	OperationEnded = "operation_ended" // once for each operation: it has ended, and its client has done with it
)

// What a record may hold of a statement.
const (
	Hash = "hash"
	None = "none"
)

// ID names the one event of a kind in the life of what it is about. Two gateways that both tell of it, the second one
// after the first was killed, make one record in the store.
func ID(kind string, of uuid.UUID) uuid.UUID { return uuid.NewSHA1(of, []byte(kind)) }

// Store keeps records; store.Store does.
type Store interface {
	AddAudit(ctx context.Context, records []Record) error
	PruneAudit(ctx context.Context, before time.Time, max int) (int64, error)
}

// Options of a Trail.
type Options struct {
	Store        Store         // nil: no store
	Keep         time.Duration // for which the store keeps records
	Lines        io.Writer     // gets the records as JSON lines, a call each; nil: nobody does
	Statements   string        // what is kept of a statement: Hash, None, or else all
	MaxStatement int           // bytes
	Buffer       int64         // about how many bytes of records may wait for each place
	Dropped      func(to string, n int)
	Log          *slog.Logger
}

// Trail takes records and writes them.
type Trail struct {
	opt   Options
	sinks []*sink
}

const (
	// gather is how long records for the store wait for others to share their transaction.
	gather = 200 * time.Millisecond
	// batch bounds a transaction.
	batch = 200
	// flushLimit is how long the end of a gateway may wait for its last records to be written.
	flushLimit = 5 * time.Second
	// pruneEvery and pruneBatch are how often old records are removed, and how many at once.
	pruneEvery = 24 * time.Hour
	pruneBatch = 5000
	// maxError bounds the text of an error.
	maxError = 1000
)

// New makes a Trail. Records wait until Run is called.
func New(opt Options) *Trail {
	t := &Trail{opt: opt}
	if opt.Lines != nil {
		t.sinks = append(t.sinks, newSink("lines", opt, 0, t.writeLines))
	}
	if opt.Store != nil {
		t.sinks = append(t.sinks, newSink("store", opt, gather, t.writeStore))
	}
	return t
}

// Add takes a record. It never blocks: what does not fit into the buffer is dropped and counted.
func (t *Trail) Add(r Record) {
	r.Time = r.Time.Truncate(time.Microsecond).UTC() // as the store keeps it
	r.Statement = t.statement(r.Statement)
	r.Error, _, _ = strings.Cut(r.Error, "\n")
	r.Error = cut(r.Error, maxError)
	if r.Kind == OperationEnded && (t.opt.Statements == Hash || t.opt.Statements == None) {
		r.Error = "" // engines quote the statement in it
	}
	for _, s := range t.sinks {
		s.add(r)
	}
}

func (t *Trail) statement(text string) string {
	switch {
	case text == "" || t.opt.Statements == None:
		return ""
	case t.opt.Statements == Hash:
		sum := sha256.Sum256([]byte(text))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	return cut(text, t.opt.MaxStatement)
}

// cut shortens a text, not within a letter, and says so.
func cut(text string, max int) string {
	if len(text) <= max {
		return text
	}
	for max > 0 && text[max]&0xc0 == 0x80 {
		max--
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:max], len(text))
}

// Run writes records, and removes old ones from the store, until ctx ends; then it writes what is left.
func (t *Trail) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	for _, s := range t.sinks {
		wait.Go(func() { s.run(ctx) })
	}
	if t.opt.Store != nil {
		wait.Go(func() { t.pruneAll(ctx) })
	}
	<-ctx.Done()
	wait.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	for _, s := range t.sinks {
		s.finish(last)
	}
	return nil
}

// Waiting is how many records are not written yet in the place where most are not.
func (t *Trail) Waiting() int {
	n := 0
	for _, s := range t.sinks {
		n = max(n, s.waiting())
	}
	return n
}

// writeLines writes a JSON object and a line's end for each record.
func (t *Trail) writeLines(_ context.Context, records []Record) (int, error) {
	for i, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return i, err
		}
		if _, err := t.opt.Lines.Write(append(line, '\n')); err != nil {
			return i, err
		}
	}
	return len(records), nil
}

// writeStore writes records in one transaction. Should the store refuse them, halves find the one that it means, which is
// lost then: it must not keep all later ones from being written.
func (t *Trail) writeStore(ctx context.Context, records []Record) (int, error) {
	err := t.opt.Store.AddAudit(ctx, records)
	switch {
	case err == nil:
		return len(records), nil
	case errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil:
		return 0, err
	case len(records) == 1:
		t.opt.Log.Error("the store refuses an audit record, which is lost", "record", records[0].ID, "kind", records[0].Kind, "error", err)
		t.opt.Dropped("store", 1)
		return 1, nil
	}
	return t.writeStore(ctx, records[:len(records)/2])
}

func (t *Trail) pruneAll(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if err := t.prune(ctx); err != nil && ctx.Err() == nil {
			t.opt.Log.Warn("cannot remove old audit records; it is tried again in a day", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (t *Trail) prune(ctx context.Context) error {
	before := time.Now().Add(-t.opt.Keep)
	for {
		n, err := t.opt.Store.PruneAudit(ctx, before, pruneBatch)
		if err != nil || n < pruneBatch {
			return err
		}
	}
}
