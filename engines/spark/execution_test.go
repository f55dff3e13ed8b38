package spark

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a Connect server that plays a script: the responses of each operation are fixed, and after each one it may
// break the stream. It keeps what a server keeps, so that a client can attach again.
type peer struct {
	connectpb.UnimplementedSparkConnectServiceServer
	mu       sync.Mutex
	script   []*connectpb.ExecutePlanResponse
	cutAfter map[int]error // number of a response, counted over all streams, to how the stream ends behind it; io.EOF is OK
	sent     int
	executed []*connectpb.ExecutePlanRequest
	attached []*connectpb.ReattachExecuteRequest
	released []*connectpb.ReleaseExecuteRequest
	dropped  int  // so many responses were released
	lostExec int  // so many ExecutePlan calls fail before the server has seen them
	forgets  bool // nobody can attach again
	tokens   []string
}

func (p *peer) ExecutePlan(req *connectpb.ExecutePlanRequest, out grpc.ServerStreamingServer[connectpb.ExecutePlanResponse]) error {
	p.mu.Lock()
	if md, ok := metadata.FromIncomingContext(out.Context()); ok {
		p.tokens = append(p.tokens, md.Get("authorization")...)
	}
	if p.lostExec > 0 {
		p.lostExec--
		p.mu.Unlock()
		return status.Error(codes.Unavailable, "connection refused")
	}
	p.executed = append(p.executed, req)
	p.mu.Unlock()
	return p.play(0, out)
}

func (p *peer) ReattachExecute(req *connectpb.ReattachExecuteRequest, out grpc.ServerStreamingServer[connectpb.ExecutePlanResponse]) error {
	p.mu.Lock()
	p.attached = append(p.attached, req)
	known := false
	for _, e := range p.executed {
		known = known || e.GetOperationId() == req.OperationId && !p.forgets
	}
	p.mu.Unlock()
	if !known {
		return status.Error(codes.Internal, "[INVALID_HANDLE.OPERATION_NOT_FOUND] The handle is invalid. SQLSTATE: HY000")
	}
	from := p.behind(req.GetLastResponseId())
	p.mu.Lock()
	dropped := p.dropped
	p.mu.Unlock()
	if from < dropped {
		return status.Error(codes.Internal, "[INVALID_CURSOR.POSITION_NOT_AVAILABLE] The cursor position is no longer available")
	}
	return p.play(from, out)
}

// behind is how many responses there are up to the one with an id. Ids of dropped responses are known too.
func (p *peer) behind(id string) int {
	for i, r := range p.script {
		if r.ResponseId == id {
			return i + 1
		}
	}
	return 0
}

func (p *peer) play(from int, out grpc.ServerStreamingServer[connectpb.ExecutePlanResponse]) error {
	for _, r := range p.script[from:] {
		if err := out.Send(r); err != nil {
			return err
		}
		p.mu.Lock()
		p.sent++
		cut, broken := p.cutAfter[p.sent]
		p.mu.Unlock()
		if errors.Is(cut, io.EOF) {
			return nil
		}
		if broken {
			return cut
		}
	}
	return nil
}

func (p *peer) ReleaseExecute(_ context.Context, req *connectpb.ReleaseExecuteRequest) (*connectpb.ReleaseExecuteResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = append(p.released, req)
	if until := req.GetReleaseUntil(); until != nil {
		p.dropped = max(p.dropped, p.behind(until.ResponseId))
	}
	return &connectpb.ReleaseExecuteResponse{}, nil
}

func connect(t *testing.T, p *peer) *session { return dial(t, p).session(uuid.New(), "ann") }

