// Command sluice is the whole of Sluice in one binary: the gateway, its configuration and what it needs to run.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluicedata/sluice/engines/local"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := rootCmd().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sluice: "+err.Error())
		os.Exit(1)
	}
}

func rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "A gateway in front of Spark: JDBC, Beeline and Python clients on one side, engines on any cluster on the other",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(gatewayCmd(), configCmd(), sparkCmd(), passwordCmd(), routeCmd(), shuffleCmd(), versionCmd(), superviseCmd())
	return root
}

func versionCmd() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, Run: func(cmd *cobra.Command, _ []string) {
		revision := ""
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" && len(s.Value) > 12 {
					revision = " (" + s.Value[:12] + ")"
				}
			}
		}
		fmt.Fprintf(cmd.OutOrStdout(), "sluice %s%s %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}}
}

// superviseCmd is the parent process of a local engine. People do not call it.
func superviseCmd() *cobra.Command {
	return &cobra.Command{Use: local.SuperviseCommand + " DIR", Hidden: true, Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return local.Supervise(args[0])
	}}
}
