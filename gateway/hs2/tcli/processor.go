package tcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/apache/thrift/lib/go/thrift"
)

// maxContainerSize is how many elements a list or map of a request may claim to have. The generated readers reserve
// room for all of them before they read the first; real requests carry a few hundred settings at most.
const maxContainerSize = 1 << 16

// keptBuffer is the largest reply buffer that is kept for the next reply.
const keptBuffer = 64 << 10

// Generated processors start a goroutine per call that asks the transport every few milliseconds whether it is still
// open, and cancel the call's context when it is not. We end that: an operation outlives the call that started it, so
// nothing is to be cancelled; a poll on a SASL or HTTP transport tells nothing about the client; and a goroutine with
// a ticker per call is not free when clients poll by the thousand. The library reads this variable alone, for all
// processors of the process, and without a lock: setting it later than here would be a race.
func init() {
	thrift.ServerConnectivityCheckInterval = 0
}

// Configuration returns the limits to read requests with: maxMessage, in bytes, bounds a request and each string in
// it, and containers have a limit of their own. Messages must carry the version, as Hive and Kyuubi demand, so that a
// stray HTTP request or TLS hello is refused at its first bytes.
//
// Limits of containers are checked against the bytes that are left where the transport knows them: a transport should
// say so in RemainingBytes.
func Configuration(maxMessage int32) *thrift.TConfiguration {
	strict := true
	return &thrift.TConfiguration{
		MaxMessageSize:     maxMessage,
		MaxFrameSize:       maxMessage,
		MaxContainerSize:   maxContainerSize,
		TBinaryStrictRead:  &strict,
		TBinaryStrictWrite: &strict,
	}
}

// FetchReply is what a front end answers to FetchResults.
type FetchReply struct {
	Status      *TStatus // required
	HasMoreRows bool
	RowSet      []byte // an encoded TRowSet, as AppendRowSet writes it; nil on error
	Release     func() // optional: called once RowSet is no longer needed, so that its room can be used again
}

// FetchHandler answers FetchResults with an already encoded row set. Like the methods of TCLIService it reports a
// failed operation in the status; an error is for what is wrong with the server and reaches the client as a
// TApplicationException.
type FetchHandler interface {
	FetchEncoded(ctx context.Context, req *TFetchResultsReq) (*FetchReply, error)
}

// PanicError is the error of a call whose handler panicked. The client is told no more than that the server failed.
type PanicError struct {
	Method string
	Value  any
	Stack  []byte // for the log
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("%s: handler panicked: %v", e.Method, e.Value)
}

// processor is the generated one with every function guarded and FetchResults replaced.
type processor struct{ *TCLIServiceProcessor }

// NewProcessor returns the processor of the service: calls go to h, FetchResults goes to f, so that h's own FetchResults
// is never called. It works on TBinaryProtocol only.
//
// Process answers with a whole reply or with an exception, never with part of a reply: a panic or a reply that cannot
// be written (a required field left nil) becomes INTERNAL_ERROR, a method it does not know UNKNOWN_METHOD. It returns
// true as long as the connection can be used for the next call, also together with an error, which is then only of
// interest to the log: *PanicError, a handler's error, or the UNKNOWN_METHOD sent. The context reaches the handler as it
// is; a connection that breaks does not cancel it.
//
// Strings are written as they are: h must hand over UTF-8 only.
func NewProcessor(h TCLIService, f FetchHandler) thrift.TProcessor {
	p := processor{NewTCLIServiceProcessor(h)}
	for name, fn := range p.ProcessorMap() {
		p.AddToProcessorMap(name, guarded{name, fn})
	}
	p.AddToProcessorMap("FetchResults", fetchResults{f})
	return p
}

// Process reads one call and answers it.
func (p processor) Process(ctx context.Context, in, out thrift.TProtocol) (bool, thrift.TException) {
	name, _, seqID, err := in.ReadMessageBegin(ctx)
	if err != nil {
		return false, thrift.WrapTException(err)
	}
	if fn, ok := p.GetProcessorFunction(name); ok {
		return fn.Process(ctx, seqID, in, out)
	}
	if err := in.Skip(ctx, thrift.STRUCT); err != nil {
		return false, thrift.WrapTException(err)
	}
	unknown := thrift.NewTApplicationException(thrift.UNKNOWN_METHOD, "Unknown function "+printable(name))
	if err := writeException(ctx, out, name, seqID, unknown); err != nil {
		return false, thrift.WrapTException(err)
	}
	return true, unknown
}

// printable makes a client's text fit for an answer and a log.
func printable(s string) string {
	const limit = 64
	return fmt.Sprintf("%.*q", limit, s)
}

// replyBuffers hold replies until they are whole.
var replyBuffers = sync.Pool{New: func() any { return &thrift.TMemoryBuffer{Buffer: &bytes.Buffer{}} }}

func newReplyBuffer() *thrift.TMemoryBuffer {
	return replyBuffers.Get().(*thrift.TMemoryBuffer)
}

// keep returns a buffer to the pool, unless one long reply made it large.
func keep(buf *thrift.TMemoryBuffer) {
	if buf.Cap() <= keptBuffer {
		buf.Reset()
		replyBuffers.Put(buf)
	}
}

// send writes the pieces of a message to the transport. TBinaryProtocol keeps no bytes back, so they may pass it by.
func send(ctx context.Context, out thrift.TProtocol, pieces ...[]byte) error {
	for _, p := range pieces {
		if _, err := out.Transport().Write(p); err != nil {
			return err
		}
	}
	return out.Flush(ctx)
}

