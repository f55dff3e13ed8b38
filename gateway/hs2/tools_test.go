package hs2

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lineTo is a line of a server, and the client's end.
func lineTo(t *testing.T) (*line, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	s := New(Options{SASL: true, MaxMessage: 1 << 20, MessageTimeout: time.Minute})
	return s.newLine(ours, &handler{server: s}), theirs
}

// A line has tools while there is something of a call, and loses no byte when it gets them.
func TestALineHasToolsWhileItNeedsThem(t *testing.T) {
	l, client := lineTo(t)
	l.leave()
	require.Nil(t, l.tools)
	l.leave() // again is no fault
	l.equip()
	sent := make(chan error, 1)
	send := func(text string) {
		go func() { _, err := io.WriteString(client, text); sent <- err }()
	}
	read := func(n int) string {
		buf := make([]byte, n)
		_, err := io.ReadFull(l.transport, buf)
		require.NoError(t, err)
		return string(buf)
	}
	send(frame("hello")) // byte by byte or at once
	require.NoError(t, l.wait())
	require.Equal(t, "hel", read(3))
	had := l.tools
	require.NoError(t, l.wait(), "the rest of a frame is here")
	require.Same(t, had, l.tools)
	require.Equal(t, "lo", read(2))
	require.NoError(t, <-sent)

	send(frame("two") + frame("three"))
	require.NoError(t, l.wait())
	require.Equal(t, "two", read(3))
	require.NoError(t, l.wait(), "the next frame has come with it")
	require.Equal(t, "three", read(5))
	require.NoError(t, <-sent)

	require.NoError(t, client.Close())
	require.ErrorIs(t, l.wait(), io.EOF)
	require.Nil(t, l.tools, "who is idle, or gone, has none")
}

// What one connection left behind does not reach the next that has its tools.
func TestToolsForgetWhoHadThem(t *testing.T) {
	l, client := lineTo(t)
	go func() { _, _ = io.WriteString(client, frame("secret")[:7]) }()
	require.NoError(t, l.wait())
	buf := make([]byte, 1)
	_, err := io.ReadFull(l.transport, buf)
	require.NoError(t, err)
	_, _ = l.transport.Write([]byte("reply"))
	left := l.tools
	l.leave()
	require.Zero(t, left.in.Buffered())
	require.Zero(t, left.transport.left)
	require.Empty(t, left.transport.out)
	require.Nil(t, left.handler)
}
