package spark

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// messages reads an Arrow IPC stream that is in memory. The batches are parts of it, where the library's reader copies
// them.
type messages struct{ data []byte }

// continuation is in front of each message.
const continuation = 0xFFFFFFFF

var errShort = errors.New("the data ends within a message")

// Message implements ipc.MessageReader. Arrow IPC: a mark, the length of the metadata, the metadata, the body; a length of
// zero is the end.
func (m *messages) Message() (_ *ipc.Message, err error) {
	defer func() { // what reads metadata panics where it is none
		if r := recover(); r != nil {
			err = fmt.Errorf("metadata of an Arrow message: %v", r)
		}
	}()
	const head = 8
	if len(m.data) == 0 {
		return nil, io.EOF
	}
	if len(m.data) < head || binary.LittleEndian.Uint32(m.data) != continuation {
		return nil, errors.New("no Arrow message begins here")
	}
	n := uint64(binary.LittleEndian.Uint32(m.data[4:]))
	rest := m.data[head:]
	switch {
	case n == 0:
		return nil, io.EOF
	case n > uint64(len(rest)):
		return nil, errShort
	}
	meta, rest := memory.NewBufferBytes(rest[:n]), rest[n:]
	body := ipc.NewMessage(meta, memory.NewBufferBytes(nil)).BodyLen()
	if body < 0 || body > int64(len(rest)) {
		return nil, errShort
	}
	m.data = rest[body:]
	return ipc.NewMessage(meta, memory.NewBufferBytes(rest[:body])), nil
}

// Release and Retain implement ipc.MessageReader; the garbage collector does their work.
func (*messages) Release() {}
func (*messages) Retain()  {}
