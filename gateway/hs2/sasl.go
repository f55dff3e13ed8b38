package hs2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// The negotiation of Thrift's SASL transport: one byte of status, four bytes of length, then the payload.
const (
	saslStart    = 1
	saslOK       = 2
	saslBad      = 3
	saslComplete = 5
)

// maxNegotiation bounds a payload of the negotiation; a PLAIN response is a name and a password.
const maxNegotiation = 64 << 10

// notSASL says what a peer speaks whose first byte begins no SASL negotiation.
func notSASL(first byte) error {
	what := "the client does not speak SASL"
	switch first {
	case 0x80: // of a message in Thrift's strict form
		what += ": it is set to NOSASL; set it to its default, or hs2.sasl to false for all"
	case 0x16: // a record of a TLS handshake
		what += ": it speaks TLS, which this port does only with tls.cert and tls.key"
	case 'G', 'H', 'O', 'P':
		what += ": it speaks HTTP, which is at listen.http"
	}
	return errors.New(what)
}

// saslFailure tells the client, in words that it shows to its user, why it may not come in.
type saslFailure struct{ text string }

func (e saslFailure) Error() string { return e.text }

// readSASL reads one message of the negotiation.
func readSASL(r io.Reader) (status byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0] < saslStart || head[0] > saslComplete {
		return 0, nil, notSASL(head[0])
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxNegotiation {
		return 0, nil, fmt.Errorf("a SASL message of %d bytes; %d are allowed", n, maxNegotiation)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}

func writeSASL(w io.Writer, status byte, payload []byte) error {
	msg := make([]byte, 5, 5+len(payload))
	msg[0] = status
	binary.BigEndian.PutUint32(msg[1:], uint32(len(payload)))
	_, err := w.Write(append(msg, payload...))
	return err
}

// negotiate is the server's side of SASL PLAIN. check proves the name and password; its error is told to the client.
func negotiate(rw io.ReadWriter, check func(authzid, user, password string) error) error {
	status, mechanism, err := readSASL(rw)
	if err != nil {
		return err
	}
	if status != saslStart {
		return notSASL(status)
	}
	if string(mechanism) != "PLAIN" {
		return refuse(rw, saslFailure{fmt.Sprintf("Unsupported mechanism type %s: this server offers PLAIN", printable(mechanism))})
	}
	// Java sends the response as COMPLETE, Python as OK; both mean the same.
	status, response, err := readSASL(rw)
	if err != nil {
		return err
	}
	if status != saslOK && status != saslComplete {
		return fmt.Errorf("a SASL status of %d where the PLAIN response was expected", status)
	}
	authzid, user, password, err := parsePlain(response)
	if err == nil {
		err = check(authzid, user, password)
	}
	if err != nil {
		return refuse(rw, err)
	}
	return writeSASL(rw, saslComplete, nil)
}

// refuse tells the client why, and returns the reason.
func refuse(w io.Writer, why error) error {
	if err := writeSASL(w, saslBad, []byte(why.Error())); err != nil {
		return err
	}
	return why
}

// parsePlain reads `[authzid] NUL user NUL password` (RFC 4616). Clients leave out the first part, and some its NUL.
func parsePlain(response []byte) (authzid, user, password string, err error) {
	parts := bytes.Split(response, []byte{0})
	switch {
	case len(parts) == 2:
		parts = append([][]byte{nil}, parts...)
	case len(parts) != 3:
		return "", "", "", saslFailure{"Invalid PLAIN response: it must be [authzid] NUL user NUL password"}
	}
	for _, p := range parts {
		if !utf8.Valid(p) {
			return "", "", "", saslFailure{"Invalid PLAIN response: it must be UTF-8"}
		}
	}
	authzid, user, password = string(parts[0]), string(parts[1]), string(parts[2])
	switch {
	case user == "":
		return "", "", "", saslFailure{"No user name provided"}
	case password == "":
		return "", "", "", saslFailure{"No password provided"}
	}
	return authzid, user, password, nil
}

func printable(b []byte) string { return fmt.Sprintf("%.40q", b) }
