package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// control answers drivers on the RPC port.
func (w *Worker) control(ctx context.Context, t wire.MessageType, payload []byte) (wire.MessageType, proto.Message, error) {
	switch t {
	case wire.ReserveSlots:
		m, err := rpc.Unmarshal(payload, &pb.ReserveSlots{})
		if err != nil {
			return 0, nil, err
		}
		return wire.ReserveSlotsResponse, w.reserve(m), nil
	case wire.CommitFiles:
		m, err := rpc.Unmarshal(payload, &pb.CommitFiles{})
		if err != nil {
			return 0, nil, err
		}
		out, err := w.commit(ctx, m)
		return wire.CommitFilesResponse, out, err
	case wire.Destroy:
		m, err := rpc.Unmarshal(payload, &pb.DestroyWorkerSlots{})
		if err != nil {
			return 0, nil, err
		}
		out, err := w.destroy(m)
		return wire.DestroyResponse, out, err
	}
	return 0, nil, fmt.Errorf("message %d is not served by a shuffle worker", t)
}

// partitionReduce is Spark's kind of partition; Flink's is another.
const partitionReduce = 0

// splitHard is PartitionSplitMode.HARD.
const splitHard = 1

func (w *Worker) reserve(m *pb.ReserveSlots) *pb.ReserveSlotsResponse {
	refuse := func(s wire.Status, err error) *pb.ReserveSlotsResponse {
		w.log.Warn("partitions were not reserved", "application", m.GetApplicationId(), "shuffle", m.GetShuffleId(), "err", err)
		return &pb.ReserveSlotsResponse{Status: int32(s), Reason: err.Error()}
	}
	if m.GetPartitionType() != partitionReduce {
		return refuse(wire.ReserveSlotsFailed, errors.New("map partitions (Flink) are not served yet"))
	}
	locations, err := wire.ReservedLocations(m)
	if err != nil {
		return refuse(wire.ReserveSlotsFailed, err)
	}
	limits := store.Limits{SplitThreshold: m.GetSplitThreshold(), HardSplit: m.GetSplitMode() == splitHard, RangeFilter: m.GetRangeReadFilter()}
	switch err := w.store.Reserve(wire.ShuffleKey(m.GetApplicationId(), m.GetShuffleId()), m.GetUserIdentifier(), limits, locations); {
	case errors.Is(err, store.ErrNoDisk):
		return refuse(wire.NoAvailableWorkingDir, err)
	case errors.Is(err, store.ErrDraining):
		return refuse(wire.WorkerShutdown, err)
	case err != nil:
		return refuse(wire.ReserveSlotsFailed, err)
	}
	return &pb.ReserveSlotsResponse{}
}

func (w *Worker) commit(ctx context.Context, m *pb.CommitFiles) (*pb.CommitFilesResponse, error) {
	c := store.Commit{Key: wire.ShuffleKey(m.GetApplicationId(), m.GetShuffleId()), Epoch: m.GetEpoch(), Attempts: m.GetMapAttempts()}
	var err, err2 error
	c.Primaries, err = partitions(m.GetPrimaryIds())
	c.Replicas, err2 = partitions(m.GetReplicaIds())
	if err := cmp.Or(err, err2); err != nil {
		return nil, err
	}
	done := make(chan store.Result, 1)
	w.store.Commit(c, func(r store.Result) { done <- r })
	select {
	case r := <-done:
		if failed := len(r.FailedPrimaries) + len(r.FailedReplicas); failed > 0 {
			w.log.Warn("partitions could not be committed", "shuffle", c.Key, "failed", failed, "of", len(c.Primaries)+len(c.Replicas), "err", r.Reasons[0])
		}
		return committed(r), nil
	case <-ctx.Done(): // the driver asks again over another connection, and gets this answer
		return nil, ctx.Err()
	}
}

func committed(r store.Result) *pb.CommitFilesResponse {
	out := &pb.CommitFilesResponse{
		TotalWritten: r.Written, FileCount: int32(len(r.Primaries) + len(r.Replicas)),
		CommittedPrimaryStorageInfos: map[string]*pb.StorageInfo{}, CommittedReplicaStorageInfos: map[string]*pb.StorageInfo{},
		MapIdBitmap:      map[string][]byte{},
		FailedPrimaryIds: names(r.FailedPrimaries), FailedReplicaIds: names(r.FailedReplicas),
	}
	add := func(all []store.Committed, ids *[]string, infos map[string]*pb.StorageInfo) {
		for _, c := range all {
			name := c.ID.String()
			*ids = append(*ids, name)
			infos[name] = &pb.StorageInfo{Type: wire.StorageHDD, FinalResult: true, FileSize: c.Length, ChunkOffsets: c.Chunks}
			if c.Maps != nil {
				out.MapIdBitmap[name] = c.Maps
			}
		}
	}
	add(r.Primaries, &out.CommittedPrimaryIds, out.CommittedPrimaryStorageInfos)
	add(r.Replicas, &out.CommittedReplicaIds, out.CommittedReplicaStorageInfos)
	switch {
	case !r.Known:
		out.Status = int32(wire.ShuffleUnregistered)
	case len(r.FailedPrimaries)+len(r.FailedReplicas) > 0:
		out.Status = int32(wire.PartialSuccess)
	}
	return out
}

func (w *Worker) destroy(m *pb.DestroyWorkerSlots) (*pb.DestroyWorkerSlotsResponse, error) {
	primaries, err := partitions(m.GetPrimaryLocations())
	if err != nil {
		return nil, err
	}
	replicas, err := partitions(m.GetReplicaLocation())
	if err != nil {
		return nil, err
	}
	w.store.Destroy(m.GetShuffleKey(), primaries, replicas)
	return &pb.DestroyWorkerSlotsResponse{}, nil
}

func partitions(names []string) ([]wire.PartitionID, error) {
	out := make([]wire.PartitionID, len(names))
	for i, n := range names {
		var err error
		if out[i], err = wire.ParsePartition([]byte(n)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func names(ids []wire.PartitionID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

func sorted(m map[int32]wire.Status) []int32 { return slices.Sorted(maps.Keys(m)) }
