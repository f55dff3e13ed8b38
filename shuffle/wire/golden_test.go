package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

var update = flag.Bool("update", false, "write the golden files anew")

// capture is a frame that a real client or the original server sent. Bodies of data frames are cut in the files.
type capture struct {
	frame []byte
	size  int // bytes it had on the wire
}

func captures(t testing.TB, file string) (out []capture) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			var c capture
			_, err := fmt.Sscanf(line, "# %d bytes", &c.size)
			require.NoError(t, err)
			out = append(out, c)
			continue
		}
		b, err := hex.DecodeString(line)
		require.NoError(t, err)
		out[len(out)-1].frame = append(out[len(out)-1].frame, b...)
	}
	return out
}

// one is the single capture of a file.
func one(t *testing.T, name string) []byte {
	t.Helper()
	all := captures(t, filepath.Join("testdata", name+".hex"))
	require.Len(t, all, 1)
	return all[0].frame
}

// messages are the message types as the captures' file names have them.
var messages = map[string]struct {
	t wire.MessageType
	m proto.Message
}{
	"APPLICATION_LOST":                    {wire.ApplicationLost, &pb.ApplicationLost{}},
	"BATCH_OPEN_STREAM":                   {wire.BatchOpenStream, &pb.OpenStreamList{}},
	"BATCH_OPEN_STREAM_RESPONSE":          {wire.BatchOpenStreamResponse, &pb.OpenStreamListResponse{}},
	"BUFFER_STREAM_END":                   {wire.BufferStreamEnd, &pb.BufferStreamEnd{}},
	"CHECK_QUOTA":                         {wire.CheckQuota, &pb.CheckQuota{}},
	"CHECK_QUOTA_RESPONSE":                {wire.CheckQuotaResponse, &pb.CheckQuotaResponse{}},
	"CHECK_WORKERS_AVAILABLE":             {wire.CheckWorkersAvailable, &pb.StatusRequest{}}, // neither has fields
	"CHECK_WORKERS_AVAILABLE_RESPONSE":    {wire.CheckWorkersAvailableResponse, &pb.CheckWorkersAvailableResponse{}},
	"CHUNK_FETCH_REQUEST":                 {wire.ChunkFetch, &pb.ChunkFetchRequest{}},
	"COMMIT_FILES":                        {wire.CommitFiles, &pb.CommitFiles{}},
	"COMMIT_FILES_RESPONSE":               {wire.CommitFilesResponse, &pb.CommitFilesResponse{}},
	"HEARTBEAT_FROM_APPLICATION":          {wire.HeartbeatFromApplication, &pb.HeartbeatFromApplication{}},
	"HEARTBEAT_FROM_APPLICATION_RESPONSE": {wire.HeartbeatFromApplicationResponse, &pb.HeartbeatFromApplicationResponse{}},
	"REGISTER_APPLICATION_INFO":           {wire.RegisterApplicationInfo, &pb.RegisterApplicationInfo{}},
	"REQUEST_SLOTS":                       {wire.RequestSlots, &pb.RequestSlots{}},
	"REQUEST_SLOTS_RESPONSE":              {wire.RequestSlotsResponse, &pb.RequestSlotsResponse{}},
	"RESERVE_SLOTS":                       {wire.ReserveSlots, &pb.ReserveSlots{}},
	"RESERVE_SLOTS_RESPONSE":              {wire.ReserveSlotsResponse, &pb.ReserveSlotsResponse{}},
}

var frameTypes = map[string]wire.FrameType{"RpcRequest": wire.RPCRequest, "RpcResponse": wire.RPCResponse, "ChunkFetchSuccess": wire.ChunkFetchSuccess,
	"PushData": wire.PushData, "PushMergedData": wire.PushMergedData}

// TestCaptures reads every captured frame, checks what its file's name says of it, makes it anew where we have the encoder, and
// writes down what it says in testdata/NAME.txt, where a review sees a field that moved.
func TestCaptures(t *testing.T) {
	for _, side := range []string{"client-0.5.4", "client-0.7.0", "original-0.7.0"} {
		t.Run(side, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("testdata", side, "*.hex"))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			var said strings.Builder
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), ".hex")
				for _, c := range captures(t, file) {
					fmt.Fprintf(&said, "%s\n  %s\n", name, describe(t, side, name, c))
				}
			}
			golden := filepath.Join("testdata", side+".txt")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(said.String()), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, strings.Split(string(want), "\n"), strings.Split(said.String(), "\n"))
		})
	}
}

