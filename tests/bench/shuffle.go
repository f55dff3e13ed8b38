//go:build e2e

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
	"github.com/sluicedata/sluice/tests/testbed"
	"github.com/sluicedata/sluice/tests/testbed/shuffleclient"
)

// The load: what executors of one stage push and read, without the executors.
const (
	shuffleBytes      = 1 << 30 // of one run
	shuffleBatch      = 64 << 10
	shufflePartitions = 64
	shuffleClients    = 4  // connections, as of four executors
	shuffleWindow     = 32 // pushes of a connection without answer
)

// onShuffle measures the shuffle service: its processors' time against the least that can be done, and stock Spark's jobs
// through it against Spark's own shuffle.
func onShuffle(t *testbed.Suite, wanted func(string) bool) []Figure {
	if wanted("evict") && !wanted("limit") { // only where it is named
		return shuffleEvict(t)
	}
	var out []Figure
	if wanted("limit") {
		out = append(out, shuffleLimit(t)...)
	}
	if wanted("small") {
		out = append(out, shuffleSmall(t)...)
	}
	if wanted("job") {
		out = append(out, shuffleJobs(t)...)
	}
	return out
}

// self starts this program as another process.
func self(t *testbed.Suite, args ...string) (*exec.Cmd, *bufio.Reader) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("%v", err)
	}
	cmd := exec.CommandContext(context.Background(), exe, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(pipe)
}

// backed has the host back so much memory: the first touch of a page costs what nothing measured here should pay.
func backed(t *testbed.Suite, bytes int) {
	_, out := self(t, "-touch", strconv.Itoa(bytes))
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatalf("touch memory: %v", err)
	}
}

// touchMemory touches memory, gives all but a page of every 512 KiB back, and stays: the host keeps what it has backed.
func touchMemory(bytes int) error {
	m, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	const page, keep = 4 << 10, 512 << 10
	for at := 0; at < len(m); at += page {
		m[at] = 1
	}
	for at := 0; at+keep <= len(m); at += keep {
		if err := unix.Madvise(m[at+page:at+keep], unix.MADV_DONTNEED); err != nil {
			return err
		}
	}
	fmt.Println("touched")
	select {}
}

// shuffleLimit pushes and reads a GiB through a worker, a worker pair with replicas, and a program that does nothing but write
// what comes from sockets to files and send it back.
func shuffleLimit(t *testbed.Suite) []Figure {
	backed(t, 12<<30)
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	raw, out := self(t, "-rawshuffle", filepath.Join(dir, "raw"))
	address, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("start the raw program: %v", err)
	}
	address = address[:len(address)-1]
	one := testbed.StartShuffle(t, testbed.ShuffleServers{Workers: 1, Dir: filepath.Join(dir, "one")})
	two := testbed.StartShuffle(t, testbed.ShuffleServers{Workers: 2, Dir: filepath.Join(dir, "two")})
	spent := func(f func() error, pids ...int) func() float64 {
		return func() float64 {
			before := 0.0
			for _, p := range pids {
				before += testbed.CPUSeconds(p)
			}
			if err := f(); err != nil {
				t.Fatalf("%v", err)
			}
			for _, p := range pids {
				before -= testbed.CPUSeconds(p)
			}
			return -before / (float64(shuffleBytes) / 1e9)
		}
	}
	shuffles := map[*testbed.Shuffle]int32{}
	through := func(s *testbed.Shuffle) func() error {
		return func() error {
			shuffles[s]++
			return shuffleLoad(s, shuffles[s])
		}
	}
	figures := race("shuffle, written and read once, CPU s per GB", "s", 1, 5,
		runner{name: "raw: socket to file, sendfile back", run: spent(func() error { return rawLoad(address) }, raw.Process.Pid)},
		runner{name: "a worker", run: spent(through(one), one.Workers[0].PID())},
		runner{name: "two workers, replicated", run: spent(through(two), two.Workers[0].PID(), two.Workers[1].PID())},
	)
	peak := max(testbed.PeakMemory(one.Workers[0].PID()), testbed.PeakMemory(two.Workers[0].PID()), testbed.PeakMemory(two.Workers[1].PID()))
	return append(figures, Figure{Name: "peak memory of a worker", Unit: "MiB", Median: float64(peak) / (1 << 20)})
}

