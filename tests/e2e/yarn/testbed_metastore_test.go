//go:build e2e

package yarn

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/tests/testbed"
)

// A database that ann makes has a directory of hers in the warehouse: the metastore acts as its caller.
func TestTheMetastoreActsAsItsCaller(t *testing.T) {
	m := testbed.StartMetastore(t, testbed.MetastoreOptions{Hadoop: shared})
	address := strings.TrimPrefix(m.URI, "thrift://")
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, address)

	ann, bob := dialMetastore(t, address, "ann"), dialMetastore(t, address, "bob")
	require.Equal(t, []string{"default"}, ann.databases())
	require.NoError(t, ann.create("hers", ""))
	require.Equal(t, []string{"default", "hers"}, bob.databases())

	hdfs := shared.HDFS("ann")
	t.Cleanup(func() { _ = hdfs.RemoveAll("/warehouse/hers.db") })
	info, err := hdfs.Stat("/warehouse/hers.db")
	require.NoError(t, err)
	require.Equal(t, "ann", info.(interface{ Owner() string }).Owner())
	// And it may not do what its caller may not.
	require.ErrorContains(t, bob.create("his", "hdfs://"+shared.NameNode+"/user/ann/his.db"), "Permission denied")
	_, err = hdfs.Stat("/user/ann/his.db")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// metastore is a Thrift client of the few calls that the test makes.
type metastore struct {
	t *testing.T
	c *thrift.TStandardClient
}

func dialMetastore(t *testing.T, address, user string) metastore {
	t.Helper()
	conn := thrift.NewTSocketConf(address, nil)
	require.NoError(t, conn.Open())
	t.Cleanup(func() { _ = conn.Close() })
	p := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(conn, 4096), nil)
	m := metastore{t: t, c: thrift.NewTStandardClient(p, p)}
	groups, err := m.call("set_ugi", fields{user, []string{user}})
	require.NoError(t, err)
	require.Equal(t, []string{user}, groups)
	return m
}

func (m metastore) databases() []string {
	m.t.Helper()
	names, err := m.call("get_all_databases", nil)
	require.NoError(m.t, err)
	return names
}

func (m metastore) create(name, location string) error {
	database := fields{name, ""}
	if location != "" {
		database = append(database, location)
	}
	_, err := m.call("create_database", fields{database})
	return err
}

func (m metastore) call(method string, args fields) ([]string, error) {
	r := &reply{}
	_, err := m.c.Call(context.Background(), method, args, r)
	if err == nil {
		err = r.err
	}
	return r.names, err
}

// fields is a Thrift struct whose fields count from 1: strings, lists of strings and other structs.
type fields []any

func (f fields) Write(ctx context.Context, p thrift.TProtocol) error {
	for i, value := range f {
		id := int16(i + 1)
		var err error
		switch v := value.(type) {
		case string:
			_ = p.WriteFieldBegin(ctx, "", thrift.STRING, id)
			err = p.WriteString(ctx, v)
		case []string:
			_ = p.WriteFieldBegin(ctx, "", thrift.LIST, id)
			err = p.WriteListBegin(ctx, thrift.STRING, len(v))
			for _, s := range v {
				_ = p.WriteString(ctx, s)
			}
		case fields:
			_ = p.WriteFieldBegin(ctx, "", thrift.STRUCT, id)
			err = v.Write(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	return p.WriteFieldStop(ctx)
}

func (fields) Read(context.Context, thrift.TProtocol) error { return nil }

// reply is the answer to a call: field 0 is a list of strings, if there is one, and any other is an exception.
type reply struct {
	names []string
	err   error
}

func (r *reply) Write(context.Context, thrift.TProtocol) error { return nil }

func (r *reply) Read(ctx context.Context, p thrift.TProtocol) error {
	for {
		_, kind, id, err := p.ReadFieldBegin(ctx)
		if err != nil || kind == thrift.STOP {
			return err
		}
		if id != 0 {
			raised := thrift.NewTApplicationException(thrift.UNKNOWN_APPLICATION_EXCEPTION, "") // its message is field 1, too
			err, r.err = raised.Read(ctx, p), raised
		} else {
			var n int
			if _, n, err = p.ReadListBegin(ctx); err != nil {
				return err
			}
			for range n {
				var s string
				if s, err = p.ReadString(ctx); err != nil {
					return err
				}
				r.names = append(r.names, s)
			}
		}
		if err != nil {
			return err
		}
	}
}
