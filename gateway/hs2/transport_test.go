package hs2

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/require"
)

func frame(data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)))) + data
}

// written is a connection that keeps what is written to it, a piece for each Write.
type written struct {
	net.Conn
	pieces []string
	err    error
}

func (w *written) Write(p []byte) (int, error) {
	w.pieces = append(w.pieces, string(p))
	return len(p), w.err
}

func (w *written) SetWriteDeadline(time.Time) error { return nil }

// writing is a transport on a connection that is only written to.
func writing(conn net.Conn, framed bool) *transport {
	tr := newTransport(nil, framed, 16, time.Minute)
	tr.bind(conn)
	return tr
}

func reading(in io.Reader, framed bool, max uint32) *transport {
	return newTransport(bufio.NewReader(in), framed, max, time.Minute)
}

func TestTransportReads(t *testing.T) {
	for name, tc := range map[string]struct {
		framed bool
		in     string
		want   string
	}{
		"one frame":                      {true, frame("hello"), "hello"},
		"a message over several frames":  {true, frame("he") + frame("l") + frame("lo"), "hello"},
		"several messages in one frame":  {true, frame("hellohello"), "hellohello"},
		"frames without data":            {true, frame("") + frame("hel") + frame("") + frame("") + frame("lo"), "hello"},
		"a frame as large as is allowed": {true, frame("0123456789abcdef"), "0123456789abcdef"},
		"bare":                           {false, "hello", "hello"},
		"bare has no limit of frames":    {false, "0123456789abcdefghij", "0123456789abcdefghij"},
	} {
		for pieces, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "end with data": iotest.DataErrReader,
		} {
			t.Run(name+"/"+pieces, func(t *testing.T) {
				tr := reading(wrap(bytes.NewReader([]byte(tc.in))), tc.framed, 16)
				got := make([]byte, len(tc.want))
				_, err := io.ReadFull(tr, got)
				require.NoError(t, err)
				require.Equal(t, tc.want, string(got))
				_, err = tr.Read(make([]byte, 1))
				require.True(t, isEnd(err), "%v", err)
			})
		}
	}
}

// What follows a message in its frame belongs to the next message: a reader gets no more than it asks for, and no less.
func TestTransportReadsAcrossMessages(t *testing.T) {
	tr := reading(bytes.NewReader([]byte(frame("aab")+frame("bcc"))), true, 16)
	for _, want := range []string{"aa", "bb", "cc"} {
		got := make([]byte, 2)
		_, err := io.ReadFull(tr, got)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestTransportRefusesLargeFrames(t *testing.T) {
	tr := reading(bytes.NewReader([]byte(frame("0123456789abcdefg"))), true, 16)
	_, err := tr.Read(make([]byte, 1))
	require.EqualError(t, err, "a frame of 17 bytes; hs2.max_message_size allows 16")
	require.False(t, isEnd(err), "the log must tell of it")

	tr = reading(bytes.NewReader([]byte("GET / HTTP/1.1")), true, 100<<20)
	_, err = tr.Read(make([]byte, 1))
	require.ErrorContains(t, err, "a frame of 1195725856 bytes")
}

func TestTransportErrors(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		in  io.Reader
		end bool
	}{
		"nothing":             {bytes.NewReader(nil), true},
		"cut in the length":   {bytes.NewReader([]byte{0, 0}), true},
		"cut after it":        {bytes.NewReader([]byte{0, 0, 0, 5}), true},
		"closed by ourselves": {iotest.ErrReader(net.ErrClosed), true},
		"a fault":             {iotest.ErrReader(boom), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := reading(tc.in, true, 16).Read(make([]byte, 1))
			var te thrift.TTransportException
			require.ErrorAs(t, err, &te)
			require.Equal(t, tc.end, isEnd(err))
		})
	}
}

// A reply goes out in one piece, or in none: a frame that is begun can never be taken back.
func TestTransportWrites(t *testing.T) {
	for name, tc := range map[string]struct {
		framed bool
		want   string
	}{"framed": {true, frame("hello")}, "bare": {false, "hello"}} {
		t.Run(name, func(t *testing.T) {
			conn := &written{}
			tr := writing(conn, tc.framed)
			for range 2 { // the second reply begins anew
				conn.pieces = nil
				for _, part := range []string{"he", "", "llo"} {
					n, err := tr.Write([]byte(part))
					require.NoError(t, err)
					require.Equal(t, len(part), n)
				}
				require.Empty(t, conn.pieces)
				require.NoError(t, tr.Flush(t.Context()))
				require.Equal(t, []string{tc.want}, conn.pieces)
			}
		})
	}
}

func TestTransportFlushesNothing(t *testing.T) {
	conn := &written{}
	require.NoError(t, writing(conn, true).Flush(t.Context()))
	require.Empty(t, conn.pieces, "an empty frame means something to some clients")
}

func TestTransportForgetsAReplyThatFailed(t *testing.T) {
	conn := &written{err: net.ErrClosed}
	tr := writing(conn, true)
	_, _ = tr.Write([]byte("lost"))
	require.True(t, isEnd(tr.Flush(t.Context())))
	conn.err, conn.pieces = nil, nil
	_, _ = tr.Write([]byte("next"))
	require.NoError(t, tr.Flush(t.Context()))
	require.Equal(t, []string{frame("next")}, conn.pieces)
}

// A large reply is not copied, and its memory not held for as long as the connection lives.
func TestTransportWritesLargeRepliesAsTheyAre(t *testing.T) {
	for framed, head := range map[bool]string{true: frame(strings.Repeat("x", 2*oneWrite+2))[:frameHeader], false: ""} {
		conn := &written{}
		tr := writing(conn, framed)
		rows := strings.Repeat("x", 2*oneWrite)
		for _, piece := range []string{"a", rows, "b"} {
			_, _ = tr.Write([]byte(piece))
		}
		require.NoError(t, tr.Flush(t.Context()))
		require.Equal(t, head+"a"+rows+"b", strings.Join(conn.pieces, ""))
		for _, kept := range tr.out[:cap(tr.out)] {
			require.Nil(t, kept)
		}
	}
}

// However frames are cut, their data comes in order, and nothing of a frame that is too large.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame("hello") + frame("") + frame("world")))
	f.Add([]byte("\x00\x00\x00\x11" + "0123456789abcdefg"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		const max = 16
		var want []byte
		for rest := sent; len(rest) >= frameHeader; {
			n := binary.BigEndian.Uint32(rest)
			if n > max {
				break
			}
			rest = rest[frameHeader:]
			data := rest[:min(int(n), len(rest))]
			want, rest = append(want, data...), rest[len(data):]
		}
		for _, in := range []io.Reader{bytes.NewReader(sent), iotest.OneByteReader(bytes.NewReader(sent))} {
			got, err := io.ReadAll(reading(in, true, max))
			require.Error(t, err)
			require.Equal(t, len(want), len(got))
			require.True(t, bytes.Equal(want, got))
		}
	})
}
