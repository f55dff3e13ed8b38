package tcli

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// handler is polite but for what a test says.
type handler struct {
	polite
	getInfo func() (*TGetInfoResp, error)
	fetch   func(*TFetchResultsReq) (*FetchReply, error)
}

func (h handler) GetInfo(context.Context, *TGetInfoReq) (*TGetInfoResp, error) { return h.getInfo() }

func (h handler) FetchEncoded(_ context.Context, req *TFetchResultsReq) (*FetchReply, error) {
	return h.fetch(req)
}

// connect serves a handler on one end of a connection and returns a client on the other, and the raw thrift client for
// calls the service does not have. Errors of calls arrive on the channel.
func connect(t *testing.T, h handler) (*TCLIServiceClient, *thrift.TStandardClient, <-chan error) {
	t.Helper()
	near, far := net.Pipe()
	conf := Configuration(1 << 20)
	errs := make(chan error, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		trans := thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(far, conf), 4096)
		proto := thrift.NewTBinaryProtocolConf(trans, conf)
		p := NewProcessor(h, h)
		for {
			ok, err := p.Process(context.Background(), proto, proto)
			if err != nil {
				errs <- err
			}
			if !ok {
				return
			}
		}
	}()
	trans := thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(near, nil), 4096)
	proto := thrift.NewTBinaryProtocolConf(trans, nil)
	client := thrift.NewTStandardClient(proto, proto)
	t.Cleanup(func() { near.Close(); <-done })
	return NewTCLIServiceClient(client), client, errs
}

func handles() (*TSessionHandle, *TOperationHandle) {
	id := &THandleIdentifier{GUID: make([]byte, 16), Secret: make([]byte, 16)}
	return &TSessionHandle{SessionId: id}, &TOperationHandle{OperationId: id}
}

// stillWorks makes a call that must succeed on the same connection.
func stillWorks(t *testing.T, c *TCLIServiceClient) {
	t.Helper()
	session, _ := handles()
	resp, err := c.CloseSession(context.Background(), &TCloseSessionReq{SessionHandle: session})
	require.NoError(t, err)
	assert.Equal(t, TStatusCode_SUCCESS_STATUS, resp.Status.StatusCode)
}

func TestEncodedFetchReply(t *testing.T) {
	b := batch(t, fromJSON(t, arrow.PrimitiveTypes.Int64, `[1,null,3]`))
	rows := AppendRowSet(nil, v6, 5, columnsOf(b), []arrow.RecordBatch{b})
	message := "no such table"
	released := 0
	release := func() { released++ }
	for name, tc := range map[string]struct {
		reply FetchReply
		want  *TFetchResultsResp
	}{
		"rows":  {FetchReply{Status: success, HasMoreRows: true, RowSet: rows}, &TFetchResultsResp{Status: success, HasMoreRows: new(true), Results: decode(t, rows)}},
		"error": {FetchReply{Status: &TStatus{StatusCode: TStatusCode_ERROR_STATUS, ErrorMessage: &message}}, &TFetchResultsResp{Status: &TStatus{StatusCode: TStatusCode_ERROR_STATUS, ErrorMessage: &message}, HasMoreRows: new(false)}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked int64
			client, _, _ := connect(t, handler{fetch: func(req *TFetchResultsReq) (*FetchReply, error) {
				asked = req.MaxRows
				tc.reply.Release = release
				return &tc.reply, nil
			}})
			_, op := handles()
			got, err := client.FetchResults(context.Background(), &TFetchResultsReq{OperationHandle: op, MaxRows: 77})
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.EqualValues(t, 77, asked)
			stillWorks(t, client)
		})
	}
	assert.Equal(t, 2, released)
}

func TestUnknownMethodLeavesTheConnectionUsable(t *testing.T) {
	client, raw, errs := connect(t, handler{})
	session, _ := handles()
	for _, method := range []string{"GetLog", "CloseImpalaOperation", strings.Repeat("x", 1000)} {
		args := &TCLIServiceCloseSessionArgs{Req: &TCloseSessionReq{SessionHandle: session}}
		_, err := raw.Call(context.Background(), method, args, &TCLIServiceCloseSessionResult{})
		var x thrift.TApplicationException
		require.ErrorAs(t, err, &x)
		assert.EqualValues(t, thrift.UNKNOWN_METHOD, x.TypeId())
		assert.Less(t, len(err.Error()), 100)
		require.ErrorAs(t, <-errs, &x)
		stillWorks(t, client)
	}
}

