package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// maxAsk bounds the body of a request on the fetch port, bytes.
const maxAsk = 16 << 20

// asked is how many chunks a connection may ask for that were not sent yet: readers ask for four of a stream.
const asked = 4096

// fetcher serves one connection of a fetch port. Requests are read by one goroutine, chunks sent by another, in order.
type fetcher struct {
	w      *Worker
	c      *conn
	chunks chan wire.ChunkSlice
}

func (f *fetcher) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	f.chunks = make(chan wire.ChunkSlice, asked)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { f.send(ctx) })
	for {
		h, message, err := f.c.r.Next()
		if err == nil {
			err = f.frame(ctx, &running, h, message)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				f.w.log.Debug("fetch connection ended", "peer", f.c.RemoteAddr(), "err", err)
			}
			_ = f.c.Close() // so that sending ends
			return
		}
	}
}

func (f *fetcher) frame(ctx context.Context, running *sync.WaitGroup, h wire.Header, message []byte) error {
	if h.Type == wire.Heartbeat {
		return f.c.r.Discard()
	}
	if h.Type != wire.RPCRequest || h.Body > maxAsk {
		return fmt.Errorf("a frame of type %d with %d bytes on a fetch port", h.Type, h.Body)
	}
	id, err := wire.ParseRPC(message)
	if err != nil {
		return err
	}
	body := make([]byte, h.Body)
	if err := f.c.r.ReadBody(body); err != nil {
		return err
	}
	t, payload, err := wire.ParseRaw(body)
	if err != nil {
		f.fail(id, err.Error())
		return nil
	}
	switch t {
	case wire.ChunkFetch:
		return f.ask(ctx, payload)
	case wire.BufferStreamEnd: // no answer is wanted
		m := &pb.BufferStreamEnd{}
		if unmarshal(payload, m) == nil {
			f.w.store.EndStream(m.GetStreamId())
		}
		return nil
	case wire.OpenStream, wire.BatchOpenStream: // may read a whole partition, if a range of maps is asked for
		f.c.open.Add(1)
		running.Go(func() {
			defer f.c.open.Add(-1)
			if t == wire.OpenStream {
				f.open(id, payload)
			} else {
				f.openAll(id, payload)
			}
		})
		return nil
	}
	f.fail(id, fmt.Sprintf("message %d is not served on the fetch port (authentication and Flink are not supported yet)", t))
	return nil
}

func (f *fetcher) ask(ctx context.Context, payload []byte) error {
	m := &pb.ChunkFetchRequest{}
	if err := unmarshal(payload, m); err != nil {
		return err
	}
	s := m.GetStreamChunkSlice()
	f.c.open.Add(1)
	select {
	case f.chunks <- wire.ChunkSlice{StreamID: s.GetStreamId(), Chunk: s.GetChunkIndex(), Offset: s.GetOffset(), Len: s.GetLen()}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fetcher) fail(id int64, text string) {
	f.answer(wire.AppendFailure(nil, id, text))
}

func (f *fetcher) answer(frame []byte) {
	f.c.out.mu.Lock()
	defer f.c.out.mu.Unlock()
	f.c.out.write(frame)
}

func (f *fetcher) open(id int64, payload []byte) {
	m := &pb.OpenStream{}
	if err := unmarshal(payload, m); err != nil {
		f.fail(id, err.Error())
		return
	}
	h, err := f.stream(m.GetShuffleKey(), m.GetFileName(), m.GetStartIndex(), m.GetEndIndex(), m.GetReadLocalShuffle())
	if err != nil {
		f.fail(id, err.Error())
		return
	}
	f.answer(wire.AppendResponse(nil, id, wire.AppendRawProto(nil, wire.StreamHandler, h)))
}

func (f *fetcher) openAll(id int64, payload []byte) {
	m := &pb.OpenStreamList{}
	err := unmarshal(payload, m)
	n := len(m.GetFileName())
	if err == nil && (len(m.GetStartIndex()) != n || len(m.GetEndIndex()) != n) {
		err = fmt.Errorf("%d files with %d starts and %d ends", n, len(m.GetStartIndex()), len(m.GetEndIndex()))
	}
	if err != nil {
		f.fail(id, err.Error())
		return
	}
	out := &pb.OpenStreamListResponse{}
	for i, name := range m.GetFileName() {
		local := i < len(m.GetReadLocalShuffle()) && m.GetReadLocalShuffle()[i]
		h, err := f.stream(m.GetShuffleKey(), name, m.GetStartIndex()[i], m.GetEndIndex()[i], local)
		if err != nil {
			out.StreamHandlerOpt = append(out.StreamHandlerOpt, &pb.StreamHandlerOpt{Status: int32(wire.OpenStreamFailed), ErrorMsg: err.Error()})
			continue
		}
		out.StreamHandlerOpt = append(out.StreamHandlerOpt, &pb.StreamHandlerOpt{StreamHandler: h})
	}
	f.answer(wire.AppendResponse(nil, id, wire.AppendRawProto(nil, wire.BatchOpenStreamResponse, out)))
}

// errLocal refuses what would have a client read files itself.
var errLocal = errors.New("clients cannot read this worker's files themselves: set spark.celeborn.client.readLocalShuffleFile.enabled=false")

func (f *fetcher) stream(key, file string, start, end int32, local bool) (*pb.StreamHandler, error) {
	if local {
		return nil, errLocal
	}
	s, err := f.w.store.OpenStream(key, file, start, end)
	if err != nil {
		f.w.log.Warn("a stream could not be opened", "shuffle", key, "file", file, "err", err)
		return nil, err
	}
	return &pb.StreamHandler{StreamId: s.ID, NumChunks: int32(s.Chunks())}, nil
}

// send sends chunks until the connection ends.
func (f *fetcher) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-f.chunks:
			began := time.Now()
			n, err := f.chunk(s)
			f.c.open.Add(-1)
			if err != nil {
				if ctx.Err() == nil {
					f.w.log.Warn("a chunk could not be sent", "peer", f.c.RemoteAddr(), "stream", s.StreamID, "chunk", s.Chunk, "err", err)
				}
				_ = f.c.Close()
				return
			}
			f.w.metrics.fetchTook(n, time.Since(began))
		}
	}
}

// chunk answers with a chunk, or says why not. An error means that the connection is of no more use.
func (f *fetcher) chunk(s wire.ChunkSlice) (int64, error) {
	c, err := f.w.store.Chunk(s)
	if err != nil {
		f.w.log.Warn("a chunk could not be read", "stream", s.StreamID, "chunk", s.Chunk, "err", err)
		f.answer(wire.AppendChunkFailure(nil, s, err.Error()))
		return 0, nil
	}
	defer c.Release()
	return c.Length, f.c.vectored(wire.AppendChunkHeader(make([]byte, 0, 32), s, int(c.Length)), c.Pieces)
}

func unmarshal(payload []byte, m proto.Message) error { return proto.Unmarshal(payload, m) }
