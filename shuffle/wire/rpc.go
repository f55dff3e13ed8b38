package wire

import (
	"encoding/binary"
	"fmt"
)

// Names of the endpoints on the RPC ports.
const (
	VerifierEndpoint = "endpoint-verifier"
	MasterEndpoint   = "MasterEndpoint"
	WorkerEndpoint   = "WorkerEndpoint"
)

// Envelope is the body of an RPCRequest on an RPC port.
type Envelope struct {
	Sender, Receiver string // host:port, or empty
	Endpoint         string
	Content          []byte
}

// ParseEnvelope reads the body of an RPCRequest on an RPC port; Content is a view of it.
func ParseEnvelope(body []byte) (Envelope, error) {
	d := decoder{b: body}
	e := Envelope{Sender: d.address(), Receiver: d.address(), Endpoint: string(d.utf())}
	e.Content = d.b
	return e, d.err("RPC request")
}

func (d *decoder) address() string {
	if d.byte() == 0 {
		return ""
	}
	host := d.utf()
	return fmt.Sprintf("%s:%d", host, d.int32())
}

// AppendEnvelope appends an envelope without addresses, as a client that does not listen sends it.
func AppendEnvelope(b []byte, endpoint string, content []byte) []byte {
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(endpoint)))
	b = append(b, endpoint...)
	return append(b, content...)
}

// ParseRPC reads the message of an RPCRequest or RPCResponse: its request id.
func ParseRPC(message []byte) (id int64, err error) {
	d := decoder{b: message}
	id = d.int64()
	return id, d.err("RPC")
}

// ParseFailure reads the message of an RPCFailure.
func ParseFailure(message []byte) (id int64, text string, err error) {
	d := decoder{b: message}
	id, text = d.int64(), string(d.text())
	return id, text, d.err("RpcFailure")
}

// AppendRequest appends an RPCRequest frame.
func AppendRequest(b []byte, id int64, body []byte) []byte { return appendRPC(b, RPCRequest, id, body) }

// AppendResponse appends an RPCResponse frame. The body may be empty.
func AppendResponse(b []byte, id int64, body []byte) []byte {
	return appendRPC(b, RPCResponse, id, body)
}

func appendRPC(b []byte, t FrameType, id int64, body []byte) []byte {
	b = appendHeader(b, 12, t, len(body))
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// AppendFailure appends an RPCFailure frame. Of a push's failure the client takes the cause from the text, which must begin with
// the name of a status.
func AppendFailure(b []byte, id int64, text string) []byte {
	b = appendHeader(b, 12+len(text), RPCFailure, 0)
	return appendText(binary.BigEndian.AppendUint64(b, uint64(id)), text)
}

// AppendHeartbeat appends a Heartbeat frame; a client whose own heartbeats are off answers it with one.
func AppendHeartbeat(b []byte) []byte { return append(appendHeader(b, 1, Heartbeat, 0), 0) }

// ChunkSlice names a chunk of a stream, or a part of it. Clients match answers by all four.
type ChunkSlice struct {
	StreamID           int64
	Chunk, Offset, Len int32
}

func appendSlice(b []byte, s ChunkSlice) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.StreamID))
	b = binary.BigEndian.AppendUint32(b, uint32(s.Chunk))
	b = binary.BigEndian.AppendUint32(b, uint32(s.Offset))
	return binary.BigEndian.AppendUint32(b, uint32(s.Len))
}

// AppendChunkHeader appends header and message of a ChunkFetchSuccess frame, which the chunk's bytes follow.
func AppendChunkHeader(b []byte, s ChunkSlice, body int) []byte {
	return appendSlice(appendHeader(b, 20, ChunkFetchSuccess, body), s)
}

// AppendChunkFailure appends a ChunkFetchFailure frame.
func AppendChunkFailure(b []byte, s ChunkSlice, text string) []byte {
	return appendText(appendSlice(appendHeader(b, 24+len(text), ChunkFetchFailure, 0), s), text)
}

// ParseChunk reads the message of a ChunkFetchSuccess or ChunkFetchFailure frame; text is the failure's.
func ParseChunk(t FrameType, message []byte) (s ChunkSlice, text string, err error) {
	d := decoder{b: message}
	s = ChunkSlice{StreamID: d.int64(), Chunk: d.int32(), Offset: d.int32(), Len: d.int32()}
	if t == ChunkFetchFailure {
		text = string(d.text())
	}
	return s, text, d.err("chunk")
}
