package wire

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
)

// MessageType numbers a control message (TransportMessages.proto, enum MessageType).
type MessageType int32

// What Spark's clients send and expect, and what our workers send to their master.
const (
	HeartbeatFromWorker              MessageType = 2
	HeartbeatFromWorkerResponse      MessageType = 3
	RequestSlots                     MessageType = 6
	RequestSlotsResponse             MessageType = 9
	UnregisterShuffle                MessageType = 16
	UnregisterShuffleResponse        MessageType = 17
	ApplicationLost                  MessageType = 18
	ApplicationLostResponse          MessageType = 19
	HeartbeatFromApplication         MessageType = 20
	CheckQuota                       MessageType = 23
	CheckQuotaResponse               MessageType = 24
	ReserveSlots                     MessageType = 28
	ReserveSlotsResponse             MessageType = 29
	CommitFiles                      MessageType = 30
	CommitFilesResponse              MessageType = 31
	Destroy                          MessageType = 32
	DestroyResponse                  MessageType = 33
	OneWayMessageResponse            MessageType = 40
	HeartbeatFromApplicationResponse MessageType = 49
	OpenStream                       MessageType = 51
	StreamHandler                    MessageType = 52
	CheckWorkersAvailable            MessageType = 53
	CheckWorkersAvailableResponse    MessageType = 54
	BufferStreamEnd                  MessageType = 60
	ChunkFetch                       MessageType = 63
	SaslRequest                      MessageType = 71
	AuthenticationInitiation         MessageType = 72
	BatchOpenStream                  MessageType = 80
	BatchOpenStreamResponse          MessageType = 81
	BatchUnregisterShuffles          MessageType = 87
	BatchUnregisterShuffleResponse   MessageType = 88
	ReviseLostShuffles               MessageType = 89
	ReviseLostShufflesResponse       MessageType = 90
	SplitPartitionInfo               MessageType = 91
	RegisterApplicationInfo          MessageType = 96

	// StatusRequest and StatusResponse are ours: `sluice shuffle status` asks the master.
	StatusRequest  MessageType = 10001
	StatusResponse MessageType = 10002
	// ExcludeWorkers and ExcludeWorkersResponse are ours: `sluice shuffle exclude` and `include`.
	ExcludeWorkers         MessageType = 10003
	ExcludeWorkersResponse MessageType = 10004
)

// ParseRaw reads a message as it is on the push and fetch ports: type, length, payload.
func ParseRaw(b []byte) (t MessageType, payload []byte, err error) {
	d := decoder{b: b}
	t = MessageType(d.int32())
	payload = d.text()
	if !d.bad && len(d.b) > 0 {
		return 0, nil, fmt.Errorf("%d bytes follow a message of type %d", len(d.b), t)
	}
	return t, payload, d.err("message")
}

// AppendRaw appends a message as it is on the push and fetch ports.
func AppendRaw(b []byte, t MessageType, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(t))
	return append(binary.BigEndian.AppendUint32(b, uint32(len(payload))), payload...)
}

// AppendRawProto is AppendRaw of a protobuf message.
func AppendRawProto(b []byte, t MessageType, m proto.Message) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(t))
	b = binary.BigEndian.AppendUint32(b, uint32(proto.Size(m)))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil { // only a message of ours with an invalid string
		panic(fmt.Sprintf("marshal %T: %v", m, err))
	}
	return b
}

// ShuffleKey is how a shuffle is named in frames.
func ShuffleKey(app string, shuffle int32) string { return app + "-" + strconv.Itoa(int(shuffle)) }

// ParseShuffleKey takes a shuffle's name apart. Application ids have dashes of their own.
func ParseShuffleKey(key string) (app string, shuffle int32, err error) {
	i := strings.LastIndexByte(key, '-')
	if i <= 0 {
		return "", 0, fmt.Errorf("%q is no shuffle key: it has the form APPLICATION-SHUFFLE", key)
	}
	n, rest, ok := number([]byte(key[i+1:]))
	if !ok || len(rest) != 0 {
		return "", 0, fmt.Errorf("%q is no shuffle key: it has the form APPLICATION-SHUFFLE", key)
	}
	return key[:i], n, nil
}

// PartitionID is a partition of one epoch: a location's own number, which it has on every copy.
type PartitionID struct{ ID, Epoch int32 }

// String is its name on the wire.
func (p PartitionID) String() string {
	return strconv.Itoa(int(p.ID)) + "-" + strconv.Itoa(int(p.Epoch))
}

// ParsePartition reads a PartitionID from its name. It takes bytes because every push has one.
func ParsePartition(b []byte) (PartitionID, error) {
	id, rest, ok := number(b)
	if !ok || len(rest) == 0 || rest[0] != '-' {
		return PartitionID{}, fmt.Errorf("%q is no partition: it has the form ID-EPOCH", b)
	}
	epoch, rest, ok := number(rest[1:])
	if !ok || len(rest) != 0 {
		return PartitionID{}, fmt.Errorf("%q is no partition: it has the form ID-EPOCH", b)
	}
	return PartitionID{ID: id, Epoch: epoch}, nil
}

// number takes a number off a name. A name has one spelling: without sign and leading zeros.
func number(b []byte) (n int32, rest []byte, ok bool) {
	i := 0
	if len(b) > 1 && b[0] == '0' {
		return 0, b[1:], b[1] < '0' || b[1] > '9'
	}
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9' && i < 10; i++ {
		next := int64(n)*10 + int64(b[i]-'0')
		if next > 1<<31-1 {
			return 0, nil, false
		}
		n = int32(next)
	}
	return n, b[i:], i > 0
}

// ParseFileName reads the name of one copy of a partition: ID-EPOCH-MODE.
func ParseFileName(name string) (PartitionID, byte, error) {
	if n := len(name); n > 2 && name[n-2] == '-' && (name[n-1] == '0' || name[n-1] == '1') {
		id, err := ParsePartition([]byte(name[:n-2]))
		return id, name[n-1] - '0', err
	}
	return PartitionID{}, 0, fmt.Errorf("%q is no copy of a partition: it has the form ID-EPOCH-MODE", name)
}
