package hs2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// saslMessage is a message of the negotiation as clients send it.
func saslMessage(status byte, payload string) []byte {
	out := binary.BigEndian.AppendUint32([]byte{status}, uint32(len(payload)))
	return slices.Clip(append(out, payload...)) // so that two tests that go on from it share nothing
}

func plain(parts ...string) string { return strings.Join(parts, "\x00") }

// login is what check was asked.
type login struct{ authzid, user, password string }

// speak lets a client send bytes, in pieces of the given size, and returns what the server made of them: whom it asked
// for, its error, and all that it answered. A pipe has no buffer, so the client writes and reads at the same time.
func speak(t *testing.T, sent []byte, piece int, verdict error) (asked []login, answer []byte, err error) {
	t.Helper()
	client, server := net.Pipe()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for rest := sent; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := client.Write(rest[:n]); err != nil {
				return // the server has heard enough
			}
			rest = rest[n:]
		}
	}()
	answers := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(client)
		answers <- all
	}()
	err = negotiate(server, func(authzid, user, password string) error {
		asked = append(asked, login{authzid, user, password})
		return verdict
	})
	require.NoError(t, server.Close())
	<-wrote
	return asked, <-answers, err
}

func TestNegotiate(t *testing.T) {
	denied := saslFailure{"Error validating the login: the user name or the password is wrong"}
	start := saslMessage(saslStart, "PLAIN")
	for name, tc := range map[string]struct {
		sent    []byte
		verdict error
		asked   login
		bad     string // empty: the client is let in
	}{
		"Python: START, OK":     {append(start, saslMessage(saslOK, plain("", "ann", "pw"))...), nil, login{"", "ann", "pw"}, ""},
		"Java: START, COMPLETE": {append(start, saslMessage(saslComplete, plain("", "ann", "pw"))...), nil, login{"", "ann", "pw"}, ""},
		"two tokens":            {append(start, saslMessage(saslOK, plain("ann", "pw"))...), nil, login{"", "ann", "pw"}, ""},
		"three tokens":          {append(start, saslMessage(saslOK, plain("boss", "ann", "pw"))...), nil, login{"boss", "ann", "pw"}, ""},
		"not only ASCII":        {append(start, saslMessage(saslOK, plain("", "anné", "pä ss"))...), nil, login{"", "anné", "pä ss"}, ""},
		"denied":                {append(start, saslMessage(saslOK, plain("", "ann", "no"))...), denied, login{"", "ann", "no"}, denied.text},
		"wrong mechanism":       {saslMessage(saslStart, "GSSAPI"), nil, login{}, `Unsupported mechanism type "GSSAPI": this server offers PLAIN`},
		"mechanism in lower case": {saslMessage(saslStart, "plain"), nil, login{},
			`Unsupported mechanism type "plain": this server offers PLAIN`},
		"no mechanism": {saslMessage(saslStart, ""), nil, login{}, `Unsupported mechanism type "": this server offers PLAIN`},
		"wrong mechanism, and its response": {append(saslMessage(saslStart, "DIGEST-MD5"), saslMessage(saslComplete, "x")...), nil, login{},
			`Unsupported mechanism type "DIGEST-MD5": this server offers PLAIN`},
		"a mechanism of rubbish": {saslMessage(saslStart, strings.Repeat("\n\xff", 100)), nil, login{},
			`Unsupported mechanism type "` + strings.Repeat(`\n\xff`, 20) + `": this server offers PLAIN`},
		"no user":         {append(start, saslMessage(saslOK, plain("", "", "pw"))...), nil, login{}, "No user name provided"},
		"no password":     {append(start, saslMessage(saslOK, plain("", "ann", ""))...), nil, login{}, "No password provided"},
		"nothing at all":  {append(start, saslMessage(saslOK, "")...), nil, login{}, "Invalid PLAIN response: it must be [authzid] NUL user NUL password"},
		"one token":       {append(start, saslMessage(saslOK, "ann")...), nil, login{}, "Invalid PLAIN response: it must be [authzid] NUL user NUL password"},
		"four tokens":     {append(start, saslMessage(saslOK, plain("", "ann", "pw", ""))...), nil, login{}, "Invalid PLAIN response: it must be [authzid] NUL user NUL password"},
		"no UTF-8":        {append(start, saslMessage(saslOK, plain("", "ann", "\xff"))...), nil, login{}, "Invalid PLAIN response: it must be UTF-8"},
		"largest message": {append(start, saslMessage(saslOK, plain("", "a", strings.Repeat("p", maxNegotiation-3)))...), nil, login{"", "a", strings.Repeat("p", maxNegotiation-3)}, ""},
	} {
		for pieces, size := range map[string]int{"whole": 1 << 20, "byte by byte": 1} {
			t.Run(name+"/"+pieces, func(t *testing.T) {
				asked, answer, err := speak(t, tc.sent, size, tc.verdict)
				if tc.asked == (login{}) {
					require.Empty(t, asked)
				} else {
					require.Equal(t, []login{tc.asked}, asked)
				}
				if tc.bad == "" {
					require.NoError(t, err)
					require.Equal(t, saslMessage(saslComplete, ""), answer)
				} else {
					require.EqualError(t, err, tc.bad)
					require.Equal(t, saslMessage(saslBad, tc.bad), answer, "the client's user reads why")
				}
			})
		}
	}
}

