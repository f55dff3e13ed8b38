//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// quick is a client that decodes a row set a column at a time, which generated code cannot.
type quick struct {
	*testbed.HS2
	in  *bufio.Reader
	buf []byte
}

func (f *field) dialQuick(address string) *quick {
	c := f.dial(address)
	return &quick{HS2: c, in: bufio.NewReaderSize(c.Conn, 256<<10)}
}

// quickRows runs a query of bigints, strings and doubles and reads every value.
func (f *field) quickRows(c *quick, sql string, page int64) (rows int64) {
	op := c.Async(sql)
	c.WaitState(op, 1<<40)
	for {
		n, err := c.fetch(op, page)
		if err != nil {
			f.t.Fatalf("%v", err)
		}
		rows += n
		if n == 0 {
			break
		}
	}
	if _, err := c.CloseOperation(context.Background(), &tcli.TCloseOperationReq{OperationHandle: op}); err != nil {
		f.t.Fatalf("%v", err)
	}
	return rows
}

// fetch sends FetchResults and decodes its answer. Nothing else is on the connection then: the generated client behind
// it has read all of what it asked for.
func (c *quick) fetch(op *tcli.TOperationHandle, page int64) (int64, error) {
	ctx := context.Background()
	out := &thrift.TMemoryBuffer{Buffer: &bytes.Buffer{}}
	proto := thrift.NewTBinaryProtocolConf(out, &thrift.TConfiguration{})
	args := &tcli.TCLIServiceFetchResultsArgs{Req: &tcli.TFetchResultsReq{OperationHandle: op, MaxRows: page}}
	if err := proto.WriteMessageBegin(ctx, "FetchResults", thrift.CALL, 1); err != nil {
		return 0, err
	}
	if err := args.Write(ctx, proto); err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(out.Len())), out.Bytes()...)); err != nil {
		return 0, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	c.buf = c.buf[:n]
	if _, err := io.ReadFull(c.in, c.buf); err != nil {
		return 0, err
	}
	return decode(c.buf)
}

// decode reads the columns of an answer into slices, as a program wants them, and returns the number of rows. In front of
// each list stand its field headers and the head of the list; a search for the field of the columns finds the first.
func decode(reply []byte) (rows int64, err error) {
	at := bytes.Index(reply, []byte{thrift.LIST, 0, 3, thrift.STRUCT, 0, 0})
	if at < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	columns := binary.BigEndian.Uint32(reply[at+4:])
	at += 8
	for range columns {
		member := reply[at+2]
		n := int(binary.BigEndian.Uint32(reply[at+7:])) // behind two field headers and the type of the elements
		at += 11
		switch member {
		case i64Values, doubleValues:
			values := make([]uint64, n)
			for i := range values {
				values[i] = binary.BigEndian.Uint64(reply[at+8*i:])
			}
			at += 8 * n
		case stringValues:
			texts := make([]string, n)
			for i := range texts {
				l := int(binary.BigEndian.Uint32(reply[at:]))
				texts[i] = string(reply[at+4 : at+4+l])
				at += 4 + l
			}
		default:
			return 0, fmt.Errorf("a column of member %d", member)
		}
		at += 3
		at += 4 + int(binary.BigEndian.Uint32(reply[at:])) + 2 // nulls, the ends of the column and of the union
		rows = int64(n)
	}
	return rows, nil
}

// Fields of the union TColumn.
const (
	i64Values    = 5
	doubleValues = 6
	stringValues = 7
)
