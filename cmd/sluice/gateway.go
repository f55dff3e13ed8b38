package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sluicedata/sluice/engines/local"
	"github.com/sluicedata/sluice/engines/spark/dist"
	"github.com/sluicedata/sluice/gateway"
	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/config"
)

func gatewayCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "gateway", Short: "Serve clients until it is told to stop", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		cfg, warnings, err := loadConfig(file)
		if err != nil {
			return err
		}
		log := newLogger(cfg.Log.Level, cfg.Log.Format, os.Stderr)
		for _, w := range warnings {
			log.Warn(w.String())
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find our own binary, which supervises engines: %w", err)
		}
		g, err := gateway.New(cmd.Context(), cfg, []string{self, local.SuperviseCommand}, log)
		if err != nil {
			return err
		}
		return g.Run(cmd.Context())
	}}
	cmd.Flags().StringVar(&file, "config", os.Getenv("SLUICE_CONFIG"), "configuration file (YAML); without one the defaults hold")
	return cmd
}

func loadConfig(file string) (config.Config, []config.Warning, error) {
	cfg, warnings, err := config.Load(file, os.Environ())
	if err == nil {
		err = cfg.Validate()
	}
	return cfg, warnings, err
}

func newLogger(level, format string, w io.Writer) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // the configuration was validated
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func sparkCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "spark", Short: "The Spark distributions that local engines run from"}
	cmd.AddCommand(
		&cobra.Command{Use: "install [VERSION]", Short: "Fetch a Spark into the cache, once", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			wanted := config.Default().Spark.Version
			if len(args) > 0 {
				wanted = args[0]
			}
			home, err := dist.Install(cmd.Context(), wanted, func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) })
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), home)
			}
			return err
		}},
		&cobra.Command{Use: "list", Short: "List the versions that can be fetched, and those that are there", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			for _, v := range dist.Versions() {
				where := "not installed"
				if home, ok := dist.Installed(v); ok {
					where = home
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", v, where)
			}
			return nil
		}},
	)
	return cmd
}

// passwordCmd makes a line for auth.file. The password comes from the terminal or from standard input, never from
// arguments, which others can see.
func passwordCmd() *cobra.Command {
	return &cobra.Command{Use: "password USER", Short: "Make a line for the password file (auth.file)", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		var secret []byte
		var err error
		if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
			fmt.Fprintf(cmd.ErrOrStderr(), "Password for %s: ", args[0])
			secret, err = term.ReadPassword(fd)
			fmt.Fprintln(cmd.ErrOrStderr())
		} else {
			secret, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1024))
		}
		if err != nil {
			return err
		}
		hash, err := auth.Hash(trimNewline(string(secret)))
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s:%s\n", args[0], hash)
		return nil
	}}
}

func trimNewline(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s
}