// guarded runs a generated function on a buffer, because the generated code writes a reply as it goes: when it fails
// half-way, or panics, its bytes are on their way to the client.
type guarded struct {
	name string
	fn   thrift.TProcessorFunction
}

func (g guarded) Process(ctx context.Context, seqID int32, in, out thrift.TProtocol) (bool, thrift.TException) {
	buf := newReplyBuffer()
	defer keep(buf)
	ok, err := g.call(ctx, seqID, in, thrift.NewTBinaryProtocolConf(buf, strictWrite))
	if errors.Is(err, thrift.ErrAbandonRequest) {
		return false, err
	}
	if panicked := (*PanicError)(nil); errors.As(err, &panicked) || !ok && isReply(buf.Bytes()) {
		fault := thrift.NewTApplicationException(thrift.INTERNAL_ERROR, "Internal error processing "+g.name)
		if werr := writeException(ctx, out, g.name, seqID, fault); werr != nil {
			return false, thrift.WrapTException(errors.Join(err, werr))
		}
		return true, err
	}
	if werr := send(ctx, out, buf.Bytes()); werr != nil {
		return false, thrift.WrapTException(errors.Join(err, werr))
	}
	return ok, err
}

// call turns a panic into an error.
func (g guarded) call(ctx context.Context, seqID int32, in, out thrift.TProtocol) (ok bool, err thrift.TException) {
	defer func() {
		if v := recover(); v != nil {
			ok, err = true, thrift.WrapTException(&PanicError{g.name, v, debug.Stack()})
		}
	}()
	return g.fn.Process(ctx, seqID, in, out)
}

// strictWrite puts the protocol's version at the start of every message; isReply relies on it.
var strictWrite = Configuration(thrift.DEFAULT_MAX_MESSAGE_SIZE)

// isReply tells a reply, finished or not, from an exception. The message type is the fourth byte.
func isReply(message []byte) bool {
	return len(message) >= 4 && thrift.TMessageType(message[3]) == thrift.REPLY
}

// writeException answers a call with an exception of Thrift itself.
func writeException(ctx context.Context, out thrift.TProtocol, name string, seqID int32, x thrift.TApplicationException) error {
	buf := newReplyBuffer()
	defer keep(buf)
	p := thrift.NewTBinaryProtocolConf(buf, strictWrite)
	if err := errors.Join(p.WriteMessageBegin(ctx, name, thrift.EXCEPTION, seqID), x.Write(ctx, p)); err != nil {
		return err
	}
	return send(ctx, out, buf.Bytes())
}

// fetchResults answers FetchResults.
type fetchResults struct{ handler FetchHandler }

func (p fetchResults) Process(ctx context.Context, seqID int32, in, out thrift.TProtocol) (bool, thrift.TException) {
	const name = "FetchResults"
	var args TCLIServiceFetchResultsArgs
	if err := args.Read(ctx, in); err != nil {
		bad := thrift.NewTApplicationException(thrift.PROTOCOL_ERROR, err.Error())
		return false, thrift.WrapTException(errors.Join(err, writeException(ctx, out, name, seqID, bad)))
	}
	reply, err := p.fetch(ctx, args.Req)
	if reply != nil && reply.Release != nil {
		defer reply.Release()
	}
	if errors.Is(err, thrift.ErrAbandonRequest) {
		return false, thrift.WrapTException(err)
	}
	if err != nil {
		text := "Internal error processing " + name
		if panicked := (*PanicError)(nil); !errors.As(err, &panicked) {
			text += ": " + err.Error()
		}
		fault := thrift.NewTApplicationException(thrift.INTERNAL_ERROR, text)
		if werr := writeException(ctx, out, name, seqID, fault); werr != nil {
			return false, thrift.WrapTException(errors.Join(err, werr))
		}
		return true, thrift.WrapTException(err)
	}
	if err := writeFetch(ctx, out, seqID, reply); err != nil {
		return false, thrift.WrapTException(err)
	}
	return true, nil
}

// fetch calls the handler and refuses a reply that could not be written whole.
func (p fetchResults) fetch(ctx context.Context, req *TFetchResultsReq) (reply *FetchReply, err error) {
	defer func() {
		if v := recover(); v != nil {
			reply, err = nil, &PanicError{"FetchResults", v, debug.Stack()}
		}
	}()
	reply, err = p.handler.FetchEncoded(ctx, req)
	if err == nil && (reply == nil || reply.Status == nil) {
		err = errors.New("reply without a status")
	}
	return reply, err
}

// writeFetch writes a TFetchResultsResp around the encoded row set, which goes to the transport as it is:
// TBinaryProtocol writes nothing before or after a struct.
func writeFetch(ctx context.Context, out thrift.TProtocol, seqID int32, r *FetchReply) error {
	buf := newReplyBuffer()
	defer keep(buf)
	p := thrift.NewTBinaryProtocolConf(buf, strictWrite)
	err := errors.Join(
		p.WriteMessageBegin(ctx, "FetchResults", thrift.REPLY, seqID),
		p.WriteFieldBegin(ctx, "success", thrift.STRUCT, 0),
		p.WriteFieldBegin(ctx, "status", thrift.STRUCT, 1),
		r.Status.Write(ctx, p),
		p.WriteFieldBegin(ctx, "hasMoreRows", thrift.BOOL, 2),
		p.WriteBool(ctx, r.HasMoreRows),
	)
	if r.RowSet != nil {
		err = errors.Join(err, p.WriteFieldBegin(ctx, "results", thrift.STRUCT, 3))
	}
	if err != nil {
		return err
	}
	return send(ctx, out, buf.Bytes(), r.RowSet, []byte{thrift.STOP, thrift.STOP}) // of the response, of the result
}