func TestFaultsOfHandlers(t *testing.T) {
	session, op := handles()
	ctx := context.Background()
	getInfo := func(c *TCLIServiceClient) error {
		_, err := c.GetInfo(ctx, &TGetInfoReq{SessionHandle: session})
		return err
	}
	fetch := func(c *TCLIServiceClient) error {
		_, err := c.FetchResults(ctx, &TFetchResultsReq{OperationHandle: op})
		return err
	}
	for name, tc := range map[string]struct {
		h     handler
		call  func(*TCLIServiceClient) error
		want  string
		panic bool
	}{
		"panic":                  {handler{getInfo: func() (*TGetInfoResp, error) { panic("secret") }}, getInfo, "Internal error processing GetInfo", true},
		"error":                  {handler{getInfo: func() (*TGetInfoResp, error) { return nil, errors.New("store is down") }}, getInfo, "Internal error processing GetInfo: store is down", false},
		"union left empty":       {handler{getInfo: func() (*TGetInfoResp, error) { return &TGetInfoResp{Status: success, InfoValue: &TGetInfoValue{}}, nil }}, getInfo, "Internal error processing GetInfo", false},
		"required field is nil":  {handler{getInfo: func() (*TGetInfoResp, error) { return &TGetInfoResp{Status: success}, nil }}, getInfo, "Internal error processing GetInfo", true},
		"panic of fetch":         {handler{fetch: func(*TFetchResultsReq) (*FetchReply, error) { panic("secret") }}, fetch, "Internal error processing FetchResults", true},
		"error of fetch":         {handler{fetch: func(*TFetchResultsReq) (*FetchReply, error) { return nil, errors.New("disk") }}, fetch, "Internal error processing FetchResults: disk", false},
		"fetch without a reply":  {handler{fetch: func(*TFetchResultsReq) (*FetchReply, error) { return nil, nil }}, fetch, "Internal error processing FetchResults: reply without a status", false},
		"fetch without a status": {handler{fetch: func(*TFetchResultsReq) (*FetchReply, error) { return &FetchReply{}, nil }}, fetch, "Internal error processing FetchResults: reply without a status", false},
	} {
		t.Run(name, func(t *testing.T) {
			client, _, errs := connect(t, tc.h)
			for range 2 {
				err := tc.call(client)
				var x thrift.TApplicationException
				require.ErrorAs(t, err, &x)
				assert.EqualValues(t, thrift.INTERNAL_ERROR, x.TypeId())
				assert.EqualError(t, err, tc.want)
				reported := <-errs
				var p *PanicError
				assert.Equal(t, tc.panic, errors.As(reported, &p), "%v", reported)
				if p != nil {
					assert.Contains(t, string(p.Stack), "processor_test.go")
				}
				stillWorks(t, client)
			}
		})
	}
}

// request encodes a call of a method.
func request(t testing.TB, method string, args thrift.TStruct) []byte {
	t.Helper()
	buf := thrift.NewTMemoryBuffer()
	p := thrift.NewTBinaryProtocolConf(buf, nil)
	ctx := context.Background()
	require.NoError(t, p.WriteMessageBegin(ctx, method, thrift.CALL, 7))
	require.NoError(t, args.Write(ctx, p))
	return buf.Bytes()
}

// answer runs the processor on raw bytes. A stream does not know how many bytes are left, a buffer does.
func answer(in []byte, stream bool) (bool, []byte, error) {
	conf := Configuration(1 << 20)
	buf := thrift.NewTMemoryBuffer()
	buf.Write(in)
	var trans thrift.TTransport = buf
	if stream {
		trans = thrift.NewStreamTransportR(bytes.NewReader(in))
	}
	out := thrift.NewTMemoryBuffer()
	ok, err := NewProcessor(polite{}, polite{}).Process(context.Background(),
		thrift.NewTBinaryProtocolConf(trans, conf), thrift.NewTBinaryProtocolConf(out, conf))
	return ok, out.Bytes(), err
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	call := func(method string) []byte {
		return request(t, method, &TCLIServiceOpenSessionArgs{Req: NewTOpenSessionReq()})
	}
	head := call("OpenSession")
	head = head[:bytes.Index(head, []byte("OpenSession"))+len("OpenSession")+4]
	for name, in := range map[string][]byte{
		"nothing":              {},
		"HTTP":                 []byte("GET / HTTP/1.1\r\n\r\n"),
		"TLS":                  {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc},
		"no argument":          append(bytes.Clone(head), thrift.STOP),
		"fetch no argument":    append(bytes.Replace(bytes.Clone(head), []byte("\x0bOpenSession"), []byte("\x0cFetchResults"), 1), thrift.STOP),
		"cut off":              call("OpenSession")[:30],
		"unknown and cut off":  append(bytes.Replace(bytes.Clone(head), []byte("OpenSession"), []byte("XpenSession"), 1), thrift.STRING),
		"missing a session":    request(t, "CloseSession", &TCLIServiceOpenSessionArgs{Req: NewTOpenSessionReq()}),
		"length of name is -1": {0x80, 1, 0, 1, 0xff, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			for _, stream := range []bool{false, true} {
				ok, _, err := answer(in, stream)
				assert.False(t, ok)
				assert.Error(t, err)
			}
		})
	}
}

