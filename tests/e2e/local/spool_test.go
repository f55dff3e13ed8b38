//go:build e2e

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// pages reads ascending ids through FetchResults and counts them.
type pages struct {
	t    *testing.T
	c    *tcli.TCLIServiceClient
	op   *tcli.TOperationHandle
	next int64
}

// fetch fetches one page, in which no id may be missing or come twice, and says whether there was one.
func (p *pages) fetch(max int64) bool {
	p.t.Helper()
	ids := p.ids(tcli.TFetchOrientation_FETCH_NEXT, max)
	for _, id := range ids {
		if id != p.next {
			require.Equal(p.t, p.next, id)
		}
		p.next++
	}
	return len(ids) > 0
}

func (p *pages) ids(orientation tcli.TFetchOrientation, max int64) []int64 {
	p.t.Helper()
	resp, err := p.c.FetchResults(context.Background(), &tcli.TFetchResultsReq{OperationHandle: p.op, Orientation: orientation, MaxRows: max})
	require.NoError(p.t, err)
	require.Equal(p.t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode, resp.Status.GetErrorMessage())
	return resp.Results.Columns[0].I64Val.Values
}

// taken waits until the gateway has all rows of an operation.
func taken(t *testing.T, g *testbed.Gateway, op *tcli.TOperationHandle, rows int) {
	t.Helper()
	id, err := uuid.FromBytes(op.OperationId.GUID)
	require.NoError(t, err)
	ended := regexp.MustCompile(fmt.Sprintf(`operation ended.*operation=%s.*state=FINISHED.*rows=%d`, id, rows))
	testbed.Until(t, time.Minute, "the gateway has all rows", func() bool { return ended.MatchString(g.Log()) })
}

// metric reads a gauge.
func metric(t *testing.T, g *testbed.Gateway, name string) float64 {
	t.Helper()
	_, body := g.Get("/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	require.NotNil(t, m, name)
	v, err := strconv.ParseFloat(m[1], 64)
	require.NoError(t, err)
	return v
}

// spooled lists the files of results.
func spooled(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.rows"))
	require.NoError(t, err)
	return found
}

const wide = "SELECT id, concat('row ', id) AS name, id * 0.5D AS half FROM range(0, %d, 1, 10)"

// A client that reads 1,000 rows a second costs neither the gateway's memory nor the engine's. SLUICE_TEST_SLOW sets for
// how long it reads so; then it takes the rest at full speed.
func TestASlowClient(t *testing.T) {
	const rows = 5_000_000
	slow := 15 * time.Second
	if d, err := time.ParseDuration(os.Getenv("SLUICE_TEST_SLOW")); err == nil {
		slow = d
	}
	g := testbed.StartGateway(t, "")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	c.All(fmt.Sprintf("SELECT count(name) FROM ("+wide+")", 100_000))
	warm := c.Async(fmt.Sprintf(wide, 100_000)) // what the engine loads and compiles for such a statement stays
	taken(t, g, warm, 100_000)
	pid := engineOf(t, g, "ann")
	before := testbed.LiveHeap(t, pid)

	op := c.Async(fmt.Sprintf(wide, rows))
	p := &pages{t: t, c: c.TCLIServiceClient, op: op}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for began := time.Now(); time.Since(began) < slow; <-second.C {
		require.True(t, p.fetch(1000))
	}
	taken(t, g, op, rows)
	heap, disk, peak := testbed.LiveHeap(t, pid), metric(t, g, "sluice_spool_disk_bytes"), testbed.PeakMemory(g.Cmd.Process.Pid)
	t.Logf("after %d of %d rows: engine's live heap %d -> %d KiB, spool on disk %.0f KiB, gateway's peak %d KiB",
		p.next, rows, before>>10, heap>>10, disk/1024, peak>>10)
	require.Less(t, heap-before, int64(8<<20), "the engine holds no unread rows")
	require.Greater(t, disk, float64(100<<20), "they are here")

	for p.fetch(100_000) {
		continue
	}
	require.Equal(t, int64(rows), p.next)
	peak = testbed.PeakMemory(g.Cmd.Process.Pid)
	t.Logf("gateway's peak in the end: %d KiB", peak>>10)
	require.Less(t, peak, int64(150<<20))
	require.NotEmpty(t, spooled(t, filepath.Join(g.DataDir, "spool")))
	for _, h := range []*tcli.TOperationHandle{op, warm} {
		_, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: h})
		require.NoError(t, err)
	}
	// CloseOperation is answered first, and done at once behind it.
	testbed.Until(t, 10*time.Second, "a closed operation leaves no file", func() bool {
		return len(spooled(t, filepath.Join(g.DataDir, "spool"))) == 0 &&
			metric(t, g, "sluice_spool_disk_bytes") == 0 && metric(t, g, "sluice_spool_memory_bytes") == 0
	})
}

