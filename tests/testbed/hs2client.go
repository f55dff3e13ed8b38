package testbed

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
)

// HS2 is a raw HiveServer2 client over SASL PLAIN, for what no stock client does.
type HS2 struct {
	*tcli.TCLIServiceClient
	Conn    net.Conn
	Session *tcli.TSessionHandle
	t       T
}

// saslFrames is a client's side of SASL frames, after the negotiation.
type saslFrames struct {
	net.Conn
	in   *bufio.Reader
	left uint32
	out  []byte
}

func (f *saslFrames) Read(p []byte) (int, error) {
	if f.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(f.in, head[:]); err != nil {
			return 0, err
		}
		f.left = binary.BigEndian.Uint32(head[:])
	}
	n, err := f.in.Read(p[:min(len(p), int(f.left))])
	f.left -= uint32(n)
	return n, err
}

func (f *saslFrames) Write(p []byte) (int, error) { f.out = append(f.out, p...); return len(p), nil }

func (f *saslFrames) Flush(context.Context) error {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(f.out)))
	_, err := f.Conn.Write(append(frame, f.out...))
	f.out = f.out[:0]
	return err
}

func (f *saslFrames) RemainingBytes() uint64 { return ^uint64(0) }
func (f *saslFrames) Open() error            { return nil }
func (f *saslFrames) IsOpen() bool           { return true }

// Frames is a connection after the negotiation, from either end.
func Frames(conn net.Conn) thrift.TTransport {
	return &saslFrames{Conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
}

// AcceptLogin is a server's side of the negotiation that lets everybody in.
func AcceptLogin(conn net.Conn) error {
	for range 2 { // START and the response
		var head [5]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[1:]))); err != nil {
			return err
		}
	}
	_, err := conn.Write(Message(5, ""))
	return err
}

// Message is one message of the SASL negotiation.
func Message(status byte, payload string) []byte {
	msg := binary.BigEndian.AppendUint32([]byte{status}, uint32(len(payload)))
	return append(msg, payload...)
}

// ErrRefused is what the server said when it refused a login.
var ErrRefused = errors.New("login refused")

// Login negotiates SASL PLAIN on a connection.
func Login(conn net.Conn, user, password string) error { return LoginAs(conn, "", user, password) }

// LoginAs does so with an authorization identity: whom the user acts for.
func LoginAs(conn net.Conn, authzid, user, password string) error {
	hello := append(Message(1, "PLAIN"), Message(5, authzid+"\x00"+user+"\x00"+password)...)
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	if head[0] != 5 {
		return fmt.Errorf("%w: status %d: %s", ErrRefused, head[0], text)
	}
	return nil
}

// DialHS2 connects and opens a session; conf is the session's configuration.
func DialHS2(t T, address, user, password string, conf map[string]string) *HS2 {
	t.Helper()
	c, err := TryDialHS2(t, address, user, password)
	if err != nil {
		t.Fatalf("connect to %s: %v", address, err)
	}
	t.Cleanup(func() { _ = c.Conn.Close() })
	c.Session = c.Open(conf)
	return c
}

// TryDialHS2 connects and logs in, without a session.
func TryDialHS2(t T, address, user, password string) (*HS2, error) {
	return TryDialHS2From(t, "", address, "", user, password)
}

// TryDialHS2From does so from an address of this machine, with an authorization identity; both may be empty.
func TryDialHS2From(t T, from, address, authzid, user, password string) (*HS2, error) {
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return HS2On(t, conn, authzid, user, password)
}

// HS2On logs in on a connection.
func HS2On(t T, conn net.Conn, authzid, user, password string) (*HS2, error) {
	if err := LoginAs(conn, authzid, user, password); err != nil {
		_ = conn.Close()
		return nil, err
	}
	proto := thrift.NewTBinaryProtocolConf(Frames(conn), &thrift.TConfiguration{MaxMessageSize: 1 << 30})
	return &HS2{TCLIServiceClient: tcli.NewTCLIServiceClient(thrift.NewTStandardClient(proto, proto)), Conn: conn, t: t}, nil
}

// OverHTTP makes a client of the HTTP port whose every request carries the headers.
func OverHTTP(t T, g *Gateway, user string, headers map[string]string) *tcli.TCLIServiceClient {
	t.Helper()
	trans, err := thrift.NewTHttpClientWithOptions("http://"+g.HTTP+"/cliservice", thrift.THttpClientOptions{Client: http.DefaultClient})
	if err != nil {
		t.Fatalf("%v", err)
	}
	h := trans.(*thrift.THttpClient)
	h.SetHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":x")))
	for k, v := range headers {
		h.SetHeader(k, v)
	}
	proto := thrift.NewTBinaryProtocolConf(trans, &thrift.TConfiguration{})
	return tcli.NewTCLIServiceClient(thrift.NewTStandardClient(proto, proto))
}

// DialHTTP opens a session over HTTP; conf is the session's configuration.
func DialHTTP(t T, g *Gateway, user string, conf map[string]string) *HS2 {
	t.Helper()
	c := &HS2{TCLIServiceClient: OverHTTP(t, g, user, nil), t: t}
	c.Session = c.Open(conf)
	return c
}

