package hs2

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

// cursor is where the readers of an operation's rows and log stand. It belongs to the operation, because a client may
// fetch over several connections.
type cursor struct {
	mu    sync.Mutex
	cols  []tcli.Column
	row   int64 // the next one
	block int64 // where the block before began, for FETCH_PRIOR

	barDone atomic.Bool // the client was told of the complete progress

	logMu sync.Mutex // of its own: the log is read while somebody waits for rows
	line  int64      // of the log
}

func cursorOf(o *session.Operation) *cursor {
	return o.FrontEnd(func() any { return &cursor{row: o.Fetched()} }).(*cursor)
}

// columns describes the result. A statement without a result gets one column and no rows: Python clients fail on a
// result without columns.
func (c *cursor) columns(ctx context.Context, o *session.Operation) ([]tcli.Column, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.columnsLocked(ctx, o)
}

func (c *cursor) columnsLocked(ctx context.Context, o *session.Operation) ([]tcli.Column, error) {
	if c.cols != nil {
		return c.cols, nil
	}
	schema, err := o.Schema(ctx)
	if err != nil {
		return nil, err
	}
	cols := make([]tcli.Column, schema.NumFields())
	for i, f := range schema.Fields() {
		cols[i] = tcli.ColumnOf(f)
	}
	if err := tcli.CheckColumns(cols, schema); err != nil {
		return nil, &session.Failure{Class: "SLUICE_TYPE", SQLState: "0A000", Message: err.Error()}
	}
	if len(cols) == 0 {
		cols = []tcli.Column{{Name: "Result", Type: tcli.TTypeId_STRING_TYPE}}
	}
	c.cols = cols
	return cols, nil
}

// GetResultSetMetadata implements tcli.TCLIService. It waits until the columns are known.
func (h *handler) GetResultSetMetadata(ctx context.Context, req *tcli.TGetResultSetMetadataReq) (*tcli.TGetResultSetMetadataResp, error) {
	o, err := h.operation(req.OperationHandle)
	if err != nil {
		return &tcli.TGetResultSetMetadataResp{Status: h.failed(err)}, nil
	}
	ctx, stop := h.watch(ctx)
	defer stop()
	cols, err := cursorOf(o).columns(ctx, o)
	if err != nil {
		return &tcli.TGetResultSetMetadataResp{Status: h.failed(err)}, nil
	}
	return &tcli.TGetResultSetMetadataResp{Status: success(), Schema: tcli.Schema(cols, tcli.TProtocolVersion(o.Session.Protocol))}, nil
}

// FetchResults is answered by FetchEncoded.
func (h *handler) FetchResults(context.Context, *tcli.TFetchResultsReq) (*tcli.TFetchResultsResp, error) {
	panic("FetchResults is answered by FetchEncoded")
}

// fetchLog is the fetchType of the operation's log; anything else means rows.
const fetchLog = 1

// FetchEncoded implements tcli.FetchHandler.
func (h *handler) FetchEncoded(ctx context.Context, req *tcli.TFetchResultsReq) (*tcli.FetchReply, error) {
	o, err := h.operation(req.OperationHandle)
	if err != nil {
		return &tcli.FetchReply{Status: h.failed(err)}, nil
	}
	var reply *tcli.FetchReply
	if req.FetchType == fetchLog {
		reply, err = h.lines(o, cursorOf(o), req)
	} else {
		reply, err = h.rows(ctx, o, cursorOf(o), req)
	}
	if err != nil {
		return &tcli.FetchReply{Status: h.failed(err)}, nil
	}
	return reply, nil
}

func notSupported(orientation tcli.TFetchOrientation) error {
	return &session.Failure{Class: "SLUICE_FETCH_ORIENTATION", SQLState: "HYC00",
		Message: "The fetch type " + orientation.String() + " is not supported for this resultset: use FETCH_NEXT, FETCH_FIRST or FETCH_PRIOR"}
}

func (h *handler) rows(ctx context.Context, o *session.Operation, c *cursor, req *tcli.TFetchResultsReq) (*tcli.FetchReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch req.Orientation {
	case tcli.TFetchOrientation_FETCH_NEXT:
	case tcli.TFetchOrientation_FETCH_FIRST:
		c.row = 0
	case tcli.TFetchOrientation_FETCH_PRIOR:
		c.row = c.block
	default:
		return nil, notSupported(req.Orientation)
	}
	limit := req.MaxRows
	if limit <= 0 { // Hue means all; the bytes of a reply are bounded anyway
		limit = math.MaxInt32
	}
	if !o.Has(c.row) { // only who waits needs to know that the client is gone
		var stop func()
		ctx, stop = h.watch(ctx)
		defer stop()
	}
	cols, err := c.columnsLocked(ctx, o)
	if err != nil {
		return nil, err
	}
	size := func(b arrow.RecordBatch, from, to int) int { return tcli.RowSetSize(cols, b, from, to) }
	batches, more, err := o.Rows(ctx, c.row, limit, h.server.opt.FetchBytes, size)
	if err != nil {
		return nil, err
	}
	start := c.row
	for _, b := range batches {
		c.row += b.NumRows()
		defer b.Release()
	}
	rows := c.row - start
	c.block = start
	// Only what was sent counts as fetched: should we be killed before, the next gateway sends these rows again.
	h.sent = func() { o.SetFetched(context.WithoutCancel(ctx), start+rows) }
	room := rowSets.Get().(*[]byte)
	set := tcli.AppendRowSet((*room)[:0], tcli.TProtocolVersion(o.Session.Protocol), start, cols, batches)
	*room = set
	o.Sent(c.row-start, int64(len(set)))
	if h.server.opt.Hooks.Fetched != nil {
		h.server.opt.Hooks.Fetched(int(rows), len(set))
	}
	return &tcli.FetchReply{Status: success(), HasMoreRows: more && rows > 0, RowSet: set, Release: func() { rowSets.Put(room) }}, nil
}

// rowSets is room for encoded row sets, used again by whichever connection is next.
var rowSets = sync.Pool{New: func() any { return new([]byte) }}

var logColumns = []tcli.Column{{Name: "operation_log", Type: tcli.TTypeId_STRING_TYPE}}

// lines never waits: clients fetch until nothing comes.
func (h *handler) lines(o *session.Operation, c *cursor, req *tcli.TFetchResultsReq) (*tcli.FetchReply, error) {
	c.logMu.Lock()
	defer c.logMu.Unlock()
	switch req.Orientation {
	case tcli.TFetchOrientation_FETCH_NEXT:
	case tcli.TFetchOrientation_FETCH_FIRST:
		c.line = 0
	default:
		return nil, notSupported(req.Orientation)
	}
	limit := 10_000
	if req.MaxRows > 0 {
		limit = int(min(req.MaxRows, int64(limit)))
	}
	var lines []string
	start := c.line
	lines, c.line = o.Log().Read(c.line, limit)
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(lines, nil)
	column := b.NewArray()
	defer column.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: logColumns[0].Name, Type: arrow.BinaryTypes.String}}, nil)
	batch := array.NewRecordBatch(schema, []arrow.Array{column}, int64(len(lines)))
	defer batch.Release()
	set := tcli.AppendRowSet(nil, tcli.TProtocolVersion(o.Session.Protocol), start, logColumns, []arrow.RecordBatch{batch})
	return &tcli.FetchReply{Status: success(), RowSet: set}, nil
}
