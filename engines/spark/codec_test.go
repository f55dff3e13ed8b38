package spark

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

func responses() map[string]*connectpb.ExecutePlanResponse {
	return map[string]*connectpb.ExecutePlanResponse{
		"nothing": {},
		"no rows": {SessionId: "s", ResponseId: "r", ResponseType: &connectpb.ExecutePlanResponse_ResultComplete_{ResultComplete: &connectpb.ExecutePlanResponse_ResultComplete{}}},
		"rows": {SessionId: "s", OperationId: "o", ResponseId: "r", ServerSideSessionId: "x",
			ResponseType: &connectpb.ExecutePlanResponse_ArrowBatch_{ArrowBatch: &connectpb.ExecutePlanResponse_ArrowBatch{
				RowCount: 7, Data: []byte("the rows"), StartOffset: ptr(int64(3)), ChunkIndex: ptr(int64(1)), NumChunksInBatch: ptr(int64(2))}}},
		"an empty batch": {ResponseId: "r", ResponseType: &connectpb.ExecutePlanResponse_ArrowBatch_{ArrowBatch: &connectpb.ExecutePlanResponse_ArrowBatch{}}},
	}
}

// What is read without copying is what generated code reads.
func TestCodecReadsWhatGeneratedCodeReads(t *testing.T) {
	for name, want := range responses() {
		t.Run(name, func(t *testing.T) {
			data, err := pb.Marshal(want)
			require.NoError(t, err)
			data = protowire.AppendTag(data, 999, protowire.BytesType) // of a later version
			data = protowire.AppendBytes(data, []byte("news"))
			var got, generated connectpb.ExecutePlanResponse
			require.NoError(t, pb.Unmarshal(data, &generated))
			require.NoError(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(data[:len(data)/2]), mem.SliceBuffer(data[len(data)/2:])}, &got))
			require.True(t, pb.Equal(&generated, &got), "%v\n%v", &generated, &got)
			for n := range data { // whatever arrives, it is an answer or an error
				cut, whole := pb.Unmarshal(data[:n], &generated), readResponse(data[:n], &got)
				require.Equal(t, cut == nil, whole == nil, "%d bytes", n)
			}
		})
	}
}

func TestCodecLeavesOtherMessagesAlone(t *testing.T) {
	c := newCodec()
	require.Equal(t, "proto", c.Name())
	data, err := c.Marshal(&connectpb.ConfigRequest{SessionId: "s"})
	require.NoError(t, err)
	var got connectpb.ConfigRequest
	require.NoError(t, c.Unmarshal(data, &got))
	require.Equal(t, "s", got.SessionId)
}

// arrowStream is an IPC stream of a schema with text and two batches, one of them without rows.
func arrowStream(t *testing.T) []byte {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32)}}, nil))
	defer b.Release()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(b.Schema()))
	for _, rows := range []int{100, 0} {
		for i := range rows {
			if i%3 == 0 {
				b.Field(0).AppendNull()
			} else {
				b.Field(0).(*array.Int64Builder).Append(int64(i))
			}
			b.Field(1).(*array.StringBuilder).Append(string(rune('a' + i%26)))
			l := b.Field(2).(*array.ListBuilder)
			l.Append(true)
			l.ValueBuilder().(*array.Int32Builder).Append(int32(i))
		}
		batch := b.NewRecordBatch()
		require.NoError(t, w.Write(batch))
		batch.Release()
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func batches(t *testing.T, r *ipc.Reader, err error) (out []arrow.RecordBatch, _ error) {
	t.Helper()
	if err != nil {
		return nil, err
	}
	defer r.Release()
	for r.Next() {
		b := r.RecordBatch()
		b.Retain()
		out = append(out, b)
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return out, err
	}
	return out, nil
}

func TestMessagesReadWhatTheLibraryReads(t *testing.T) {
	data := arrowStream(t)
	r, err := ipc.NewReader(bytes.NewReader(data))
	want, err := batches(t, r, err)
	require.NoError(t, err)
	require.Len(t, want, 2)
	mr, err := ipc.NewReaderFromMessageReader(&messages{data})
	got, err := batches(t, mr, err)
	require.NoError(t, err)
	require.Len(t, got, 2)
	for i := range want {
		require.True(t, array.RecordEqual(want[i], got[i]))
	}
	for n := range data { // what is cut off is an error, or a whole batch less; never a panic
		mr, err := ipc.NewReaderFromMessageReader(&messages{data[:n]})
		part, _ := batches(t, mr, err)
		for i := range part {
			require.True(t, array.RecordEqual(want[i], part[i]), "%d bytes", n)
		}
	}
}

// The reader keeps the data; nothing of it is copied.
func TestMessagesCopyNothing(t *testing.T) {
	data := arrowStream(t)
	mr, err := ipc.NewReaderFromMessageReader(&messages{data})
	got, err := batches(t, mr, err)
	require.NoError(t, err)
	text := got[0].Column(1).(*array.String)
	require.Equal(t, "a", text.Value(0))
	data[bytes.Index(data, text.ValueBytes())] = 'z'
	require.Equal(t, "z", text.Value(0))
}

// A response with 10,000 rows of a bigint, as it comes from gRPC, up to its batch.
func BenchmarkReadResponse(b *testing.B) {
	ints := array.NewInt64Builder(memory.DefaultAllocator)
	for i := range int64(10_000) {
		ints.Append(i)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	require.NoError(b, w.Write(array.NewRecordBatch(schema, []arrow.Array{ints.NewArray()}, 10_000)))
	require.NoError(b, w.Close())
	data, err := pb.Marshal(&connectpb.ExecutePlanResponse{SessionId: "s", ResponseId: "r",
		ResponseType: &connectpb.ExecutePlanResponse_ArrowBatch_{ArrowBatch: &connectpb.ExecutePlanResponse_ArrowBatch{RowCount: 10_000, Data: out.Bytes()}}})
	require.NoError(b, err)
	var frames mem.BufferSlice
	for rest := data; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] { // as HTTP/2 cuts it
		frames = append(frames, mem.SliceBuffer(rest[:min(len(rest), 16<<10)]))
	}
	c := newCodec()
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var resp connectpb.ExecutePlanResponse
		require.NoError(b, c.Unmarshal(frames, &resp))
		e := &execution{}
		require.NoError(b, e.decode(resp.GetArrowBatch().Data))
		e.take().Release()
	}
}
