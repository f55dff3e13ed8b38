package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicedata/sluice/gateway"
	"github.com/sluicedata/sluice/gateway/config"
)

func configCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "config", Short: "Check, print and explain the configuration"}
	cmd.PersistentFlags().StringVar(&file, "config", os.Getenv("SLUICE_CONFIG"), "configuration file (YAML); without one the defaults hold")
	cmd.AddCommand(
		checkCmd(&file),
		&cobra.Command{Use: "print", Short: "Print what holds: defaults, file and environment together", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := loadConfig(file)
			if err != nil {
				return err
			}
			return cfg.Print(cmd.OutOrStdout())
		}},
		&cobra.Command{Use: "docs", Short: "Print every key with its default and its meaning, in Markdown", Args: cobra.NoArgs, Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprint(cmd.OutOrStdout(), config.Docs())
		}},
	)
	return cmd
}

func checkCmd(file *string) *cobra.Command {
	var online bool
	cmd := &cobra.Command{Use: "check", Short: "Say everything that is wrong with it", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		cfg, warnings, err := loadConfig(*file)
		for _, w := range warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w.String())
		}
		if err != nil {
			return err
		}
		if online && !gateway.Check(cmd.Context(), cfg, func(what string, err error) {
			if err != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "FAILED  %s: %v\n", what, err)
				return
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok      "+what)
		}) {
			return errors.New("not everything that the configuration names works")
		}
		fmt.Fprintln(cmd.OutOrStdout(), "ok")
		return nil
	}}
	cmd.Flags().BoolVar(&online, "online", false, "try the services of its clusters, too")
	return cmd
}
