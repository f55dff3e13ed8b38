package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Form is how a message is put on an RPC port. A reply takes the form of its request.
type Form byte

const (
	// Neutral is one byte 0xFF, the type and the payload: written by clients from 0.6 on that are no JVMs, read by all from 0.6 on.
	Neutral Form = iota
	// Java3 is Java's serialization of a TransportMessage with three fields: requests of JVM clients from 0.6 on.
	Java3
	// Java2 is the same with two fields: all that a 0.5 client writes and reads.
	Java2
)

// The parts of Java's serialization that never change: (java.io.ObjectStreamConstants; TransportMessage.java, RpcEndpointVerifier.scala).
const (
	magic          = "\xac\xed\x00\x05"
	class          = magic + "sr\x00\x3corg.apache.celeborn.common.network.protocol.TransportMessage\xd2\xc5\xb3\xed\xf7\x07\x0f\x33\x02\x00"
	fields         = "I\x00\x10messageTypeValue[\x00\x07payloadt\x00\x02[B"
	java2Prefix    = class + "\x02" + fields + "xp"
	java3Prefix    = class + "\x03" + fields + "L\x00\x0cserdeVersiont\x00\x3aLorg/apache/celeborn/common/network/protocol/SerdeVersion;xp"
	java3Suffix    = "\x7er\x00\x38org.apache.celeborn.common.network.protocol.SerdeVersion\x00\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00xr\x00\x0ejava.lang.Enum\x00\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00xpt\x00\x02V1"
	byteArray      = "ur\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp"
	null           = "p"
	checkExistence = magic + "sr\x00\x47org.apache.celeborn.common.rpc.netty.RpcEndpointVerifier$CheckExistence\x00\x00\x00\x72\xad\xe1\xba\x7d\x02\x00\x01L\x00\x04namet\x00\x12Ljava/lang/String;xpt"
	boolean        = magic + "sr\x00\x11java.lang.Boolean\xcd\x20\x72\x80\xd5\x9c\xfa\xee\x02\x00\x01Z\x00\x05valuexp"
)

// neutralMark is the first byte of the neutral form.
const neutralMark = 0xFF

// errForm is what none of the forms is.
var errForm = errors.New("a message in a form that no Celeborn client from 0.5 to 0.7 sends")

// ParseContent reads the content of an envelope; payload is a view of it.
func ParseContent(c []byte) (form Form, t MessageType, payload []byte, err error) {
	switch {
	case len(c) > 0 && c[0] == neutralMark:
		t, payload, err = ParseRaw(c[1:])
		return Neutral, t, payload, err
	case bytes.HasPrefix(c, []byte(java3Prefix)):
		t, payload, rest, err := javaFields(c[len(java3Prefix):])
		if err == nil && string(rest) != java3Suffix {
			err = errForm
		}
		return Java3, t, payload, err
	case bytes.HasPrefix(c, []byte(java2Prefix)):
		t, payload, rest, err := javaFields(c[len(java2Prefix):])
		if err == nil && len(rest) != 0 {
			err = errForm
		}
		return Java2, t, payload, err
	}
	return 0, 0, nil, errForm
}

func javaFields(b []byte) (t MessageType, payload, rest []byte, err error) {
	d := decoder{b: b}
	t = MessageType(d.int32())
	if d.bad {
		return 0, nil, nil, errForm
	}
	if len(d.b) > 0 && d.b[0] == null[0] {
		return t, nil, d.b[1:], nil
	}
	if string(d.take(len(byteArray))) != byteArray {
		return 0, nil, nil, errForm
	}
	payload = d.text()
	return t, payload, d.b, d.err("Java message")
}

// AppendContent appends a message in that form. A nil payload is Java's null.
func AppendContent(b []byte, form Form, t MessageType, payload []byte) []byte {
	switch form {
	case Java2:
		return appendJava(append(b, java2Prefix...), t, payload)
	case Java3:
		return append(appendJava(append(b, java3Prefix...), t, payload), java3Suffix...)
	default:
		return AppendRaw(append(b, neutralMark), t, payload)
	}
}

func appendJava(b []byte, t MessageType, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(t))
	if payload == nil {
		return append(b, null...)
	}
	b = append(b, byteArray...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(payload))), payload...)
}

// ParseCheckExistence returns the endpoint that a request to VerifierEndpoint asks for.
func ParseCheckExistence(c []byte) (endpoint string, err error) {
	if !bytes.HasPrefix(c, []byte(checkExistence)) {
		return "", fmt.Errorf("the question for an endpoint is not CheckExistence: %w", errForm)
	}
	d := decoder{b: c[len(checkExistence):]}
	endpoint = string(d.utf())
	if len(d.b) != 0 {
		return "", errForm
	}
	return endpoint, d.err("CheckExistence")
}

// AppendCheckExistence appends the question whether an endpoint is there.
func AppendCheckExistence(b []byte, endpoint string) []byte {
	b = append(b, checkExistence...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(endpoint))), endpoint...)
}

// AppendBoolean appends the answer to CheckExistence, a java.lang.Boolean: there is no neutral form of it.
func AppendBoolean(b []byte, yes bool) []byte {
	b = append(b, boolean...)
	if yes {
		return append(b, 1)
	}
	return append(b, 0)
}