// dial serves a peer and connects with it.
func dial(t *testing.T, p connectpb.SparkConnectServiceServer) *engine {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer()
	connectpb.RegisterSparkConnectServiceServer(srv, p)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	e, err := Driver{}.Dial(t.Context(), engines.Endpoint{Address: l.Addr().String(), Token: "secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close(); srv.Stop(); <-served })
	return e.(*engine)
}

func stream(t *testing.T, from, to int64) []byte { return streamOf(t, [2]int64{from, to}) }

// two is one Arrow stream of two batches.
func two(t *testing.T) []byte { return streamOf(t, [2]int64{0, 10}, [2]int64{10, 20}) }

func streamOf(t *testing.T, batches ...[2]int64) []byte {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, ipc.WithSchema(schema))
	for _, span := range batches {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := span[0]; i < span[1]; i++ {
			b.Field(0).(*array.Int64Builder).Append(i)
		}
		rec := b.NewRecordBatch()
		require.NoError(t, w.Write(rec))
		rec.Release()
		b.Release()
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// rowsScript is a query's answer: schema, progress, three batches of which the second comes in two parts, and the end.
func rowsScript(t *testing.T) []*connectpb.ExecutePlanResponse {
	part := func(data []byte, index, count int64) *connectpb.ExecutePlanResponse {
		return &connectpb.ExecutePlanResponse{ResponseType: &connectpb.ExecutePlanResponse_ArrowBatch_{
			ArrowBatch: &connectpb.ExecutePlanResponse_ArrowBatch{Data: data, ChunkIndex: &index, NumChunksInBatch: &count}}}
	}
	middle := stream(t, 10, 20)
	long := &connectpb.DataType{Kind: &connectpb.DataType_Long{Long: &connectpb.DataType_Empty{}}}
	fields := []*connectpb.DataType_StructField{{Name: "id", DataType: long, Metadata: ptr(`{"comment":"the key"}`)}}
	script := []*connectpb.ExecutePlanResponse{
		{Schema: &connectpb.DataType{Kind: &connectpb.DataType_Struct_{Struct: &connectpb.DataType_Struct{Fields: fields}}}},
		{ResponseType: &connectpb.ExecutePlanResponse_ExecutionProgress_{ExecutionProgress: &connectpb.ExecutePlanResponse_ExecutionProgress{
			Stages: []*connectpb.ExecutePlanResponse_ExecutionProgress_StageInfo{{StageId: 4, NumTasks: 8, NumCompletedTasks: 2}}}}},
		part(stream(t, 0, 10), 0, 1),
		part(middle[:len(middle)/2], 0, 2),
		part(middle[len(middle)/2:], 1, 2),
		part(stream(t, 20, 30), 0, 1),
		{ResponseType: &connectpb.ExecutePlanResponse_ResultComplete_{ResultComplete: &connectpb.ExecutePlanResponse_ResultComplete{}}},
	}
	for i, r := range script {
		r.ResponseId = uuid.NewSHA1(uuid.Nil, []byte{byte(i)}).String()
	}
	return script
}

func ids(t *testing.T, e engines.Execution) ([]int64, error) {
	var out []int64
	for {
		b, at, err := e.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, b.Column(0).(*array.Int64).Int64Values()...)
		b.Release()
		require.Equal(t, int64(len(out)), at.Rows)
	}
}

func upTo(n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

// The stream is broken behind every response in turn, in each way in which streams break; every row comes once.
func TestEveryCutIsMended(t *testing.T) {
	for name, cut := range map[string]error{
		"the server's own end of a long stream": io.EOF,
		"transport":                             status.Error(codes.Unavailable, "broken pipe"),
		"another reader":                        status.Error(codes.Internal, "[INVALID_CURSOR.DISCONNECTED] The cursor has been disconnected"),
	} {
		t.Run(name, func(t *testing.T) {
			n := len(rowsScript(t))
			for at := 1; at < n; at++ {
				p := &peer{script: rowsScript(t), cutAfter: map[int]error{at: cut}}
				e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
				require.NoError(t, err)
				got, err := ids(t, e)
				require.NoError(t, err)
				require.Equal(t, upTo(30), got, "cut behind response %d", at)
				require.Len(t, p.executed, 1, "the statement is sent once")
				require.NotEmpty(t, p.attached)
			}
		})
	}
}

func TestQuery(t *testing.T) {
	p := &peer{script: rowsScript(t)}
	var told []engines.Progress
	id := uuid.New()
	e, err := connect(t, p).Start(t.Context(), id, engines.Query{SQL: "SELECT id FROM t", ReturnRows: true, Tags: []string{"a"},
		Progress: func(p engines.Progress) { told = append(told, p) }})
	require.NoError(t, err)
	got, err := ids(t, e)
	require.NoError(t, err)
	require.Equal(t, upTo(30), got)
	require.Equal(t, []engines.Progress{{Stages: []engines.Stage{{ID: 4, Tasks: 8, Done: 2}}}}, told)
	comment, _ := e.Schema().Field(0).Metadata.GetValue(metadataKey)
	require.JSONEq(t, `{"comment":"the key"}`, comment)
	require.Equal(t, []string{"Bearer secret"}, p.tokens)
	req := p.executed[0]
	require.Equal(t, id.String(), req.GetOperationId(), "the id is the caller's")
	require.Equal(t, []string{"a"}, req.Tags)
	require.Equal(t, "SELECT id FROM t", req.Plan.GetRoot().GetSql().GetQuery(), "one step")
	require.NoError(t, e.Release(t.Context()))
	require.Equal(t, id.String(), p.released[0].OperationId)
}

func TestAttachBehindAPosition(t *testing.T) {
	p := &peer{script: rowsScript(t)}
	s := connect(t, p)
	id := uuid.New()
	e, err := s.Start(t.Context(), id, engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
	require.NoError(t, err)
	b, at, err := e.Next(t.Context())
	require.NoError(t, err)
	b.Release()
	other, err := s.Attach(t.Context(), id, at)
	require.NoError(t, err)
	var rest []int64
	for {
		b, _, err := other.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		rest = append(rest, b.Column(0).(*array.Int64).Int64Values()...)
		b.Release()
	}
	require.Equal(t, upTo(30)[10:], rest)
	e.(*execution).close()
}

func TestAQueryThatTheServerNeverSawIsSentAgain(t *testing.T) {
	p := &peer{script: rowsScript(t), lostExec: 1}
	e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
	require.NoError(t, err)
	got, err := ids(t, e)
	require.NoError(t, err)
	require.Equal(t, upTo(30), got)
}

// A server before 4.0 runs again what it has forgotten, so a query is sent twice only if nothing of it has come.
func TestAQueryOfWhichRowsCameIsNeverSentTwice(t *testing.T) {
	for at := 1; at < len(rowsScript(t)); at++ {
		p := &peer{script: rowsScript(t), forgets: true, cutAfter: map[int]error{at: io.EOF}}
		e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT id FROM t", ReturnRows: true})
		require.NoError(t, err)
		_, err = ids(t, e)
		var failure *engines.Error
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "INVALID_HANDLE.OPERATION_NOT_FOUND", failure.Class)
		require.Len(t, p.executed, 1, "cut behind response %d", at)
	}
}

// A command may have run before its answer was lost, so it is never sent twice.
func TestACommandIsNeverSentTwice(t *testing.T) {
	p := &peer{lostExec: 1}
	e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "INSERT INTO t VALUES (1)"})
	require.NoError(t, err)
	_, err = ids(t, e)
	var failure *engines.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "INVALID_HANDLE.OPERATION_NOT_FOUND", failure.Class)
	require.Empty(t, p.executed)
}

