package wire_test

import (
	"bytes"
	"io"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// eachCapture calls add with what real clients and servers sent.
func eachCapture(f *testing.F, add func(head wire.Header, message, body []byte)) {
	f.Helper()
	files, err := filepath.Glob("testdata/*-*/*.hex")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		for _, c := range captures(f, file) {
			h, err := wire.ParseHeader(c.frame)
			require.NoError(f, err)
			add(h, c.frame[wire.HeaderSize:wire.HeaderSize+h.Message], c.frame[wire.HeaderSize+h.Message:])
		}
	}
}

// bounded fails if f allocates much more than an input of that length deserves.
func bounded(t *testing.T, input int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+100*input), "bytes allocated for an input of %d", input)
}

// slowly gives at most as many bytes at a time as the pattern says, over and over.
type slowly struct {
	src     io.Reader
	pattern []byte
	at      int
}

func (c *slowly) Read(p []byte) (int, error) {
	n := 1
	if len(c.pattern) > 0 {
		n += int(c.pattern[c.at%len(c.pattern)])
		c.at++
	}
	return c.src.Read(p[:min(n, len(p))])
}

type frame struct {
	h             wire.Header
	message, body []byte
}

// readAll reads frames until something is wrong; of every other one half the body is dropped.
func readAll(src io.Reader) (all []frame, err error) {
	r := wire.NewReader(src)
	for i := 0; ; i++ {
		h, message, err := r.Next()
		if err != nil {
			return all, err
		}
		f := frame{h: h, message: bytes.Clone(message)}
		keep := min(h.Body, 64<<10) // a header alone does not get the memory
		if i%2 == 1 {
			keep /= 2
		}
		f.body = make([]byte, keep)
		if err := r.ReadBody(f.body); err != nil {
			return all, err
		}
		if err := r.Discard(); err != nil {
			return all, err
		}
		all = append(all, f)
	}
}

// FuzzReader: however the bytes come in, the frames are the same, and a header that lies costs nothing.
func FuzzReader(f *testing.F) {
	eachCapture(f, func(h wire.Header, message, body []byte) {
		if h.Body == len(body) {
			one := append(wire.AppendForwarded(nil, h.Type, message, 1, h.Body), body...)
			f.Add(append(bytes.Clone(one), one...), []byte{7, 0, 200})
		}
	})
	f.Add([]byte{0, 0x7f, 0xff, 0xff, 12, 0, 0, 0, 0, 1}, []byte{})
	f.Fuzz(func(t *testing.T, data, pattern []byte) {
		var want, got []frame
		var wantErr, gotErr error
		bounded(t, len(data), func() { want, wantErr = readAll(bytes.NewReader(data)) })
		got, gotErr = readAll(&slowly{src: bytes.NewReader(data), pattern: pattern})
		require.Equal(t, want, got)
		require.Equal(t, wantErr, gotErr)
	})
}