// Fields that other vendors added are skipped, whatever is in them.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	in := request(t, "OpenSession", &TCLIServiceOpenSessionArgs{Req: NewTOpenSessionReq()})
	in = in[:len(in)-2] // the stops of the request and of the arguments
	in = append(in, thrift.LIST, 0x05, 0x01, thrift.I32, 0, 0, 0, 1, 0, 0, 0, 9)
	in = append(in, thrift.STRUCT, 0x05, 0x04, thrift.STRING, 0, 1, 0, 0, 0, 1, 'x', thrift.STOP, thrift.STOP, thrift.STOP)
	ok, out, err := answer(in, false)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.True(t, isReply(out))
	assert.EqualValues(t, 7, binary.BigEndian.Uint32(out[8+len("OpenSession"):]), "sequence id")
}

// A container that claims more elements than the message can hold must not make us reserve room for them.
func TestClaimsOfSizeCostNothing(t *testing.T) {
	session, _ := handles()
	open := request(t, "OpenSession", &TCLIServiceOpenSessionArgs{Req: NewTOpenSessionReq()})
	tables := request(t, "GetTables", &TCLIServiceGetTablesArgs{Req: &TGetTablesReq{SessionHandle: session}})
	claim := func(message []byte, field ...byte) []byte {
		return append(message[:len(message)-2:len(message)-2], field...)
	}
	for name, in := range map[string][]byte{
		"list of 100M":         claim(tables, thrift.LIST, 0, 5, thrift.STRING, 0x05, 0xf5, 0xe1, 0x00),
		"list of structs":      claim(tables, thrift.LIST, 0, 5, thrift.STRUCT, 0x05, 0xf5, 0xe1, 0x00),
		"list of 64k":          claim(tables, thrift.LIST, 0, 5, thrift.STRING, 0, 1, 0, 0),
		"list below zero":      claim(tables, thrift.LIST, 0, 5, thrift.STRING, 0xff, 0xff, 0xff, 0xff),
		"map of 10M":           claim(open, thrift.MAP, 0, 4, thrift.STRING, thrift.STRING, 0, 0x98, 0x96, 0x80),
		"string of 1 MB":       claim(open, thrift.STRING, 0, 2, 0, 0x0f, 0xff, 0xff),
		"string of 2 GB":       claim(open, thrift.STRING, 0, 2, 0x7f, 0xff, 0xff, 0xff),
		"skipped list of 100M": claim(open, thrift.LIST, 0, 99, thrift.BYTE, 0x05, 0xf5, 0xe1, 0x00),
		"deep nesting":         claim(open, bytes.Repeat([]byte{thrift.STRUCT, 0, 99}, 100_000)...),
	} {
		t.Run(name, func(t *testing.T) {
			for _, stream := range []bool{false, true} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				ok, _, err := answer(in, stream)
				runtime.ReadMemStats(&after)
				assert.False(t, ok)
				assert.Error(t, err)
				assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
			}
		})
	}
}

// A transport that fails while the reply is written ends the connection.
func TestReplyThatCannotBeSent(t *testing.T) {
	session, op := handles()
	for method, args := range map[string]thrift.TStruct{
		"CloseSession": &TCLIServiceCloseSessionArgs{Req: &TCloseSessionReq{SessionHandle: session}},
		"FetchResults": &TCLIServiceFetchResultsArgs{Req: &TFetchResultsReq{OperationHandle: op}},
		"NoSuchMethod": &TCLIServiceCloseSessionArgs{Req: &TCloseSessionReq{SessionHandle: session}},
	} {
		in := thrift.NewTMemoryBuffer()
		in.Write(request(t, method, args))
		r, w := io.Pipe()
		r.Close()
		ok, err := NewProcessor(polite{}, polite{}).Process(context.Background(),
			thrift.NewTBinaryProtocolConf(in, nil), thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportW(w), nil))
		assert.False(t, ok, method)
		assert.Error(t, err, method)
	}
}

func TestNoGoroutinePerCall(t *testing.T) {
	assert.Zero(t, thrift.ServerConnectivityCheckInterval)
}

func FuzzDecodeRequest(f *testing.F) {
	session, op := handles()
	f.Add([]byte{})
	f.Add(request(f, "OpenSession", &TCLIServiceOpenSessionArgs{Req: &TOpenSessionReq{Configuration: map[string]string{"use:database": "default"}}}))
	f.Add(request(f, "GetTables", &TCLIServiceGetTablesArgs{Req: &TGetTablesReq{SessionHandle: session, TableTypes: []string{"TABLE"}}}))
	f.Add(request(f, "FetchResults", &TCLIServiceFetchResultsArgs{Req: &TFetchResultsReq{OperationHandle: op}}))
	f.Add(request(f, "ExecuteStatement", &TCLIServiceExecuteStatementArgs{Req: &TExecuteStatementReq{SessionHandle: session, Statement: "select 1"}}))
	f.Add(request(f, "GetLog", &TCLIServiceGetOperationStatusArgs{Req: &TGetOperationStatusReq{OperationHandle: op}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, stream := range []bool{false, true} {
			ok, out, err := answer(in, stream)
			var p *PanicError
			if errors.As(err, &p) {
				t.Fatalf("%v\n%s", p, p.Stack)
			}
			if ok && len(out) == 0 {
				t.Fatal("no answer")
			}
		}
	})
}