// describe checks one capture, named PORT_to|from_FRAME_FORM_MESSAGE[_for_REQUEST], and puts it in words.
func describe(t *testing.T, side, name string, c capture) string {
	t.Helper()
	port, rest, _ := strings.Cut(name, "_")
	direction, rest, _ := strings.Cut(rest, "_")
	kind, rest, _ := strings.Cut(rest, "_")
	form, what, _ := strings.Cut(rest, "_")
	what, _, _ = strings.Cut(what, "_for_")
	r := wire.NewReader(bytes.NewReader(c.frame))
	h, message, err := r.Next()
	require.NoError(t, err, name)
	require.Equal(t, frameTypes[kind], h.Type, name)
	require.Equal(t, c.size, wire.HeaderSize+h.Message+h.Body, name)
	message = bytes.Clone(message)
	body := c.frame[wire.HeaderSize+h.Message:]
	switch h.Type {
	case wire.RPCRequest, wire.RPCResponse:
		id, err := wire.ParseRPC(message)
		require.NoError(t, err, name)
		where, content := "", body
		if h.Type == wire.RPCRequest {
			require.Equal(t, c.frame, wire.AppendRequest(nil, id, body), name)
			if port == "master" || strings.HasSuffix(port, ".rpc") {
				e, err := wire.ParseEnvelope(body)
				require.NoError(t, err, name)
				where, content = fmt.Sprintf(" %s > %s %s", e.Sender, e.Receiver, e.Endpoint), e.Content
			}
		} else {
			require.Equal(t, c.frame, wire.AppendResponse(nil, id, body), name)
		}
		return fmt.Sprintf("id %d%s: %s", id, where, describeContent(t, side, direction, form, what, content))
	case wire.PushData:
		p, err := wire.ParsePush(message)
		require.NoError(t, err, name)
		again := wire.AppendPush(nil, p.RequestID, p.Mode, string(p.ShuffleKey), string(p.Partition), h.Body)
		require.Equal(t, c.frame[:wire.HeaderSize+h.Message], again, name)
		b := wire.ParseBatchHeader(body)
		require.Equal(t, h.Body, wire.BatchHeader+b.Size, name)
		return fmt.Sprintf("id %d mode %d %s %s: %+v", p.RequestID, p.Mode, p.ShuffleKey, p.Partition, b)
	case wire.PushMergedData:
		return describeMerged(t, name, c.frame[:wire.HeaderSize+h.Message], message, body, h.Body)
	case wire.ChunkFetchSuccess:
		s, _, err := wire.ParseChunk(h.Type, message)
		require.NoError(t, err, name)
		require.Equal(t, c.frame[:wire.HeaderSize+h.Message], wire.AppendChunkHeader(nil, s, h.Body), name)
		return fmt.Sprintf("%+v: %d bytes, first %+v", s, h.Body, wire.ParseBatchHeader(body))
	}
	t.Fatalf("%s: a frame of type %d", name, h.Type)
	return ""
}

func describeMerged(t *testing.T, name string, head, message, body []byte, size int) string {
	t.Helper()
	var p wire.MergedPush
	require.NoError(t, p.Parse(message, size), name)
	var parts []string
	for _, id := range p.Partitions {
		parts = append(parts, string(id))
	}
	require.Equal(t, head, wire.AppendMergedPush(nil, p.RequestID, p.Mode, string(p.ShuffleKey), parts, p.Offsets, size), name)
	if len(body) == size {
		for i := range parts {
			_, err := wire.CheckBatches(p.Entry(body, i))
			require.NoError(t, err, name)
		}
	}
	return fmt.Sprintf("id %d mode %d %s %v at %v of %d: %+v", p.RequestID, p.Mode, p.ShuffleKey, parts, p.Offsets, size, wire.ParseBatchHeader(body))
}

func describeContent(t *testing.T, side, direction, form, what string, content []byte) string {
	t.Helper()
	switch {
	case form == "empty" || form == "bytes":
		return hex.EncodeToString(content)
	case strings.HasSuffix(what, "CheckExistence") && direction == "to":
		name, err := wire.ParseCheckExistence(content)
		require.NoError(t, err)
		require.Equal(t, content, wire.AppendCheckExistence(nil, name))
		return "CheckExistence " + name
	case what == "Boolean":
		require.Equal(t, content, wire.AppendBoolean(nil, true))
		return "true"
	}
	want, ok := messages[what]
	require.True(t, ok, "the message %q", what)
	var got wire.MessageType
	var payload []byte
	var err error
	said := "raw"
	if form == "raw" {
		got, payload, err = wire.ParseRaw(content)
		require.Equal(t, content, wire.AppendRaw(nil, got, payload))
	} else {
		var f wire.Form
		f, got, payload, err = wire.ParseContent(content)
		require.Equal(t, content, wire.AppendContent(nil, f, got, payload), "made anew in its own form")
		require.Equal(t, side == "client-0.5.4" || side == "original-0.7.0" && direction == "to", f == wire.Java2, "the captures of the original are of a 0.5.4 client")
		said = map[wire.Form]string{wire.Neutral: "neutral", wire.Java2: "java2", wire.Java3: "java3"}[f]
	}
	require.NoError(t, err)
	require.Equal(t, want.t, got)
	m := proto.Clone(want.m)
	require.NoError(t, proto.Unmarshal(payload, m))
	if got == wire.ReserveSlots {
		return said + " " + what + " " + asJSON(t, m) + locations(t, m.(*pb.ReserveSlots))
	}
	return said + " " + what + " " + asJSON(t, m)
}

func locations(t *testing.T, r *pb.ReserveSlots) string {
	ls, err := wire.ReservedLocations(r)
	require.NoError(t, err)
	var b strings.Builder
	for _, l := range ls {
		fmt.Fprintf(&b, "\n    %s mode %d on %s, peer %s", l.PartitionID, l.Mode, l.Worker, peer(l))
	}
	return b.String()
}