// TestReaderOfBigMessages: what does not fit the first buffer, in pieces and followed by others.
func TestReaderOfBigMessages(t *testing.T) {
	for _, size := range []int{1 << 10, 1<<11 + 1, 1 << 16, 1<<16 + 1, 1 << 20} {
		one := append([]byte{0, byte(size >> 16), byte(size >> 8), byte(size), byte(wire.PushMergedData), 0, 0, 0, 9}, bytes.Repeat([]byte("abc"), size)[:size+9]...)
		data := bytes.Join([][]byte{wire.AppendHeartbeat(nil), one, one, wire.AppendHeartbeat(nil), one, wire.AppendHeartbeat(nil)}, nil)
		want, err := readAll(bytes.NewReader(data))
		require.ErrorIs(t, err, io.EOF)
		require.Len(t, want, 6)
		require.Equal(t, one[wire.HeaderSize:wire.HeaderSize+size], want[1].message)
		for _, pattern := range [][]byte{{255}, {200, 3, 99}, {0, 255, 255, 255}} {
			got, err := readAll(&slowly{src: bytes.NewReader(data), pattern: pattern})
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, want, got)
		}
	}
	bounded(t, 10, func() {
		_, err := readAll(bytes.NewReader([]byte{0, 0x7f, 0xff, 0xff, 12, 0, 0, 0, 0, 1}))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

// FuzzContent: what is taken is written back byte for byte in its form.
func FuzzContent(f *testing.F) {
	eachCapture(f, func(_ wire.Header, _, body []byte) {
		f.Add(body)
		if e, err := wire.ParseEnvelope(body); err == nil {
			f.Add(e.Content)
		}
	})
	f.Add(wire.AppendContent(nil, wire.Java3, 54, nil))
	f.Add(wire.AppendContent(nil, wire.Java2, 54, []byte{}))
	f.Add(wire.AppendContent(nil, wire.Neutral, 54, []byte{1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded(t, len(data), func() {
			if form, kind, payload, err := wire.ParseContent(data); err == nil {
				require.Equal(t, data, wire.AppendContent(nil, form, kind, payload))
			}
			if kind, payload, err := wire.ParseRaw(data); err == nil {
				require.Equal(t, data, wire.AppendRaw(nil, kind, payload))
			}
			if name, err := wire.ParseCheckExistence(data); err == nil {
				require.Equal(t, data, wire.AppendCheckExistence(nil, name))
			}
		})
	})
}

// FuzzEnvelope: an envelope without addresses is written back; others do no harm.
func FuzzEnvelope(f *testing.F) {
	eachCapture(f, func(_ wire.Header, _, body []byte) { f.Add(body) })
	f.Add(wire.AppendEnvelope(nil, wire.MasterEndpoint, []byte("x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded(t, len(data), func() {
			e, err := wire.ParseEnvelope(data)
			if err == nil && data[0] == 0 && data[1] == 0 {
				require.Equal(t, data, wire.AppendEnvelope(nil, e.Endpoint, e.Content))
			}
		})
	})
}

// FuzzMessages: the messages of frames, whole or cut anywhere.
func FuzzMessages(f *testing.F) {
	eachCapture(f, func(h wire.Header, message, _ []byte) { f.Add(message, uint32(h.Body)) })
	f.Fuzz(func(t *testing.T, data []byte, size uint32) {
		size %= 1 << 31
		bounded(t, len(data), func() {
			if p, err := wire.ParsePush(data); err == nil {
				again := wire.AppendPush(nil, p.RequestID, p.Mode, string(p.ShuffleKey), string(p.Partition), 0)[wire.HeaderSize:]
				require.Equal(t, data[:len(again)], again)
			}
			_, _ = wire.ParseRPC(data)
			_, _, _ = wire.ParseFailure(data)
			_, _, _ = wire.ParseChunk(wire.ChunkFetchSuccess, data)
			_, _, _ = wire.ParseChunk(wire.ChunkFetchFailure, data)
		})
		var p wire.MergedPush
		bounded(t, len(data), func() {
			if p.Parse(data, int(size)) != nil {
				return
			}
			var parts []string
			for _, id := range p.Partitions {
				parts = append(parts, string(id))
			}
			again := wire.AppendMergedPush(nil, p.RequestID, p.Mode, string(p.ShuffleKey), parts, p.Offsets, 0)[wire.HeaderSize:]
			require.Equal(t, data[:len(again)], again)
		})
	})
}

// FuzzMergedEntries: entries lie one after another and are together the whole body.
func FuzzMergedEntries(f *testing.F) {
	eachCapture(f, func(h wire.Header, message, body []byte) {
		if h.Type == wire.PushMergedData {
			f.Add(message, body)
		}
	})
	f.Add(wire.AppendMergedPush(nil, 1, 0, "a-0", []string{"0-0", "1-0", "0-0"}, []int32{0, 2, 2}, 5)[wire.HeaderSize:], []byte("hello"))
	f.Fuzz(func(t *testing.T, message, body []byte) {
		var p wire.MergedPush
		if p.Parse(message, len(body)) != nil || len(p.Partitions) == 0 {
			return
		}
		var joined []byte
		for i := range p.Partitions {
			joined = append(joined, p.Entry(body, i)...)
		}
		require.True(t, bytes.Equal(body, joined))
	})
}

// FuzzBatches: what CheckBatches takes can be cut into batches to the last byte.
func FuzzBatches(f *testing.F) {
	f.Add(wire.AppendBatch(wire.AppendBatch(nil, 2, 0, 1, []byte("hello")), 2, 0, 2, nil))
	f.Add(wire.AppendBatch(nil, 0, 0, -1, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := wire.CheckBatches(data)
		if err != nil {
			return
		}
		var again []byte
		for rest := data; len(rest) > 0; {
			b, err := wire.ParseBatch(rest)
			require.NoError(t, err)
			if len(again) == 0 {
				require.Equal(t, first, b.MapID)
			}
			again = wire.AppendBatch(again, b.MapID, b.AttemptID, b.BatchID, rest[wire.BatchHeader:wire.BatchHeader+b.Size])
			rest = rest[wire.BatchHeader+b.Size:]
		}
		require.True(t, bytes.Equal(data, again))
	})
}

// FuzzLocations: packed locations as a client packs them or not, and whatever else a message can say.
func FuzzLocations(f *testing.F) {
	eachCapture(f, func(h wire.Header, _, body []byte) {
		if e, err := wire.ParseEnvelope(body); h.Type == wire.RPCRequest && err == nil {
			if _, kind, payload, err := wire.ParseContent(e.Content); err == nil && kind == wire.ReserveSlots {
				f.Add(payload)
			}
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r pb.ReserveSlots
		if proto.Unmarshal(data, &r) != nil {
			return
		}
		bounded(t, len(data), func() {
			ls, err := wire.ReservedLocations(&r)
			if err != nil {
				return
			}
			for _, l := range ls {
				require.NotNil(t, l.Proto(2))
			}
		})
	})
}

// FuzzNames: a name that is taken is said in one way only, so that two names never mean the same file.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"10.0.0.1:1:2:3:4", "fe80::1:1:2:3:4", "app-1-0", "application_1_2_1-0", "3-0", "3-0-1", "03-0", "2147483648-0", "-1-0", "1-+2", ":1:2:3:4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if w, err := wire.ParseWorkerID(s); err == nil {
			again, err := wire.ParseWorkerID(w.String())
			require.NoError(t, err)
			require.Equal(t, w, again)
			require.Equal(t, w, wire.WorkerOf(w.Info()))
			require.Equal(t, s, w.String())
		}
		if app, n, err := wire.ParseShuffleKey(s); err == nil {
			require.Equal(t, s, wire.ShuffleKey(app, n))
		}
		if p, err := wire.ParsePartition([]byte(s)); err == nil {
			require.Equal(t, s, p.String())
		}
		if p, mode, err := wire.ParseFileName(s); err == nil {
			require.Equal(t, s, p.String()+"-"+string('0'+mode))
		}
	})
}
