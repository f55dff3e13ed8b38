package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// WorkerID is who a worker is to clients: two workers are the same if all five are equal (WorkerInfo.scala). A restarted worker
// is the same one to them; its incarnation tells our own servers.
type WorkerID struct {
	Host                        string
	RPC, Push, Fetch, Replicate int32 // ports
}

// String is the id as it keys maps of the protocol: host:rpc:push:fetch:replicate.
func (w WorkerID) String() string {
	return fmt.Sprintf("%s:%d:%d:%d:%d", w.Host, w.RPC, w.Push, w.Fetch, w.Replicate)
}

// ParseWorkerID reads the form of String. The host may have colons.
func ParseWorkerID(s string) (WorkerID, error) {
	var ports [4]int32
	host := s
	for i := 3; i >= 0; i-- {
		at := strings.LastIndexByte(host, ':')
		if at < 0 {
			return WorkerID{}, fmt.Errorf("%q is no worker: it has the form HOST:RPC:PUSH:FETCH:REPLICATE", s)
		}
		n, err := strconv.ParseUint(host[at+1:], 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != host[at+1:] { // one spelling, as it keys maps
			return WorkerID{}, fmt.Errorf("%q is no worker: it has the form HOST:RPC:PUSH:FETCH:REPLICATE", s)
		}
		ports[i], host = int32(n), host[:at]
	}
	return WorkerID{Host: host, RPC: ports[0], Push: ports[1], Fetch: ports[2], Replicate: ports[3]}, nil
}

// WorkerOf is the id in a WorkerInfo.
func WorkerOf(w *pb.WorkerInfo) WorkerID {
	return WorkerID{Host: w.GetHost(), RPC: w.GetRpcPort(), Push: w.GetPushPort(), Fetch: w.GetFetchPort(), Replicate: w.GetReplicatePort()}
}

// Info is the id as a WorkerInfo.
func (w WorkerID) Info() *pb.WorkerInfo {
	return &pb.WorkerInfo{Host: w.Host, RpcPort: w.RPC, PushPort: w.Push, FetchPort: w.Fetch, ReplicatePort: w.Replicate}
}

// Location is one copy of a partition, and where its other copy is.
type Location struct {
	PartitionID
	Mode   byte
	Worker WorkerID
	Peer   *WorkerID
}

// Proto is the location as a message, with its peer and with the storage that clients expect to be named.
func (l Location) Proto(storageTypes int32) *pb.PartitionLocation {
	out := l.bare(l.Worker, l.Mode, storageTypes)
	if l.Peer != nil {
		out.Peer = l.bare(*l.Peer, 1-l.Mode, storageTypes)
	}
	return out
}

func (l Location) bare(w WorkerID, mode byte, storageTypes int32) *pb.PartitionLocation {
	return &pb.PartitionLocation{
		Mode: pb.PartitionLocation_Mode(mode), Id: l.ID, Epoch: l.Epoch,
		Host: w.Host, RpcPort: w.RPC, PushPort: w.Push, FetchPort: w.Fetch, ReplicatePort: w.Replicate,
		StorageInfo: &pb.StorageInfo{Type: StorageHDD, AvailableStorageTypes: storageTypes},
	}
}

// StorageHDD is the one type of storage that clients are told of: they read it through the fetch port.
const StorageHDD = 1

// noPeer marks a location without peer in the packed form.
const noPeer = math.MaxInt32

// ReservedLocations are the locations of a ReserveSlots request: packed by clients from 0.5.4 on, plain by older ones.
func ReservedLocations(r *pb.ReserveSlots) ([]Location, error) {
	var out []Location
	for _, l := range append(r.GetPrimaryLocations(), r.GetReplicaLocations()...) {
		out = append(out, locationOf(l))
	}
	if len(out) > 0 {
		return out, nil
	}
	return unpack(r.GetPartitionLocationsPair())
}

func locationOf(l *pb.PartitionLocation) Location {
	worker := func(l *pb.PartitionLocation) WorkerID {
		return WorkerID{Host: l.GetHost(), RPC: l.GetRpcPort(), Push: l.GetPushPort(), Fetch: l.GetFetchPort(), Replicate: l.GetReplicatePort()}
	}
	out := Location{PartitionID: PartitionID{ID: l.GetId(), Epoch: l.GetEpoch()}, Mode: byte(l.GetMode()), Worker: worker(l)}
	if p := l.GetPeer(); p != nil {
		w := worker(p)
		out.Peer = &w
	}
	return out
}

func unpack(pair *pb.PackedPartitionLocationsPair) ([]Location, error) {
	p := pair.GetLocations()
	n, size := len(p.GetIds()), int(pair.GetInputLocationSize())
	if len(p.GetEpochs()) != n || len(p.GetWorkerIds()) != n || len(p.GetModes()) != n || len(pair.GetPeerIndexes()) != n || size < 0 || size > n {
		return nil, fmt.Errorf("packed locations whose lists differ in length: %d ids, %d epochs, %d workers, %d modes, %d peers, %d of them to use",
			n, len(p.GetEpochs()), len(p.GetWorkerIds()), len(p.GetModes()), len(pair.GetPeerIndexes()), size)
	}
	workers := make([]WorkerID, len(p.GetWorkerIdsSet()))
	for i, s := range p.GetWorkerIdsSet() {
		w, err := ParseWorkerID(s)
		if err != nil {
			return nil, err
		}
		workers[i] = w
	}
	worker := func(i int32) (WorkerID, error) {
		if w := p.GetWorkerIds()[i]; w >= 0 && int(w) < len(workers) {
			return workers[w], nil
		}
		return WorkerID{}, fmt.Errorf("packed location %d names worker %d of %d", i, p.GetWorkerIds()[i], len(workers))
	}
	out := make([]Location, size)
	for i := range int32(size) {
		w, err := worker(i)
		if err != nil {
			return nil, err
		}
		mode := p.GetModes()[i]
		if mode != int32(Primary) && mode != int32(Replica) {
			return nil, fmt.Errorf("packed location %d has mode %d", i, mode)
		}
		out[i] = Location{PartitionID: PartitionID{ID: p.GetIds()[i], Epoch: p.GetEpochs()[i]}, Mode: byte(mode), Worker: w}
		if at := pair.GetPeerIndexes()[i]; at != noPeer {
			if at < 0 || int(at) >= n {
				return nil, fmt.Errorf("packed location %d has peer %d of %d", i, at, n)
			}
			peer, err := worker(at)
			if err != nil {
				return nil, err
			}
			out[i].Peer = &peer
		}
	}
	return out, nil
}
