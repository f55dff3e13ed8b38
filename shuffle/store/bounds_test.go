package store

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// TestMemoryKeeps: blocks that are kept for later are never on top of the limit, whatever sizes are asked for.
func TestMemoryKeeps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	m := NewMemory(1<<20, func() {})
	var held []*Buffer
	for i := range 20_000 {
		if b := m.TryGet(1 << (8 + (i/1000+r.IntN(3))%12)); b != nil {
			held = append(held, b)
		}
		for len(held) > 0 && r.IntN(5) < 2+i/500%2 {
			k := r.IntN(len(held))
			held[k].Release()
			held[k] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		require.LessOrEqual(t, m.used+m.idle, m.limit)
		idle := int64(0)
		for size, list := range m.free {
			idle += int64(size * len(list))
		}
		require.Equal(t, idle, m.idle)
	}
}

// TestDirtyEnds: a disk's list of partitions with pending bytes holds none that has no such bytes, or is destroyed.
func TestDirtyEnds(t *testing.T) {
	s, err := Open(Options{Disks: []Disk{{Path: "/d", FS: tier.NewMem()}}, FlushSize: 100})
	require.NoError(t, err)
	at := wire.Location{PartitionID: wire.PartitionID{ID: 1}}
	require.NoError(t, s.Reserve("a-1", nil, Limits{}, []wire.Location{at, {PartitionID: wire.PartitionID{ID: 2}}}))
	p, _ := s.Find("a-1", at.PartitionID, wire.Primary)
	for range 10 {
		for range 3 {
			p.Append(0, make([]byte, 40), nil)
			require.Equal(t, 1, s.disks[0].dirty.Len())
		}
		require.True(t, s.Step())
		require.Zero(t, s.disks[0].dirty.Len())
	}
	p.Append(0, make([]byte, 40), nil)
	s.Destroy("a-1", []wire.PartitionID{at.PartitionID}, nil)
	require.Zero(t, s.disks[0].dirty.Len())
	q, _ := s.Find("a-1", wire.PartitionID{ID: 2}, wire.Primary)
	q.Append(0, make([]byte, 40), nil)
	s.Commit(Commit{Key: "a-1", Primaries: []wire.PartitionID{{ID: 2}}}, func(Result) {})
	for s.Step() { //nolint:revive // all is in the condition
	}
	require.Zero(t, s.disks[0].dirty.Len())
	require.Zero(t, s.open.Load())
}

// TestHastenAtLanding: a commit that loses its patience just when the flush it waits for has ended does not serve memory that was
// given back.
func TestHastenAtLanding(t *testing.T) {
	s, err := Open(Options{Disks: []Disk{{Path: "/d", FS: tier.NewMem()}}, FlushSize: 10})
	require.NoError(t, err)
	at := wire.Location{PartitionID: wire.PartitionID{ID: 1}}
	require.NoError(t, s.Reserve("a-1", nil, Limits{}, []wire.Location{at}))
	p, _ := s.Find("a-1", at.PartitionID, wire.Primary)
	p.Append(0, make([]byte, 40), nil)
	pieces := p.takePending()
	p.departs(pieces)
	settled := false
	p.seal(func() { settled = true })
	written := s.place(p, pieces)
	require.Zero(t, s.primary.Used())
	require.NotPanics(t, func() { p.hasten(nil) })
	require.False(t, settled)
	require.Zero(t, s.primary.Used())
	p.flushed(written)
	require.True(t, settled)
	require.Len(t, p.extents, 1)
	require.NotNil(t, p.extents[0].file)
}
