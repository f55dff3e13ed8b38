package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Modes of a partition's copy.
const (
	Primary byte = 0
	Replica byte = 1
)

// Push is the message of a PushData frame; its body is one batch. The slices are views of the message.
type Push struct {
	RequestID  int64
	Mode       byte
	ShuffleKey []byte // application id, '-', shuffle id
	Partition  []byte // partition id, '-', epoch
}

// ParsePush reads the message of a PushData frame.
func ParsePush(message []byte) (Push, error) {
	d := decoder{b: message}
	p := Push{RequestID: d.int64(), Mode: d.byte(), ShuffleKey: d.text(), Partition: d.text()}
	return p, d.err("PushData")
}

// MergedPush is the message of a PushMergedData frame: entry i of the body belongs to Partitions[i] and begins at Offsets[i]. A
// partition may come several times.
type MergedPush struct {
	RequestID  int64
	Mode       byte
	ShuffleKey []byte
	Partitions [][]byte
	Offsets    []int32
}

// Parse reads the message of a PushMergedData frame with a body of that many bytes into p, whose slices are used again. The
// entries are checked to lie one after another in the body.
func (p *MergedPush) Parse(message []byte, body int) error {
	d := decoder{b: message}
	p.RequestID, p.Mode, p.ShuffleKey = d.int64(), d.byte(), d.text()
	n := int(d.int32())
	if n < 0 || n > len(message)/4 { // each has at least its length
		return errors.New("the PushMergedData frame is cut short")
	}
	p.Partitions, p.Offsets = p.Partitions[:0], p.Offsets[:0]
	for range n {
		p.Partitions = append(p.Partitions, d.text())
	}
	if k := int(d.int32()); k != n {
		return fmt.Errorf("a merged push of %d partitions has %d offsets", n, k)
	}
	last := int32(0)
	for i := range n {
		at := d.int32()
		if at < last || int(at) > body || i == 0 && at != 0 {
			return fmt.Errorf("entry %d of a merged push begins at %d, the one before at %d, the body has %d bytes", i, at, last, body)
		}
		p.Offsets = append(p.Offsets, at)
		last = at
	}
	return d.err("PushMergedData")
}

// Entry is entry i of the body.
func (p *MergedPush) Entry(body []byte, i int) []byte {
	if i+1 < len(p.Offsets) {
		return body[p.Offsets[i]:p.Offsets[i+1]]
	}
	return body[p.Offsets[i]:]
}

// AppendPush appends the header and message of a PushData frame with a body of that many bytes.
func AppendPush(b []byte, id int64, mode byte, shuffleKey, partition string, body int) []byte {
	b = appendHeader(b, 17+len(shuffleKey)+len(partition), PushData, body)
	b = append(binary.BigEndian.AppendUint64(b, uint64(id)), mode)
	return appendText(appendText(b, shuffleKey), partition)
}

// AppendMergedPush appends the header and message of a PushMergedData frame with a body of that many bytes.
func AppendMergedPush(b []byte, id int64, mode byte, shuffleKey string, partitions []string, offsets []int32, body int) []byte {
	size := 8 + 1 + 4 + len(shuffleKey) + 4 + 4 + 4*len(offsets)
	for _, p := range partitions {
		size += 4 + len(p)
	}
	b = appendHeader(b, size, PushMergedData, body)
	b = append(binary.BigEndian.AppendUint64(b, uint64(id)), mode)
	b = appendText(b, shuffleKey)
	b = binary.BigEndian.AppendUint32(b, uint32(len(partitions)))
	for _, p := range partitions {
		b = appendText(b, p)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(offsets)))
	for _, o := range offsets {
		b = binary.BigEndian.AppendUint32(b, uint32(o))
	}
	return b
}

// AppendForwarded appends the header and message with which a push goes on to the replica: the client's own message with another
// request id and mode.
func AppendForwarded(b []byte, t FrameType, message []byte, id int64, body int) []byte {
	b = appendHeader(b, len(message), t, body)
	at := len(b)
	b = append(b, message...)
	binary.BigEndian.PutUint64(b[at:], uint64(id))
	b[at+8] = Replica
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// BatchHeader is the length of what precedes every batch of a Spark client: map id, attempt id, batch id and the bytes that
// follow, int32 each, little-endian (JVMs write their own byte order, and all of them run on such processors).
const BatchHeader = 16

// Batch is one unit of pushed data.
type Batch struct {
	MapID, AttemptID, BatchID int32
	Size                      int // bytes that follow the header
}

// ParseBatch reads a batch's header; the batch must lie whole in b.
func ParseBatch(b []byte) (Batch, error) {
	if len(b) < BatchHeader {
		return Batch{}, fmt.Errorf("a batch of %d bytes has no header", len(b))
	}
	out := ParseBatchHeader(b)
	if out.Size < 0 || out.Size > len(b)-BatchHeader {
		return Batch{}, fmt.Errorf("a batch says it has %d bytes and has %d", out.Size, len(b)-BatchHeader)
	}
	return out, nil
}

// ParseBatchHeader reads the first BatchHeader bytes of a batch.
func ParseBatchHeader(b []byte) Batch {
	le := binary.LittleEndian
	return Batch{MapID: int32(le.Uint32(b)), AttemptID: int32(le.Uint32(b[4:])), BatchID: int32(le.Uint32(b[8:])), Size: int(int32(le.Uint32(b[12:])))}
}

// CheckBatches says whether b is whole batches, one after another, and which map is the first one's. A push that is not
// would make every later batch of its partition unreadable.
func CheckBatches(b []byte) (mapID int32, err error) {
	for first := true; first || len(b) > 0; first = false {
		h, err := ParseBatch(b)
		if err != nil {
			return 0, err
		}
		if first {
			mapID = h.MapID
		}
		b = b[BatchHeader+h.Size:]
	}
	return mapID, nil
}

// AppendBatch appends a batch of these bytes.
func AppendBatch(b []byte, mapID, attemptID, batchID int32, data []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(le.AppendUint32(b, uint32(mapID)), uint32(attemptID))
	b = le.AppendUint32(le.AppendUint32(b, uint32(batchID)), uint32(len(data)))
	return append(b, data...)
}
