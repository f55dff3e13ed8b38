package route

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"sync/atomic"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/replay"
	"github.com/sluicedata/sluice/router/rules"
)

// recordBuffer is how many decisions may wait to be written; a disk that is slower loses some, and the record says how
// many.
const recordBuffer = 4096

// Recorder writes the decisions of a router as lines of JSON that router/replay reads, and nothing of a statement but what
// it touches. It slows nobody down.
type Recorder struct {
	to      io.Writer
	log     *slog.Logger
	queue   chan recorded
	dropped atomic.Int64
	last    *router.Snapshot
	since   int // bytes since all states were written
}

type recorded struct {
	request  router.Request
	now      *router.Snapshot
	decision *replay.Decision
}

// NewRecorder makes a recorder. Nothing is written before Run.
func NewRecorder(to io.Writer, log *slog.Logger) *Recorder {
	return &Recorder{to: to, log: log, queue: make(chan recorded, recordBuffer)}
}

func (r *Recorder) add(req *router.Request, now *router.Snapshot, d rules.Decision, err error) {
	select {
	case r.queue <- recorded{*req, now, replay.Of(d, err)}:
	default:
		r.dropped.Add(1)
	}
}

// Dropped is how many decisions were not recorded.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Run writes until ctx ends, and then what is left.
func (r *Recorder) Run(ctx context.Context) error {
	_, _ = io.WriteString(r.to, "\n") // a gateway that was killed may have left half a line, and ours must not become its end
	for {
		select {
		case one := <-r.queue:
			r.write(one)
		case <-ctx.Done():
			for {
				select {
				case one := <-r.queue:
					r.write(one)
				default:
					return nil
				}
			}
		}
	}
}

// secret are names of settings whose values are not recorded.
var secret = regexp.MustCompile(`(?i)(pass|secret|token|credential|key)`)

// longest is the longest value of a setting that is recorded.
const longest = 512

func (r *Recorder) write(one recorded) {
	if one.now != r.last {
		r.line(r.state(one.now))
		r.last = one.now
	}
	conf := maps.Clone(one.request.Conf)
	maps.DeleteFunc(conf, func(k, v string) bool { return secret.MatchString(k) || len(v) > longest })
	one.request.Conf, one.request.SQL.Why = conf, "" // which may quote the statement
	r.line(replay.Line{At: one.request.At, Request: &one.request, Decision: one.decision})
}

// stateEvery is after how many bytes all states are written again: a file may begin anywhere between.
const stateEvery = 1 << 20

// state is what has changed of the clusters since the last line.
func (r *Recorder) state(now *router.Snapshot) replay.Line {
	l := replay.Line{At: now.At}
	for i, c := range now.Clusters {
		if r.last == nil {
			l.Names = append(l.Names, c.Name)
		}
		if r.last == nil || !reflect.DeepEqual(c, r.last.Clusters[i]) {
			l.Clusters = append(l.Clusters, c)
		}
	}
	return l
}

func (r *Recorder) line(l replay.Line) {
	data, err := json.Marshal(l)
	if err == nil {
		_, err = r.to.Write(append(data, '\n'))
	}
	if r.since += len(data); r.since > stateEvery {
		r.last, r.since = nil, 0
	}
	if err != nil {
		r.dropped.Add(1)
		r.log.Debug("cannot record a decision of the router", "error", err)
	}
}