func TestACommandsRowsComeWithItsAnswer(t *testing.T) {
	local := &connectpb.LocalRelation{Data: stream(t, 0, 4)}
	p := &peer{script: []*connectpb.ExecutePlanResponse{
		{ResponseId: "a", ResponseType: &connectpb.ExecutePlanResponse_SqlCommandResult_{SqlCommandResult: &connectpb.ExecutePlanResponse_SqlCommandResult{
			Relation: &connectpb.Relation{RelType: &connectpb.Relation_LocalRelation{LocalRelation: local}}}}},
		{ResponseId: "b", ResponseType: &connectpb.ExecutePlanResponse_ResultComplete_{ResultComplete: &connectpb.ExecutePlanResponse_ResultComplete{}}},
	}}
	id := uuid.New()
	e, err := connect(t, p).Start(t.Context(), id, engines.Query{SQL: "SHOW TABLES"})
	require.NoError(t, err)
	got, err := ids(t, e)
	require.NoError(t, err)
	require.Equal(t, upTo(4), got)
	require.Len(t, p.executed, 1)
	require.Equal(t, "SHOW TABLES", p.executed[0].Plan.GetCommand().GetSqlCommand().GetSql())
	require.NotEqual(t, id.String(), p.executed[0].GetOperationId(), "the first step has an id of its own")
}

