//go:build e2e

package main

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/thrift/lib/go/thrift"
	"github.com/google/uuid"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// canned is a HiveServer2 that has its one answer in memory, ready to be sent: no server can be faster, and what a client
// needs for it is the client's own.
type canned struct {
	tcli.TCLIService // what is not asked for
	schema           *tcli.TTableSchema
	pages            [][]byte
	next             int
}

// newCanned takes the answer to a query from an engine.
func newCanned(t *testbed.Suite, s engines.Session, sql string, page int64) canned {
	ctx := context.Background()
	e, err := s.Start(ctx, uuid.New(), engines.Query{SQL: sql, ReturnRows: true})
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = e.Release(ctx) }()
	var batches []arrow.RecordBatch
	for {
		b, _, err := e.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		batches = append(batches, b)
	}
	const v10 = tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10
	cols := make([]tcli.Column, e.Schema().NumFields())
	for i, f := range e.Schema().Fields() {
		cols[i] = tcli.ColumnOf(f)
	}
	c := canned{schema: tcli.Schema(cols, v10)}
	var at int64
	for _, b := range batches {
		for from := int64(0); from < b.NumRows(); from += page {
			part := b.NewSlice(from, min(from+page, b.NumRows()))
			c.pages = append(c.pages, tcli.AppendRowSet(nil, v10, at, cols, []arrow.RecordBatch{part}))
			at += part.NumRows()
			part.Release()
		}
		b.Release()
	}
	c.pages = append(c.pages, tcli.AppendRowSet(nil, v10, at, cols, nil))
	return c
}

// serve answers whoever connects until the suite ends; it returns the address.
func (c canned) serve(t *testbed.Suite) string {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				mine := c
				if err := testbed.AcceptLogin(conn); err != nil {
					return
				}
				proto := thrift.NewTBinaryProtocolConf(testbed.Frames(conn), tcli.Configuration(100<<20))
				processor := tcli.NewProcessor(&mine, &mine)
				for ok := true; ok; {
					ok, _ = processor.Process(context.Background(), proto, proto)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func ok() *tcli.TStatus { return &tcli.TStatus{StatusCode: tcli.TStatusCode_SUCCESS_STATUS} }

func handle() *tcli.THandleIdentifier {
	return &tcli.THandleIdentifier{GUID: make([]byte, 16), Secret: make([]byte, 16)}
}

func (c *canned) OpenSession(context.Context, *tcli.TOpenSessionReq) (*tcli.TOpenSessionResp, error) {
	return &tcli.TOpenSessionResp{Status: ok(), ServerProtocolVersion: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10,
		SessionHandle: &tcli.TSessionHandle{SessionId: handle()},
		Configuration: map[string]string{"hive.server2.thrift.resultset.default.fetch.size": "1000"}}, nil
}

func (c *canned) CloseSession(context.Context, *tcli.TCloseSessionReq) (*tcli.TCloseSessionResp, error) {
	return &tcli.TCloseSessionResp{Status: ok()}, nil
}

func (c *canned) ExecuteStatement(context.Context, *tcli.TExecuteStatementReq) (*tcli.TExecuteStatementResp, error) {
	c.next = 0
	return &tcli.TExecuteStatementResp{Status: ok(), OperationHandle: &tcli.TOperationHandle{OperationId: handle(), HasResultSet: true}}, nil
}

func (c *canned) GetOperationStatus(context.Context, *tcli.TGetOperationStatusReq) (*tcli.TGetOperationStatusResp, error) {
	state, has := tcli.TOperationState_FINISHED_STATE, true
	return &tcli.TGetOperationStatusResp{Status: ok(), OperationState: &state, HasResultSet: &has}, nil
}

func (c *canned) GetResultSetMetadata(context.Context, *tcli.TGetResultSetMetadataReq) (*tcli.TGetResultSetMetadataResp, error) {
	return &tcli.TGetResultSetMetadataResp{Status: ok(), Schema: c.schema}, nil
}

func (c *canned) FetchEncoded(context.Context, *tcli.TFetchResultsReq) (*tcli.FetchReply, error) {
	page := c.pages[min(c.next, len(c.pages)-1)]
	c.next++
	return &tcli.FetchReply{Status: ok(), RowSet: page}, nil
}

func (c *canned) CloseOperation(context.Context, *tcli.TCloseOperationReq) (*tcli.TCloseOperationResp, error) {
	return &tcli.TCloseOperationResp{Status: ok()}, nil
}
