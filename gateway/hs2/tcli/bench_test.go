package tcli

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/thrift/lib/go/thrift"
)

const benchRows = 10_000

// plainBatch has a bigint, a string of some 20 bytes and a double, one null in a hundred.
func plainBatch() arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "name", Type: arrow.BinaryTypes.String},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range benchRows {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%100 == 99 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("customer number %d", i))
		}
		b.Field(2).(*array.Float64Builder).Append(float64(i) / 3)
	}
	return b.NewRecordBatch()
}

// textBatch has what travels as text: a timestamp in a zone, a decimal, a date, a list.
func textBatch() arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Paris"}},
		{Name: "amount", Type: &arrow.Decimal128Type{Precision: 18, Scale: 2}},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32},
		{Name: "tags", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32)},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range benchRows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(i)*61_000_001))
		b.Field(1).(*array.Decimal128Builder).Append(decimal128.FromI64(int64(i) * 12345))
		b.Field(2).(*array.Date32Builder).Append(arrow.Date32(19_000 + i%1000))
		list := b.Field(3).(*array.ListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Int32Builder).AppendValues([]int32{int32(i), 2, 3}, nil)
	}
	return b.NewRecordBatch()
}

func BenchmarkAppendRowSet(b *testing.B) {
	for name, batch := range map[string]arrow.RecordBatch{"plain": plainBatch(), "text": textBatch()} {
		for _, v := range []TProtocolVersion{v6, v6 - 1} {
			b.Run(fmt.Sprintf("%s/V%d", name, v+1), func(b *testing.B) {
				cols, batches := columnsOf(batch), []arrow.RecordBatch{batch}
				dst := AppendRowSet(nil, v, 0, cols, batches)
				b.SetBytes(int64(len(dst)))
				b.ReportAllocs()
				for b.Loop() {
					dst = AppendRowSet(dst[:0], v, 0, cols, batches)
				}
			})
		}
	}
}

// BenchmarkGeneratedRowSet is what AppendRowSet spares us, and only the second half of it: the generated writer on a
// row set that someone has already filled.
func BenchmarkGeneratedRowSet(b *testing.B) {
	batch := plainBatch()
	encoded := AppendRowSet(nil, v6, 0, columnsOf(batch), []arrow.RecordBatch{batch})
	rows := decode(b, encoded)
	buf := thrift.NewTMemoryBufferLen(2 * len(encoded))
	proto := thrift.NewTBinaryProtocolConf(buf, nil)
	b.SetBytes(int64(len(encoded)))
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := rows.Write(context.Background(), proto); err != nil {
			b.Fatal(err)
		}
	}
}