// Who does not speak SASL gets no answer in it, and is not believed to have said anything.
func TestNegotiateRefusesOtherProtocols(t *testing.T) {
	start := saslMessage(saslStart, "PLAIN")
	for name, tc := range map[string]struct {
		sent []byte
		err  string
	}{
		"Thrift without SASL":   {[]byte("\x80\x01\x00\x01\x00\x00\x00\x0bOpenSession"), notSASL(0x80).Error()},
		"HTTP":                  {[]byte("GET / HTTP/1.1\r\n\r\n"), notSASL('G').Error()},
		"TLS":                   {[]byte("\x16\x03\x01\x02\x00\x01\x00"), notSASL(0x16).Error()},
		"begins with OK":        {saslMessage(saslOK, plain("", "ann", "pw")), notSASL(0).Error()},
		"START twice":           {append(start, saslMessage(saslStart, "PLAIN")...), "a SASL status of 1 where the PLAIN response was expected"},
		"BAD":                   {append(start, saslMessage(saslBad, "no")...), "a SASL status of 3 where the PLAIN response was expected"},
		"too large a start":     {[]byte{saslStart, 0, 1, 0, 1}, "a SASL message of 65537 bytes; 65536 are allowed"},
		"too large a response":  {append(start, saslOK, 0xff, 0xff, 0xff, 0xff), "a SASL message of 4294967295 bytes; 65536 are allowed"},
		"a status that is none": {append(start, 6, 0, 0, 0, 0), notSASL(0).Error()},
	} {
		t.Run(name, func(t *testing.T) {
			asked, answer, err := speak(t, tc.sent, 1<<20, nil)
			require.EqualError(t, err, tc.err)
			require.Empty(t, asked)
			require.Empty(t, answer)
		})
	}
}

// A client may go at any byte; none of it may look like a login. Going before the first byte is a port probe, io.EOF.
func TestNegotiateCutOff(t *testing.T) {
	all := append(saslMessage(saslStart, "PLAIN"), saslMessage(saslOK, plain("", "ann", "pw"))...)
	for n := range len(all) {
		var out bytes.Buffer
		err := negotiate(duplex{bytes.NewReader(all[:n]), &out}, func(_, _, _ string) error {
			t.Error("asked for a login that was not complete")
			return nil
		})
		if n == 0 {
			require.Equal(t, io.EOF, err)
		}
		require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "after %d bytes: %v", n, err)
		require.Zero(t, out.Len())
	}
}

type duplex struct {
	io.Reader
	io.Writer
}

func FuzzNegotiate(f *testing.F) {
	start := saslMessage(saslStart, "PLAIN")
	f.Add(append(start, saslMessage(saslOK, plain("", "ann", "pw"))...))
	f.Add(append(start, saslMessage(saslComplete, plain("ann", "pw"))...))
	f.Add(saslMessage(saslStart, "GSSAPI"))
	f.Add([]byte("\x80\x01\x00\x01"))
	f.Add(append(start, saslOK, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var out bytes.Buffer
		asked := 0
		err := negotiate(duplex{iotest.OneByteReader(bytes.NewReader(sent)), &out}, func(_, user, password string) error {
			asked++
			require.NotEmpty(t, user)
			require.NotEmpty(t, password)
			return nil
		})
		switch answer := out.Bytes(); {
		case err == nil: // let in, and only after its password was looked at
			require.Equal(t, 1, asked)
			require.Equal(t, saslMessage(saslComplete, ""), answer)
		case len(answer) > 0: // refused with a reason
			require.Zero(t, asked)
			require.Equal(t, saslMessage(saslBad, err.Error()), answer)
		}
	})
}