// shuffleLoad is one shuffle: reserve, push from all clients, commit, read each partition, unregister.
func shuffleLoad(s *testbed.Shuffle, shuffle int32) error {
	ctx := context.Background()
	ids := make([]wire.WorkerID, len(s.Workers))
	control := make([]*rpc.Client, len(s.Workers))
	for i, w := range s.Workers {
		ids[i] = w.ID
		c, err := rpc.Dial(ctx, fmt.Sprintf("%s:%d", w.ID.Host, w.ID.RPC))
		if err != nil {
			return err
		}
		defer c.Close()
		control[i] = c
	}
	key := wire.ShuffleKey("bench", shuffle)
	master, err := rpc.Dial(ctx, s.Address)
	if err != nil {
		return err
	}
	defer master.Close()
	if err := master.Call(ctx, wire.MasterEndpoint, wire.RequestSlots, &pb.RequestSlots{ApplicationId: "bench", ShuffleId: shuffle, PartitionIdList: []int32{0}}, wire.RequestSlotsResponse, &pb.RequestSlotsResponse{}); err != nil {
		return err
	}
	of := func(p int32) int { return int(p) % len(ids) }
	at := make([][]wire.Location, len(ids))
	commits := make([]*pb.CommitFiles, len(ids))
	for i := range ids {
		commits[i] = &pb.CommitFiles{ApplicationId: "bench", ShuffleId: shuffle, Epoch: 1, MapAttempts: []int32{0}}
	}
	for p := range int32(shufflePartitions) {
		id, a := wire.PartitionID{ID: p}, of(p)
		l := wire.Location{PartitionID: id, Worker: ids[a]}
		commits[a].PrimaryIds = append(commits[a].PrimaryIds, id.String())
		if len(ids) > 1 {
			b := (a + 1) % len(ids)
			l.Peer = &ids[b]
			at[b] = append(at[b], wire.Location{PartitionID: id, Mode: wire.Replica, Worker: ids[b], Peer: &ids[a]})
			commits[b].ReplicaIds = append(commits[b].ReplicaIds, id.String())
		}
		at[a] = append(at[a], l)
	}
	for i, c := range control {
		if err := shuffleclient.Reserve(ctx, c, "bench", shuffle, at[i]); err != nil {
			return err
		}
	}
	if err := pushAll(ctx, ids, of, key); err != nil {
		return err
	}
	for i, c := range control {
		if out, err := shuffleclient.Commit(ctx, c, commits[i]); err != nil || out.GetStatus() != 0 {
			return fmt.Errorf("commit: %v %w", out, err)
		}
	}
	if err := readAll(ctx, ids, of, key); err != nil {
		return err
	}
	return master.Call(ctx, wire.MasterEndpoint, wire.UnregisterShuffle, &pb.UnregisterShuffle{AppId: "bench", ShuffleId: shuffle}, wire.UnregisterShuffleResponse, &pb.UnregisterShuffleResponse{})
}

func pushAll(ctx context.Context, ids []wire.WorkerID, of func(int32) int, key string) error {
	var group errgroup.Group
	for k := range shuffleClients {
		group.Go(func() error {
			conns := make([]*shuffleclient.Conn, len(ids))
			for i, id := range ids {
				c, err := shuffleclient.Dial(ctx, id.Host, id.Push)
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				conns[i] = c
			}
			room := make(chan struct{}, shuffleWindow)
			var all sync.WaitGroup
			var mu sync.Mutex
			var failed error
			batch := wire.AppendBatch(nil, 0, 0, 0, noise(shuffleBatch))
			for i := range shuffleBytes / shuffleBatch / shuffleClients {
				room <- struct{}{}
				all.Add(1)
				p := int32(i+k) % shufflePartitions
				conns[of(p)].Push(key, wire.PartitionID{ID: p}, wire.Primary, batch, func(a shuffleclient.Answer) {
					if a.Err != nil || len(a.Body) > 0 {
						mu.Lock()
						failed = fmt.Errorf("push: %v %w", a.Body, a.Err)
						mu.Unlock()
					}
					<-room
					all.Done()
				})
			}
			all.Wait()
			return failed
		})
	}
	return group.Wait()
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// readAll reads every partition's primary once, drained as it comes.
func readAll(ctx context.Context, ids []wire.WorkerID, of func(int32) int, key string) error {
	var group errgroup.Group
	for k := range shuffleClients {
		group.Go(func() error {
			total := int64(0)
			for p := int32(k); p < shufflePartitions; p += shuffleClients {
				id := ids[of(p)]
				c, err := shuffleclient.Dial(ctx, id.Host, id.Fetch)
				if err != nil {
					return err
				}
				chunks, err := c.ReadAll(ctx, key, wire.PartitionID{ID: p}.String()+"-0", 0, math.MaxInt32)
				_ = c.Close()
				if err != nil {
					return err
				}
				for _, b := range chunks {
					total += int64(len(b))
				}
			}
			if want := int64(shuffleBytes / shuffleClients); total < want*99/100 {
				return fmt.Errorf("%d bytes were read of %d", total, want)
			}
			return nil
		})
	}
	return group.Wait()
}

// rawShuffle is the least that a shuffle server can do: what comes over a connection that begins with 'w' goes to a file, what
// asks with 'r' gets the files back.
func rawShuffle(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := rawServe(c.(*net.TCPConn), dir); err != nil {
				fmt.Fprintln(os.Stderr, "raw:", err)
			}
		}()
	}
}

func rawServe(c *net.TCPConn, dir string) error {
	defer func() { _ = c.Close() }()
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	name := filepath.Join(dir, strconv.Itoa(int(head[1])))
	if head[0] == 'r' {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close(); _ = os.Remove(name) }()
		_, err = c.ReadFrom(f) // sendfile
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 512<<10)
	for {
		n, err := io.ReadFull(c, buf)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			_, err = c.Write([]byte{1})
			return err
		}
		if err != nil {
			return err
		}
	}
}

// rawLoad moves the same bytes through the raw program, into as many files.
func rawLoad(address string) error {
	batch := noise(shuffleBatch)
	for _, mode := range []byte{'w', 'r'} {
		var group errgroup.Group
		for k := range shuffleClients {
			group.Go(func() error {
				for file := k; file < shufflePartitions; file += shuffleClients {
					if err := rawFile(address, mode, byte(file), batch); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func rawFile(address string, mode, file byte, batch []byte) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte{mode, file}); err != nil {
		return err
	}
	if mode == 'r' {
		n, err := io.Copy(writerOnly{}, c)
		if n < shuffleBytes/shufflePartitions {
			return fmt.Errorf("%d bytes came back: %w", n, err)
		}
		return err
	}
	for range shuffleBytes / shuffleBatch / shufflePartitions {
		if _, err := c.Write(batch); err != nil {
			return err
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// writerOnly drops what is written, with ordinary reads in between.
type writerOnly struct{}

func (writerOnly) Write(b []byte) (int, error) { return len(b), nil }
