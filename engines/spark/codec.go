package spark

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto" // also registers itself
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// codec reads the responses of an execution without copying the rows once more, which is most of what generated code does
// with them: the batch is a part of the received message.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if resp, ok := v.(*connectpb.ExecutePlanResponse); ok {
		return readResponse(data.Materialize(), resp)
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Fields of ExecutePlanResponse and of its ArrowBatch.
const (
	arrowBatchField = 2
	batchDataField  = 2
)

// readResponse reads a response, which keeps the message.
func readResponse(message []byte, resp *connectpb.ExecutePlanResponse) error {
	inner, rest, err := cut(message, arrowBatchField)
	if err == nil {
		err = pb.Unmarshal(rest, resp)
	}
	if err != nil || inner == nil {
		return err
	}
	data, rest, err := cut(inner, batchDataField)
	batch := &connectpb.ExecutePlanResponse_ArrowBatch{}
	if err == nil {
		err = pb.Unmarshal(rest, batch)
	}
	batch.Data = data
	resp.ResponseType = &connectpb.ExecutePlanResponse_ArrowBatch_{ArrowBatch: batch}
	return err
}

// cut takes a field of bytes out of a message; value is nil if the message does not have it, and the last one if it has
// several.
func cut(message []byte, field protowire.Number) (value, rest []byte, err error) {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, nil, protowire.ParseError(n)
		}
		m := protowire.ConsumeFieldValue(num, typ, message[n:])
		if m < 0 {
			return nil, nil, protowire.ParseError(m)
		}
		if num == field && typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(message[n:])
		} else {
			rest = append(rest, message[:n+m]...)
		}
		message = message[n+m:]
	}
	return value, rest, nil
}
