package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluicedata/sluice/gateway/config"
	"github.com/sluicedata/sluice/shuffle/master"
	"github.com/sluicedata/sluice/shuffle/rpc"
	"github.com/sluicedata/sluice/shuffle/wire"
	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

func shuffleCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "shuffle", Short: "The remote shuffle service, for stock Celeborn clients"}
	cmd.AddCommand(shuffleMasterCmd(), shuffleWorkerCmd(), shuffleStatusCmd(), shuffleExcludeCmd(false), shuffleExcludeCmd(true))
	return cmd
}

func shuffleMasterCmd() *cobra.Command {
	var opt master.Options
	var address, httpAddress, level, format, defaultQuota string
	var quotas []string
	cmd := &cobra.Command{Use: "master", Short: "Serve drivers and shuffle workers until it is told to stop", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var err error
		if opt.Quotas, err = parseQuotas(defaultQuota, quotas); err != nil {
			return err
		}
		if opt.SilentAfter <= 0 || opt.LostAfter < opt.SilentAfter || opt.ApplicationTimeout <= opt.LostAfter {
			return errors.New("the time-outs must grow: 0 < --silent-after <= --lost-after < --application-timeout")
		}
		return master.NewServer(opt, newLogger(level, format, os.Stderr)).Run(cmd.Context(), address, httpAddress)
	}}
	f := cmd.Flags()
	f.StringVar(&address, "listen", "127.0.0.1:9097", "address for drivers (spark.celeborn.master.endpoints) and workers; who reaches it can end every shuffle")
	f.StringVar(&httpAddress, "http", "127.0.0.1:9098", "address of /metrics and /healthz")
	f.DurationVar(&opt.SilentAfter, "silent-after", 2*time.Second, "a worker without heartbeats for so long gets no partitions")
	f.DurationVar(&opt.LostAfter, "lost-after", 30*time.Second, "a worker without heartbeats for so long is lost")
	f.DurationVar(&opt.ApplicationTimeout, "application-timeout", 5*time.Minute, "an application whose driver was not heard of for so long has ended, and its shuffles are deleted")
	f.IntVar(&opt.Spares, "spares", 8, "workers that a driver learns of beside those with partitions")
	f.StringArrayVar(&opt.Exclude, "exclude", nil, "workers that get no partitions: host, HOST:RPCPORT or whole id, with * and ?; may be given more than once")
	f.StringVar(&defaultQuota, "default-quota", "", "bytes that each user's shuffles may hold, like 500GiB; none without it")
	f.StringArrayVar(&quotas, "quota", nil, "the same for one user, USER=BYTES or TENANT/USER=BYTES; may be given more than once")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

func parseQuotas(all string, users []string) (q master.Quotas, err error) {
	if all != "" {
		size, err := config.ParseBytes(all)
		if err != nil {
			return q, fmt.Errorf("--default-quota: %w", err)
		}
		q.Default = int64(size)
	}
	q.Users = map[string]int64{}
	for _, u := range users {
		name, size, ok := strings.Cut(u, "=")
		if !ok || name == "" {
			return q, fmt.Errorf("--quota %q: give USER=BYTES", u)
		}
		n, err := config.ParseBytes(size)
		if err != nil {
			return q, fmt.Errorf("--quota %q: %w", u, err)
		}
		q.Users[name] = int64(n)
	}
	return q, nil
}

// shuffleMaster speaks with a master's RPC port.
type shuffleMaster struct{ address string }

func (m *shuffleMaster) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.address, "master", cmp.Or(os.Getenv("SLUICE_SHUFFLE_MASTER"), "127.0.0.1:9097"), "address of the shuffle master (SLUICE_SHUFFLE_MASTER)")
}

func (m *shuffleMaster) call(ctx context.Context, t wire.MessageType, in proto.Message, want wire.MessageType, out proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	c, err := rpc.Dial(ctx, m.address)
	if err != nil {
		return fmt.Errorf("ask the shuffle master (--master names it): %w", err)
	}
	defer c.Close()
	return c.Call(ctx, wire.MasterEndpoint, t, in, want, out)
}