// There is nothing to interrupt, and looking for it takes a second.
func TestWhatHasFailedIsNotInterrupted(t *testing.T) {
	p := &peer{script: rowsScript(t), cutAfter: map[int]error{1: status.Error(codes.Internal, "[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012")}}
	e, err := connect(t, p).Start(t.Context(), uuid.New(), engines.Query{SQL: "SELECT 1/0", ReturnRows: true})
	require.NoError(t, err)
	_, _, err = e.Next(t.Context())
	var failure *engines.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "22012", failure.SQLState)
	require.NoError(t, e.Cancel(t.Context()), "an interrupt would be refused by this server")
}

func TestErrorsAreTakenApart(t *testing.T) {
	for name, tc := range map[string]struct {
		text, class, state string
		canceled           bool
	}{
		"class and state in the text": {"[TABLE_OR_VIEW_NOT_FOUND] The table. SQLSTATE: 42P01; line 1", "TABLE_OR_VIEW_NOT_FOUND", "42P01", false},
		"behind an empty line":        {"\n[PARSE_SYNTAX_ERROR] Syntax error. SQLSTATE: 42601", "PARSE_SYNTAX_ERROR", "42601", false},
		"cancelled":                   {"[OPERATION_CANCELED] Operation has been canceled. SQLSTATE: HY008", "OPERATION_CANCELED", "HY008", true},
		"no class":                    {"Job aborted", "", "", false},
		"of a task, in 3.5":           {"Job aborted due to stage failure: Lost task 0.0 (TID 2): org.apache.spark.SparkArithmeticException: [DIVIDE_BY_ZERO] Division by zero.", "DIVIDE_BY_ZERO", "", false},
		"a word in brackets":          {"Job aborted due to stage failure: java.lang.RuntimeException: see [NOTHING]", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := parseFailure(status.Error(codes.Internal, tc.text))
			require.Equal(t, engines.Error{Class: tc.class, SQLState: tc.state, Message: strings.TrimSpace(tc.text), Canceled: tc.canceled}, f.Error)
		})
	}
}

func TestTheStackOfATaskIsNotTheMessage(t *testing.T) {
	text := "Job aborted due to stage failure: java.lang.RuntimeException: boom\n\tat a.b(C.java:1)\n\tat d.e(F.java:2)\n\nDriver stacktrace:"
	f := parseFailure(status.Error(codes.Internal, text))
	require.Equal(t, "Job aborted due to stage failure: java.lang.RuntimeException: boom", f.Message)
	require.Equal(t, text, f.Stack)
}

func TestHowLongAnOutageMayLast(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	var down outage
	require.False(t, down.failed(at(0), at(3600)), "it was silent for an hour, and only now it is down")
	require.False(t, down.failed(at(3600), at(3605)))
	require.False(t, down.failed(at(3610), at(3610)))
	require.True(t, down.failed(at(3611), at(3611)))
	require.False(t, down.failed(at(3611), at(3700)), "meanwhile it was open again")
	require.True(t, down.failed(at(3710), at(3711)))
}
