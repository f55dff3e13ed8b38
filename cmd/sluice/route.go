package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/cases"
	"github.com/sluicedata/sluice/router/replay"
	"github.com/sluicedata/sluice/router/rules"
)

func routeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "route", Short: "Where work runs: check, test, explain, replay and roll back the router's rules"}
	cmd.AddCommand(routeCheckCmd(), routeTestCmd(), routeReplayCmd(), routeNamesCmd(), routeExplainCmd(), routeVersionsCmd(), routeDiffCmd(), routeRollbackCmd(),
		clustersCmd(), drainCmd("drain", "Give a cluster no new engines; sessions leave it with their next statements"), drainCmd("undrain", "Let a cluster have new engines again"))
	return cmd
}

func routeCheckCmd() *cobra.Command {
	var file string
	var clusters []string
	cmd := &cobra.Command{Use: "check RULES", Short: "Say everything that is wrong with a file of rules", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if len(clusters) == 0 {
			cfg, _, err := loadConfig(file)
			if err != nil {
				return err
			}
			clusters = cfg.ClusterNames()
		}
		set, err := rules.LoadFile(args[0], clusters)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "ok: %d rules and %d limits, version %s\n", len(set.Rules), len(set.Limits), set.Version)
		return nil
	}}
	cmd.Flags().StringVar(&file, "config", os.Getenv("SLUICE_CONFIG"), "configuration file, which names the clusters")
	cmd.Flags().StringSliceVar(&clusters, "clusters", nil, "names of the clusters, in place of a configuration's")
	return cmd
}

func routeTestCmd() *cobra.Command {
	return &cobra.Command{Use: "test CASES...", Short: "Run the cases of files, each of which names its rules", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		ran, failed := 0, 0
		for _, path := range args {
			n, err := cases.Run(path, func(name, why string, t *rules.Trace) {
				failed++
				fmt.Fprintf(out, "FAILED  %s: %s: %s\n", path, name, why)
				t.Write(out)
			})
			if err != nil {
				return err
			}
			ran += n
		}
		fmt.Fprintf(out, "%d cases, %d failed\n", ran, failed)
		if failed > 0 {
			return errors.New("some cases failed")
		}
		return nil
	}}
}

func routeReplayCmd() *cobra.Command {
	var policy string
	cmd := &cobra.Command{Use: "replay RECORD...", Short: "Run recorded requests through other rules, and say what would change", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		var files []io.Reader
		for _, path := range args {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			files = append(files, f)
		}
		report, err := replay.Run(io.MultiReader(files...), func(clusters []string) (*rules.Set, error) { return rules.LoadFile(policy, clusters) })
		if err != nil {
			return err
		}
		report.Write(cmd.OutOrStdout())
		return nil
	}}
	cmd.Flags().StringVar(&policy, "policy", "", "the other file of rules")
	_ = cmd.MarkFlagRequired("policy")
	return cmd
}

func routeNamesCmd() *cobra.Command {
	return &cobra.Command{Use: "names", Short: "Print what the conditions of rules may use", Args: cobra.NoArgs, Run: func(cmd *cobra.Command, _ []string) {
		for _, line := range rules.Names() {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
	}}
}

// routeExplainCmd asks a gateway, or, with a file of rules, nobody: all clusters are up then.
func routeExplainCmd() *cobra.Command {
	var q cases.Request
	var file string
	var clusters []string
	g := &client{}
	cmd := &cobra.Command{Use: "explain [STATEMENT]", Short: "Say how work is routed: which rule, which clusters, and why each of them or why not", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			q.SQL = args[0]
		}
		trace := &rules.Trace{}
		if file == "" {
			if err := g.call(cmd.Context(), "POST", "/route/explain", q, trace); err != nil {
				return err
			}
			trace.Write(cmd.OutOrStdout())
			return nil
		}
		set, err := rules.LoadFile(file, clusters)
		if err != nil {
			return err
		}
		r, err := q.Router(set.Zone, time.Now())
		if err != nil {
			return err
		}
		now := &router.Snapshot{}
		for _, name := range clusters {
			now.Clusters = append(now.Clusters, router.State{Name: name, Health: router.Up})
		}
		set.Explain(&r, now).Write(cmd.OutOrStdout())
		return nil
	}}
	f := cmd.Flags()
	f.StringVar(&file, "rules", "", "decide by this file, over clusters that are all up, in place of asking a gateway")
	f.StringSliceVar(&clusters, "clusters", nil, "with --rules: the clusters")
	f.StringVar(&q.User, "for", "", "the user (administrators may ask for others)")
	f.StringSliceVar(&q.Groups, "groups", nil, "the user's groups")
	f.StringVar(&q.Work, "work", "", "interactive, etl or batch")
	f.StringVar(&q.Queue, "queue", "", "the queue that the client names")
	f.StringVar(&q.Cluster, "cluster", "", "the cluster that the client names")
	f.StringSliceVar(&q.Tags, "tags", nil, "the session's tags")
	f.StringToStringVar(&q.Conf, "conf", nil, "settings of the session")
	f.StringVar(&q.Session, "session", "", "id of the session, which weighted sets stick to")
	f.StringVar(&q.Address, "address", "", "of the client")
	f.StringVar(&q.At, "at", "", "the time; now if it is not given")
	f.StringVar(&q.Catalog, "catalog", "", "current catalogue")
	f.StringVar(&q.Database, "database", "", "current database")
	g.flags(cmd)
	return cmd
}