// The engine can repeat only its last 10 MiB, so the gateway's files have to survive a kill: of a statement that streams
// a large result, and of one that has ended.
func TestLargeResultsSurviveAKill(t *testing.T) {
	ctx := context.Background()
	const many, some = 3_000_000, 1_000_000
	g := testbed.StartGateway(t, "")
	c := testbed.OverHTTP(t, g, "ann", nil)
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10})
	require.NoError(t, err)
	run := func(sql string) *pages {
		resp, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: open.SessionHandle, Statement: sql, RunAsync: true})
		require.NoError(t, err)
		require.Equal(t, tcli.TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode, resp.Status.GetErrorMessage())
		return &pages{t: t, c: c, op: resp.OperationHandle}
	}
	ended := run(fmt.Sprintf(wide, some))
	ended.fetch(1000)
	taken(t, g, ended.op, some)
	before := metric(t, g, "sluice_spool_disk_bytes")
	// Each of 30 tasks waits for half a second, so that the statement streams for a while.
	streaming := run(fmt.Sprintf("SELECT id, concat('row ', id) AS name, id * 0.5D AS half FROM range(0, %d, 1, 30) "+
		"WHERE id %% 100000 <> 0 OR java_method('java.lang.Thread', 'sleep', 500L) IS NOT NULL", many))
	streaming.fetch(5000)
	testbed.Until(t, time.Minute, "30 MiB of it have come", func() bool { return metric(t, g, "sluice_spool_disk_bytes") > before+30<<20 })
	meta, err := c.GetResultSetMetadata(ctx, &tcli.TGetResultSetMetadataReq{OperationHandle: streaming.op})
	require.NoError(t, err)
	g.Kill()
	files := spooled(t, filepath.Join(g.DataDir, "spool"))
	require.Len(t, files, 2)
	id, err := uuid.FromBytes(streaming.op.OperationId.GUID)
	require.NoError(t, err)
	rec, err := g.Store(t).Operation(ctx, id)
	require.NoError(t, err)
	require.Equal(t, "PENDING", rec.State, "it was killed while the statement ran")
	leftover := filepath.Join(g.DataDir, "spool", uuid.NewString()+".rows")
	require.NoError(t, os.WriteFile(leftover, []byte("SL"), 0o600))

	n := g.Restart("", "SLUICE_LISTEN_HTTP="+g.HTTP)
	c = testbed.OverHTTP(t, n, "ann", nil)
	ended.c, streaming.c = c, c
	again, err := c.GetResultSetMetadata(ctx, &tcli.TGetResultSetMetadataReq{OperationHandle: streaming.op})
	require.NoError(t, err)
	require.Equal(t, meta, again)
	for streaming.fetch(100_000) {
		continue
	}
	require.Equal(t, int64(many), streaming.next, "every row once, those too that the engine had forgotten")
	for ended.fetch(100_000) {
		continue
	}
	require.Equal(t, int64(some), ended.next, "every row once, without an engine")
	require.NoFileExists(t, leftover)
	n.Stop()
	require.Empty(t, spooled(t, filepath.Join(g.DataDir, "spool")), "a gateway that stops in peace leaves nothing")
	n.WaitNoProcess(10 * time.Second)
}

func TestFetchOrientationsOverASpilledResult(t *testing.T) {
	const rows = 1_000_000
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	p := &pages{t: t, c: c.TCLIServiceClient, op: c.Async(million)}
	taken(t, shared, p.op, rows)
	for range 50 {
		p.fetch(7777)
	}
	at := p.next
	require.Equal(t, at-7777, p.ids(tcli.TFetchOrientation_FETCH_PRIOR, 7777)[0], "the page before")
	require.Equal(t, at, p.ids(tcli.TFetchOrientation_FETCH_NEXT, 1)[0])
	require.Equal(t, []int64{0, 1, 2}, p.ids(tcli.TFetchOrientation_FETCH_FIRST, 3))
	p.next = 3
	for p.fetch(100_000) {
		continue
	}
	require.Equal(t, int64(rows), p.next)
	require.Equal(t, []int64{0}, p.ids(tcli.TFetchOrientation_FETCH_FIRST, 1), "after the end, too")
	_, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: p.op})
	require.NoError(t, err)
}

