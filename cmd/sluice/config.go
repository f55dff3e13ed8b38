package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicedata/sluice/gateway/config"
)

func configCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "config", Short: "Check, print and explain the configuration"}
	cmd.PersistentFlags().StringVar(&file, "config", os.Getenv("SLUICE_CONFIG"), "configuration file (YAML); without one the defaults hold")
	cmd.AddCommand(
		&cobra.Command{Use: "check", Short: "Say everything that is wrong with it", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			_, warnings, err := loadConfig(file)
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w.String())
			}
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "ok")
			}
			return err
		}},
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
