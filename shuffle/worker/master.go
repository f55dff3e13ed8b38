package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// master is the worker's side of its link to a master: everything the master knows of it goes there with every heartbeat.
type master struct {
	w         *Worker
	address   string
	connected atomic.Bool
	told      time.Time // when the log was told that the master cannot be reached
}

// tellEvery is how often the log is told that a master is still away.
const tellEvery = time.Minute

// answerTime is how long a heartbeat waits for its answer before the connection is made anew.
const answerTime = 5 * time.Second

func (m *master) run(ctx context.Context) {
	tick := time.NewTicker(m.w.opts.Heartbeat)
	defer tick.Stop()
	var c *rpc.Client
	for {
		c = m.beat(ctx, c, false)
		var broken <-chan struct{}
		if c != nil {
			broken = c.Closed()
		}
		select {
		case <-ctx.Done():
			if c != nil {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				if c = m.beat(last, c, true); c != nil {
					c.Close()
				}
				cancel()
			}
			return
		case <-broken:
			m.lost(&c)
			select { // a master that is gone is not asked faster than it can come back
			case <-ctx.Done():
			case <-tick.C:
			}
		case <-tick.C:
		}
	}
}

func (m *master) lost(c **rpc.Client) {
	(*c).Close()
	*c = nil
	if m.connected.Swap(false) {
		m.w.log.Warn("the shuffle master is gone; this worker serves on", "master", m.address)
	}
}

// beat sends a heartbeat, over a new connection if there is none, and returns the connection that can be used on.
func (m *master) beat(ctx context.Context, c *rpc.Client, leaving bool) *rpc.Client {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if c == nil {
		var err error
		if c, err = rpc.Dial(ctx, m.address); err != nil {
			if now := time.Now(); !leaving && now.Sub(m.told) > tellEvery {
				m.told = now
				m.w.log.Warn("the shuffle master cannot be reached: no partitions are placed here", "master", m.address, "err", err)
			}
			return nil
		}
	}
	out := &pb.HeartbeatFromWorkerResponse{}
	hb := m.w.heartbeat()
	hb.Leaving = leaving
	if err := c.Call(ctx, wire.MasterEndpoint, wire.HeartbeatFromWorker, hb, wire.HeartbeatFromWorkerResponse, out); err != nil {
		if ctx.Err() == nil || !leaving {
			m.w.log.Warn("a heartbeat was not answered", "master", m.address, "err", err)
		}
		m.lost(&c)
		return nil
	}
	if !m.connected.Swap(true) {
		m.w.log.Info("the shuffle master knows this worker", "master", m.address)
	}
	for _, key := range out.GetExpiredShuffleKeys() {
		m.w.log.Info("shuffle expired", "shuffle", key)
		m.w.store.Drop(key)
	}
	return c
}

// diskWorks and diskBroken are states of a disk in heartbeats (DiskStatus.java: HEALTHY, IO_HANG).
const (
	diskWorks  = 0
	diskBroken = 3
)

func (w *Worker) heartbeat() *pb.HeartbeatFromWorker {
	push, fetch := w.metrics.means()
	hb := &pb.HeartbeatFromWorker{
		Host: w.id.Host, RpcPort: w.id.RPC, PushPort: w.id.Push, FetchPort: w.id.Fetch, ReplicatePort: w.id.Replicate,
		Shuffles: w.store.Held(), Incarnation: w.incarnation, NetworkLocation: w.opts.Rack,
		MemoryUsed:  w.store.Memory(wire.Primary).Used() + w.store.Memory(wire.Replica).Used(),
		MemoryLimit: w.store.Memory(wire.Primary).Limit() + w.store.Memory(wire.Replica).Limit(),
		BytesPushed: w.metrics.pushedBytes[wire.Primary].Load() + w.metrics.pushedBytes[wire.Replica].Load(), BytesFetched: w.metrics.fetchedBytes.Load(),
		Connections: w.pushes.count() + w.fetches.count(), Splits: w.metrics.splits.Load(),
		HttpAddress: w.HTTPAddress(), PushSeconds: push, FetchSeconds: fetch,
	}
	for _, d := range w.store.Disks() {
		info := &pb.DiskInfo{MountPoint: d.Path, UsableSpace: d.Usable, TotalSpace: d.Total, UsedSlots: d.Partitions, AvgFlushTime: int64(d.MeanWrite), Status: diskWorks, StorageType: wire.StorageHDD}
		if d.Problem != "" {
			info.Status = diskBroken
		}
		hb.Disks = append(hb.Disks, info)
	}
	return hb
}