// asJSON is a message on one line, and what of it we have no field for: its form is stable, which protojson's own is not.
func asJSON(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.Marshal(m)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, json.Compact(&out, b))
	if u := m.ProtoReflect().GetUnknown(); len(u) > 0 {
		return out.String() + " and " + hex.EncodeToString(u)
	}
	return out.String()
}

// TestMade compares our encoders with frames that were made by Java's own serialization and by the clients' rules.
func TestMade(t *testing.T) {
	split, err := proto.Marshal(&pb.PushMergedDataSplitPartitionInfo{SplitPartitionIndexes: []int32{1}, StatusCodes: []int32{int32(wire.HardSplit)}})
	require.NoError(t, err)
	available, err := proto.Marshal(&pb.CheckWorkersAvailableResponse{Available: true})
	require.NoError(t, err)
	push := wire.AppendPush(nil, 7, wire.Primary, "app-1-0", "0-0", wire.BatchHeader+5)
	for name, ours := range map[string][]byte{
		"push":                      wire.AppendBatch(push, 2, 0, 1, []byte("hello")),
		"push-answer":               wire.AppendResponse(nil, 7, nil),
		"merged-answer":             wire.AppendResponse(nil, 8, []byte{byte(wire.Success)}),
		"merged-split-answer":       wire.AppendResponse(nil, 9, wire.AppendRaw([]byte{byte(wire.HardSplit)}, wire.SplitPartitionInfo, split)),
		"heartbeat":                 wire.AppendHeartbeat(nil),
		"failure":                   wire.AppendFailure(nil, 3, "no such endpoint"),
		"check-existence-content":   wire.AppendCheckExistence(nil, wire.MasterEndpoint),
		"check-existence-answer":    wire.AppendResponse(nil, 0, wire.AppendBoolean(nil, true)),
		"boolean":                   wire.AppendBoolean(nil, true),
		"workers-available-neutral": wire.AppendResponse(nil, 1, wire.AppendContent(nil, wire.Neutral, wire.CheckWorkersAvailableResponse, available)),
		"workers-available-java2":   wire.AppendContent(nil, wire.Java2, wire.CheckWorkersAvailableResponse, available),
		"workers-available-java3":   wire.AppendContent(nil, wire.Java3, wire.CheckWorkersAvailableResponse, available),
		"one-way-neutral":           wire.AppendResponse(nil, 2, wire.AppendContent(nil, wire.Neutral, wire.OneWayMessageResponse, nil)),
		"one-way-java2":             wire.AppendContent(nil, wire.Java2, wire.OneWayMessageResponse, nil),
		"one-way-java3":             wire.AppendContent(nil, wire.Java3, wire.OneWayMessageResponse, nil),
	} {
		require.Equal(t, one(t, "made/"+name), ours, name)
	}
	frame := one(t, "made/check-existence")
	e, err := wire.ParseEnvelope(frame[wire.HeaderSize+12:])
	require.NoError(t, err)
	require.Equal(t, wire.Envelope{Sender: "10.0.0.5:40001", Receiver: "10.0.0.1:9097", Endpoint: wire.VerifierEndpoint, Content: one(t, "made/check-existence-content")}, e)
}

// TestForwarded sees that what goes on to a replica is what the original sends to it.
func TestForwarded(t *testing.T) {
	for _, kind := range []string{"PushData", "PushMergedData"} {
		for _, c := range captures(t, "testdata/original-0.7.0/w1.repl_to_"+kind+"__.hex") {
			h, err := wire.ParseHeader(c.frame)
			require.NoError(t, err)
			end := wire.HeaderSize + h.Message
			message := bytes.Clone(c.frame[wire.HeaderSize:end])
			id, err := wire.ParseRPC(message)
			require.NoError(t, err)
			message[7], message[8] = message[7]+1, wire.Primary // as the client sent it
			require.Equal(t, c.frame[:end], wire.AppendForwarded(nil, h.Type, message, id, h.Body))
		}
	}
}

// TestChunkAnswer: the slice is echoed as it was asked for, with the length that no chunk has.
func TestChunkAnswer(t *testing.T) {
	c := captures(t, "testdata/original-0.7.0/w1.fetch_from_ChunkFetchSuccess__.hex")[0]
	h, err := wire.ParseHeader(c.frame)
	require.NoError(t, err)
	s, _, err := wire.ParseChunk(h.Type, c.frame[wire.HeaderSize:wire.HeaderSize+h.Message])
	require.NoError(t, err)
	require.Equal(t, int32(math.MaxInt32), s.Len)
	failure := wire.AppendChunkFailure(nil, s, "gone")
	h, err = wire.ParseHeader(failure)
	require.NoError(t, err)
	again, text, err := wire.ParseChunk(h.Type, failure[wire.HeaderSize:])
	require.NoError(t, err)
	require.Equal(t, s, again)
	require.Equal(t, "gone", text)
}

func peer(l wire.Location) string {
	if l.Peer == nil {
		return "none"
	}
	return l.Peer.String()
}