// A spool directory that is full fails the operation that meets it. Its room is free at once and the gateway goes on.
func TestAFullSpoolDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		testbed.Skip(t, fmt.Sprintf("a small file system cannot be mounted: %v", err))
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) }) // after the gateway's end
	g := testbed.StartGateway(t, "", "SLUICE_SPOOL_DIR="+dir)
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	op := c.Async(fmt.Sprintf(wide, 1_000_000))
	var st *tcli.TGetOperationStatusResp
	testbed.Until(t, time.Minute, "the operation fails", func() bool {
		st = c.Status(op)
		return st.GetOperationState() == tcli.TOperationState_ERROR_STATE
	})
	require.Equal(t, "58030", st.GetSqlState())
	for _, text := range []string{dir, "no space left on device", "name another directory in spool.dir"} {
		require.Contains(t, st.GetErrorMessage(), text)
		require.Contains(t, c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Status.GetErrorMessage(), text)
	}
	require.Empty(t, spooled(t, dir), "its room is free")
	require.Equal(t, [][]string{{"3"}}, c.All("SELECT 3"))
	p := &pages{t: t, c: c.TCLIServiceClient, op: c.Async(fmt.Sprintf(wide, 200_000))}
	for p.fetch(50_000) {
		continue
	}
	require.Equal(t, int64(200_000), p.next, "a result that fits is spooled there")
	require.Len(t, spooled(t, dir), 1)
	g.Stop()
}

// Limits of the spool refuse with the name of their key.
func TestSpoolLimits(t *testing.T) {
	g := testbed.StartGateway(t, "spool: {disk: 20MiB, total_disk: 30MiB}\n")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	fails := func(rows int, texts ...string) {
		op := c.Async(fmt.Sprintf(wide, rows))
		testbed.Until(t, time.Minute, "the operation fails", func() bool { return c.Status(op).GetOperationState() == tcli.TOperationState_ERROR_STATE })
		st := c.Status(op)
		require.Equal(t, "54000", st.GetSqlState())
		for _, text := range texts {
			require.Contains(t, st.GetErrorMessage(), text)
		}
	}
	fails(1_000_000, "spool.disk is 20971520 bytes", "raise spool.disk")
	op := c.Async(fmt.Sprintf(wide, 500_000))
	taken(t, g, op, 500_000)
	fails(560_000, "reach spool.total_disk, 31457280 bytes", "close results that are no longer needed")
	p := &pages{t: t, c: c.TCLIServiceClient, op: op}
	for p.fetch(100_000) {
		continue
	}
	require.Equal(t, int64(500_000), p.next, "the other result is whole")
	g.Stop()
}

// A server ends its streams on purpose, by default after two minutes or 1 GiB. However often it does, rows that are
// released meanwhile are not needed to go on.
func TestTheServersOwnCuts(t *testing.T) {
	const rows = 1_000_000
	const prefix = "spark.connect.execute.reattachable."
	g := testbed.StartGateway(t, "", "SLUICE_ENGINE_CONF="+prefix+"senderMaxStreamSize=1m,"+prefix+"senderMaxStreamDuration=300ms,"+prefix+"observerRetryBufferSize=1m")
	c := testbed.DialHS2(t, g.Thrift, "ann", "x", nil)
	require.Equal(t, [][]string{{prefix + "senderMaxStreamSize", "1m"}}, c.All("SET "+prefix+"senderMaxStreamSize"), "30 cuts are to be expected")
	p := &pages{t: t, c: c.TCLIServiceClient, op: c.Async(fmt.Sprintf(wide, rows) +
		" WHERE id % 100000 <> 0 OR java_method('java.lang.Thread', 'sleep', 500L) IS NOT NULL")}
	for p.fetch(100_000) {
		continue
	}
	require.Equal(t, int64(rows), p.next, "every row once")
	g.Stop()
}

// A real server drops what it is told to, keeps the ids of it, and goes on behind them.
func TestReleasedRows(t *testing.T) {
	ctx := context.Background()
	c := testbed.DialHS2(t, shared.Thrift, "ann", "x", nil)
	c.All("SELECT 2")
	session, err := shared.DialEngine(t, shared.EngineOf(t, "ann")).OpenSession(ctx, engines.SessionSpec{ID: uuid.New(), User: "ann"})
	require.NoError(t, err)
	defer func() { _ = session.Close(ctx) }()
	id := uuid.New()
	e, err := session.Start(ctx, id, engines.Query{SQL: million, ReturnRows: true})
	require.NoError(t, err)
	next, early, _ := take(t, e, 0, 5)
	next, at, _ := take(t, e, next, 15)
	e.Durable(at)
	testbed.Until(t, 10*time.Second, "the engine has dropped the rows", func() bool {
		again, err := session.Attach(ctx, id, early)
		require.NoError(t, err)
		b, _, err := again.Next(ctx)
		var failure *engines.Error
		if errors.As(err, &failure) {
			require.Equal(t, "INVALID_CURSOR.POSITION_NOT_AVAILABLE", failure.Class)
			return true
		}
		require.NoError(t, err)
		b.Release()
		return false
	})
	rest, err := session.Attach(ctx, id, at)
	require.NoError(t, err)
	next, _, end := take(t, rest, next, 1000)
	require.True(t, end)
	require.Equal(t, int64(1_000_000), next)
	require.NoError(t, rest.Release(ctx))
	require.NoError(t, e.Release(ctx))
}
