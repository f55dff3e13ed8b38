//go:build e2e

package hs2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// A fault is what happens to one message of a client.
type fault string

const (
	trickles fault = "trickles" // a byte at a time
	stalls   fault = "stalls"   // half of it, and then nothing
	vanishes fault = "vanishes" // half of it, and the connection is closed
)

// faulty is a client's connection on which one message goes wrong.
type faulty struct {
	net.Conn
	fault fault
	at    int // the message's number
	sent  int
}

func (f *faulty) Write(p []byte) (int, error) {
	f.sent++
	if f.sent != f.at {
		return f.Conn.Write(p)
	}
	switch f.fault {
	case trickles:
		for i := range p {
			if _, err := f.Conn.Write(p[i : i+1]); err != nil {
				return i, err
			}
		}
		return len(p), nil
	case stalls:
		_, err := f.Conn.Write(p[:len(p)/2])
		return len(p), err
	default:
		_, err := f.Conn.Write(p[:len(p)/2])
		_ = f.Close()
		return len(p), err
	}
}

// conversation is what a client says from its session's beginning to its end. It needs no engine.
func conversation(c *tcli.TCLIServiceClient) error {
	ctx := context.Background()
	open, err := c.OpenSession(ctx, &tcli.TOpenSessionReq{ClientProtocol: v10})
	if err != nil {
		return err
	}
	s := open.SessionHandle
	exec, err := c.ExecuteStatement(ctx, &tcli.TExecuteStatementReq{SessionHandle: s, Statement: "SELECT 1"})
	if err != nil {
		return err
	}
	op := exec.OperationHandle
	for _, call := range []func() error{
		func() error {
			_, err := c.GetOperationStatus(ctx, &tcli.TGetOperationStatusReq{OperationHandle: op})
			return err
		},
		func() error {
			_, err := c.GetResultSetMetadata(ctx, &tcli.TGetResultSetMetadataReq{OperationHandle: op})
			return err
		},
		func() error {
			_, err := c.FetchResults(ctx, &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: 10})
			return err
		},
		func() error {
			_, err := c.CancelOperation(ctx, &tcli.TCancelOperationReq{OperationHandle: op})
			return err
		},
		func() error {
			_, err := c.CloseOperation(ctx, &tcli.TCloseOperationReq{OperationHandle: op})
			return err
		},
		func() error { _, err := c.GetInfo(ctx, &tcli.TGetInfoReq{SessionHandle: s, InfoType: 17}); return err },
		func() error { _, err := c.GetTypeInfo(ctx, &tcli.TGetTypeInfoReq{SessionHandle: s}); return err },
		func() error { _, err := c.CloseSession(ctx, &tcli.TCloseSessionReq{SessionHandle: s}); return err },
	} {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// converse has a conversation in which a message goes wrong.
func converse(t *testing.T, g *testbed.Gateway, transport string, f fault, at int) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		address := g.Thrift
		if transport == "http" {
			address = g.HTTP
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return &faulty{Conn: conn, fault: f, at: at}, conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	if transport == "http" {
		trans := &http.Transport{DialContext: dial}
		defer trans.CloseIdleConnections()
		client, err := thrift.NewTHttpClientWithOptions("http://ann:x@gateway/cliservice", thrift.THttpClientOptions{Client: &http.Client{Transport: trans}})
		require.NoError(t, err)
		proto := thrift.NewTBinaryProtocolConf(client, &thrift.TConfiguration{})
		return conversation(tcli.NewTCLIServiceClient(thrift.NewTStandardClient(proto, proto)))
	}
	conn, err := dial(t.Context(), "", "")
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	c, err := testbed.HS2On(t, conn, "", "ann", "x")
	if err != nil {
		return err
	}
	return conversation(c.TCLIServiceClient)
}

// metric reads a number of the gateway's.
func metric(t *testing.T, g *testbed.Gateway, name string) int {
	t.Helper()
	_, body := g.Get("/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	require.NotNil(t, m, name)
	n, err := strconv.ParseFloat(m[1], 64)
	require.NoError(t, err)
	return int(n)
}

// A client that trickles is served. One that stalls or vanishes at any message is cut off, and leaves nothing behind.
func TestFaultyClients(t *testing.T) {
	const messages = 11 // of a conversation over TCP; the login is the first
	g := testbed.StartGateway(t, "", "SLUICE_HS2_LOGIN_TIMEOUT=2s", "SLUICE_HS2_MESSAGE_TIMEOUT=2s", "SLUICE_HS2_DISCONNECT_GRACE=1s", "SLUICE_SESSION_IDLE_TIMEOUT=4s")
	require.NoError(t, converse(t, g, "binary", "", 0))
	goroutines := metric(t, g, "go_goroutines")
	var all sync.WaitGroup
	for _, transport := range []string{"binary", "http"} {
		for _, f := range []fault{trickles, stalls, vanishes} {
			for at := 1; at <= messages; at++ {
				if transport == "http" && at == messages {
					continue // there is no login
				}
				all.Go(func() {
					err := converse(t, g, transport, f, at)
					if f == trickles {
						assert.NoError(t, err, "%s, message %d", transport, at)
						return
					}
					assert.Error(t, err, "%s %s at message %d", transport, f, at)
					assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "%s %s at message %d: the gateway cuts it off", transport, f, at)
				})
			}
		}
	}
	all.Wait()
	testbed.Until(t, 30*time.Second, "nothing is left of them", func() bool {
		return metric(t, g, "sluice_hs2_connections") == 0 && metric(t, g, "sluice_sessions") == 0
	})
	require.Contains(t, g.Log(), "took longer than hs2.message_timeout")
	testbed.Until(t, 30*time.Second, "no goroutine is left of them", func() bool { return metric(t, g, "go_goroutines") <= goroutines+5 })
	require.NoError(t, converse(t, g, "binary", "", 0))
	require.NoError(t, converse(t, g, "http", "", 0))
}

// A client that asks and asks and does not read is cut off, too: its answers fill the buffers until the gateway waits.
func TestAClientThatDoesNotRead(t *testing.T) {
	g := testbed.StartGateway(t, "", "SLUICE_HS2_MESSAGE_TIMEOUT=2s")
	session := testbed.DialHTTP(t, g, "ann", nil).Session
	buf := thrift.NewTMemoryBuffer()
	proto := thrift.NewTBinaryProtocolConf(buf, &thrift.TConfiguration{})
	require.NoError(t, proto.WriteMessageBegin(t.Context(), "GetInfo", thrift.CALL, 7))
	args := &tcli.TCLIServiceGetInfoArgs{Req: &tcli.TGetInfoReq{SessionHandle: session, InfoType: tcli.TGetInfoType_CLI_ODBC_KEYWORDS}}
	require.NoError(t, args.Write(t.Context(), proto))
	for name, tc := range map[string]struct{ address, question string }{
		"binary": {g.Thrift, string(binary.BigEndian.AppendUint32(nil, uint32(buf.Len()))) + buf.String()},
		"http":   {g.HTTP, fmt.Sprintf("POST /cliservice HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YW5uOng=\r\nContent-Length: %d\r\n\r\n%s", buf.Len(), buf.String())},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", tc.address)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			if name == "binary" {
				require.NoError(t, testbed.Login(conn, "ann", "x"))
			}
			require.NoError(t, conn.SetWriteDeadline(time.Now().Add(60*time.Second)))
			asked := 0
			for ; err == nil; asked++ {
				_, err = io.WriteString(conn, tc.question)
			}
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "after %d questions the gateway still waits", asked)
			require.Greater(t, asked, 100)
		})
	}
	require.NoError(t, converse(t, g, "binary", "", 0))
}
