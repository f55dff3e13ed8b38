package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/shuffle/store"
	"github.com/sluicedata/sluice/shuffle/tier"
	"github.com/sluicedata/sluice/shuffle/worker"
)

func shuffleWorkerCmd() *cobra.Command {
	var opt worker.Options
	var dirs []string
	var memory, reserve, level, format string
	cmd := &cobra.Command{Use: "worker", Short: "Keep shuffle data until it is told to stop", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if len(dirs) == 0 {
			return errors.New("--dir: name at least one directory for the data, on a disk of its own if there is one")
		}
		size, err := config.ParseBytes(memory)
		if err != nil {
			return fmt.Errorf("--memory: %w", err)
		}
		if size < 16<<20 {
			return fmt.Errorf("--memory %s: a worker needs 16MiB or more", memory)
		}
		opt.Store.Memory = int64(size)
		if size, err = config.ParseBytes(reserve); err != nil {
			return fmt.Errorf("--reserve: %w", err)
		}
		opt.Store.Reserve = max(int64(size), 1) // 0 would be the default
		for _, d := range dirs {
			if d, err = filepath.Abs(d); err != nil {
				return err
			}
			opt.Store.Disks = append(opt.Store.Disks, store.Disk{Path: filepath.Join(d, "sluice-shuffle"), FS: tier.OS{}})
		}
		if os.Getenv("GOGC") == "" {
			// Most of the heap is blocks for pushes, which are used again: what little garbage there is may be collected often.
			debug.SetGCPercent(25)
		}
		opt.Log = newLogger(level, format, os.Stderr)
		w, err := worker.New(opt)
		if err != nil {
			return err
		}
		return w.Run(cmd.Context())
	}}
	f := cmd.Flags()
	f.StringSliceVar(&opt.Masters, "master", []string{"127.0.0.1:9097"}, "address of the shuffle master")
	f.StringSliceVar(&dirs, "dir", nil, "directory for data, one for each disk; may be given more than once")
	f.StringVar(&opt.Host, "host", "127.0.0.1", "how executors and other workers reach this machine: a name or an address")
	f.StringVar(&opt.Bind, "bind", "", "address to listen on, if that is not --host")
	f.IntVar(&opt.RPC, "rpc-port", 9101, "port for drivers")
	f.IntVar(&opt.Push, "push-port", 9102, "port for pushes of executors")
	f.IntVar(&opt.Fetch, "fetch-port", 9103, "port for reads of executors")
	f.IntVar(&opt.Replicate, "replicate-port", 9104, "port for replicas' pushes of other workers")
	f.StringVar(&opt.HTTP, "http", "127.0.0.1:9105", "address of /metrics and /healthz")
	f.StringVar(&memory, "memory", "80MiB", "memory for pushes that are not on a disk yet")
	f.StringVar(&reserve, "reserve", "5GiB", "what stays free on every disk")
	f.StringVar(&opt.Rack, "rack", "/default-rack", "where this machine stands: replicas go to other racks where they can")
	f.DurationVar(&opt.Heartbeat, "heartbeat", time.Second/2, "how often the master hears of this worker")
	f.DurationVar(&opt.Store.SlowAfter, "slow-after", 20*time.Second, "a disk that does not take a write for so long is set aside")
	f.BoolVar(&opt.Store.Verify, "verify", true, "compare data that may have come from a disk with its checksum before it is first read")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "text or json")
	return cmd
}