func shuffleStatusCmd() *cobra.Command {
	m := &shuffleMaster{}
	var asJSON bool
	cmd := &cobra.Command{Use: "status", Short: "Show the shuffle workers and applications", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s := &pb.StatusResponse{}
		if err := m.call(cmd.Context(), wire.StatusRequest, &pb.StatusRequest{}, wire.StatusResponse, s); err != nil {
			return err
		}
		if asJSON {
			b, err := protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Marshal(s)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), string(b))
			}
			return err
		}
		return printShuffleStatus(cmd.OutOrStdout(), s)
	}}
	m.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything, for programs")
	return cmd
}

// printShuffleStatus shows what an operator looks for first; --json has all.
func printShuffleStatus(out io.Writer, s *pb.StatusResponse) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WORKER\tSTATE\tSEEN\tPARTITIONS\tDISK FREE\tMEMORY\tCONNECTIONS\tWHY")
	for _, k := range s.Workers {
		var usable, total int64
		for _, d := range k.Last.GetDisks() {
			total += d.GetTotalSpace()
			if d.GetStatus() == 0 {
				usable += d.GetUsableSpace()
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s ago\t%d\t%s of %s\t%s of %s\t%d\t%s\n", k.Id, k.State, millis(k.HeartbeatAgeMillis), k.Slots, master.Bytes(usable), master.Bytes(total),
			master.Bytes(k.Last.GetMemoryUsed()), master.Bytes(k.Last.GetMemoryLimit()), k.Last.GetConnections(), cmp.Or(k.Reason, "-"))
	}
	fmt.Fprintln(w, "\nAPPLICATION\tUSER\tSHUFFLES\tHELD\tSEEN\tNOTE")
	for _, a := range s.Applications {
		note := "-"
		if a.Adopted {
			note = "known from workers only, since this master started"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s ago\t%s\n", a.AppId, cmp.Or(a.User, "not known"), a.Shuffles, master.Bytes(a.Bytes), millis(a.HeartbeatAgeMillis), note)
	}
	if len(s.Users) > 0 {
		fmt.Fprintln(w, "\nUSER\tHOLDS\tOF")
		for _, u := range s.Users {
			limit := "no limit"
			if u.Limit > 0 {
				limit = master.Bytes(u.Limit)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", cmp.Or(u.User, "not known"), master.Bytes(u.Bytes), limit)
		}
	}
	if len(s.Refusals) > 0 {
		fmt.Fprintln(w, "\nREFUSED\tWHEN\tWHY")
		for _, r := range s.Refusals {
			fmt.Fprintf(w, "%s\t%s ago\t%s\n", r.ShuffleKey, millis(r.AgeMillis), r.Reason)
		}
	}
	if len(s.ExcludedPatterns) > 0 {
		fmt.Fprintln(w, "\nexcluded by an operator: "+strings.Join(s.ExcludedPatterns, ", "))
	}
	return w.Flush()
}

func millis(n int64) time.Duration {
	d := time.Duration(n) * time.Millisecond
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

func shuffleExcludeCmd(include bool) *cobra.Command {
	m := &shuffleMaster{}
	use, short := "exclude WORKER", "Place no new partitions on workers: host, HOST:RPCPORT or whole id, with * and ?; until the master restarts"
	if include {
		use, short = "include WORKER", "Take back what exclude was given"
	}
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		out := &pb.ExcludeWorkersResponse{}
		if err := m.call(cmd.Context(), wire.ExcludeWorkers, &pb.ExcludeWorkers{Pattern: args[0], Include: include}, wire.ExcludeWorkersResponse, out); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "excluded: %s; they match %d workers: %s\n", cmp.Or(strings.Join(out.Patterns, ", "), "nothing"), len(out.Workers), strings.Join(out.Workers, ", "))
		return nil
	}}
	m.flags(cmd)
	return cmd
}