// Open opens a session.
func (c *HS2) Open(conf map[string]string) *tcli.TSessionHandle {
	c.t.Helper()
	resp, err := c.OpenSession(context.Background(), &tcli.TOpenSessionReq{ClientProtocol: tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10, Configuration: conf})
	if err != nil || resp.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		c.t.Fatalf("open a session: %v %s", err, resp.GetStatus().GetErrorMessage())
	}
	return resp.SessionHandle
}

// Exec runs a statement and waits for it; it returns the operation, or the error's status.
func (c *HS2) Exec(sql string) (*tcli.TOperationHandle, *tcli.TStatus) {
	c.t.Helper()
	resp, err := c.ExecuteStatement(context.Background(), &tcli.TExecuteStatementReq{SessionHandle: c.Session, Statement: sql})
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return resp.OperationHandle, resp.Status
}

// Async begins a statement.
func (c *HS2) Async(sql string, change ...func(*tcli.TExecuteStatementReq)) *tcli.TOperationHandle {
	c.t.Helper()
	req := &tcli.TExecuteStatementReq{SessionHandle: c.Session, Statement: sql, RunAsync: true}
	for _, f := range change {
		f(req)
	}
	resp, err := c.ExecuteStatement(context.Background(), req)
	if err != nil || resp.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		c.t.Fatalf("%s: %v %v", sql, err, resp)
	}
	return resp.OperationHandle
}

// Status asks where an operation stands.
func (c *HS2) Status(op *tcli.TOperationHandle) *tcli.TGetOperationStatusResp {
	c.t.Helper()
	progress := true
	resp, err := c.GetOperationStatus(context.Background(), &tcli.TGetOperationStatusReq{OperationHandle: op, GetProgressUpdate: &progress})
	if err != nil {
		c.t.Fatalf("status: %v", err)
	}
	return resp
}

// WaitState polls until the operation has left the running states.
func (c *HS2) WaitState(op *tcli.TOperationHandle, limit time.Duration) *tcli.TGetOperationStatusResp {
	c.t.Helper()
	var resp *tcli.TGetOperationStatusResp
	Until(c.t, limit, "the operation ends", func() bool {
		resp = c.Status(op)
		return resp.GetOperationState() != tcli.TOperationState_RUNNING_STATE
	})
	return resp
}

// Fetch fetches once.
func (c *HS2) Fetch(op *tcli.TOperationHandle, orientation tcli.TFetchOrientation, max int64, kind int16) *tcli.TFetchResultsResp {
	c.t.Helper()
	resp, err := c.FetchResults(context.Background(), &tcli.TFetchResultsReq{OperationHandle: op, Orientation: orientation, MaxRows: max, FetchType: kind})
	if err != nil {
		c.t.Fatalf("fetch: %v", err)
	}
	return resp
}

// All runs a statement and returns all its rows as text, column by column in each row.
func (c *HS2) All(sql string) [][]string {
	c.t.Helper()
	op, st := c.Exec(sql)
	if st.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
		c.t.Fatalf("%s: %s", sql, st.GetErrorMessage())
	}
	defer func() {
		_, _ = c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op})
	}()
	var rows [][]string
	for {
		page := c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 1000, 0)
		if page.Status.StatusCode != tcli.TStatusCode_SUCCESS_STATUS {
			c.t.Fatalf("%s: %s", sql, page.Status.GetErrorMessage())
		}
		got := Texts(page.Results)
		if len(got) == 0 {
			return rows
		}
		rows = append(rows, got...)
	}
}

// Log returns the lines of an operation's log that were not read yet.
func (c *HS2) Log(op *tcli.TOperationHandle) []string {
	c.t.Helper()
	var out []string
	for _, row := range Texts(c.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10_000, 1).Results) {
		out = append(out, row[0])
	}
	return out
}

// Texts renders a columnar row set; null is "NULL".
func Texts(set *tcli.TRowSet) [][]string {
	var rows [][]string
	for ci, col := range set.GetColumns() {
		values, nulls := columnTexts(col)
		for i, v := range values {
			if ci == 0 {
				rows = append(rows, nil)
			}
			if i/8 < len(nulls) && nulls[i/8]&(1<<(i%8)) != 0 {
				v = "NULL"
			}
			rows[i] = append(rows[i], v)
		}
	}
	return rows
}

func columnTexts(c *tcli.TColumn) ([]string, []byte) {
	switch {
	case c.BoolVal != nil:
		return texts(c.BoolVal.Values), c.BoolVal.Nulls
	case c.ByteVal != nil:
		return texts(c.ByteVal.Values), c.ByteVal.Nulls
	case c.I16Val != nil:
		return texts(c.I16Val.Values), c.I16Val.Nulls
	case c.I32Val != nil:
		return texts(c.I32Val.Values), c.I32Val.Nulls
	case c.I64Val != nil:
		return texts(c.I64Val.Values), c.I64Val.Nulls
	case c.DoubleVal != nil:
		return texts(c.DoubleVal.Values), c.DoubleVal.Nulls
	case c.BinaryVal != nil:
		return texts(c.BinaryVal.Values), c.BinaryVal.Nulls
	}
	return texts(c.StringVal.Values), c.StringVal.Nulls
}

func texts[E any](values []E) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}
