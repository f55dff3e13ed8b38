package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"

	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/router"
)

// client speaks with a gateway's REST pages.
type client struct{ gateway, user string }

func (g *client) flags(cmd *cobra.Command) {
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	cmd.Flags().StringVar(&g.gateway, "gateway", cmp.Or(os.Getenv("SLUICE_GATEWAY"), "http://127.0.0.1:10099"), "address of the gateway's HTTP port (SLUICE_GATEWAY)")
	cmd.Flags().StringVar(&g.user, "user", cmp.Or(os.Getenv("SLUICE_USER"), name), "who asks (SLUICE_USER); the password is in SLUICE_PASSWORD")
}

// call asks a page; into may be nil.
func (g *client) call(ctx context.Context, method, page string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(g.gateway, "/")+"/api/v1"+page, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("--gateway: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(g.user, os.Getenv("SLUICE_PASSWORD"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the gateway (--gateway names it): %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		var p struct{ Detail string }
		if json.Unmarshal(answer, &p) == nil && p.Detail != "" {
			return errors.New(p.Detail)
		}
		return fmt.Errorf("the gateway answers %s", resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

func (g *client) status(ctx context.Context) (s route.Status, err error) {
	return s, g.call(ctx, http.MethodGet, "/route/versions", nil, &s)
}

func routeVersionsCmd() *cobra.Command {
	g := &client{}
	cmd := &cobra.Command{Use: "versions", Short: "List the versions of the rules, and which are in force", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := g.status(cmd.Context())
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "VERSION\tNAME\tLOADED\tIN FORCE FOR")
		for _, v := range s.Versions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Version, v.Name, v.LoadedAt.Local().Format(time.DateTime), v.Force)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if s.Pinned {
			fmt.Fprintf(cmd.OutOrStdout(), "rolled back: the file is version %s; sluice route rollback --end takes it again\n", s.Loaded)
		}
		if s.Broken != "" {
			fmt.Fprintln(cmd.OutOrStdout(), "the file on disk is not in force: "+s.Broken)
		}
		return nil
	}}
	g.flags(cmd)
	return cmd
}

// versionOf finds a version by its hash or its name.
func versionOf(s route.Status, name string) (route.Version, error) {
	for _, v := range s.Versions {
		if v.Version == name || v.Name == name {
			return v, nil
		}
	}
	return route.Version{}, fmt.Errorf("there is no version %q; sluice route versions lists them", name)
}

func routeDiffCmd() *cobra.Command {
	g := &client{}
	cmd := &cobra.Command{Use: "diff VERSION [VERSION]", Short: "Compare two versions of the rules, or one with what is in force", Args: cobra.RangeArgs(1, 2), RunE: func(cmd *cobra.Command, args []string) error {
		s, err := g.status(cmd.Context())
		if err != nil {
			return err
		}
		a, err := versionOf(s, args[0])
		if err != nil {
			return err
		}
		b, err := versionOf(s, append(args, s.Version)[1])
		if err != nil {
			return err
		}
		text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(a.Text), B: difflib.SplitLines(b.Text),
			FromFile: a.Version + " " + a.Name, ToFile: b.Version + " " + b.Name, Context: 3})
		fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}}
	g.flags(cmd)
	return cmd
}

func routeRollbackCmd() *cobra.Command {
	g := &client{}
	var end bool
	cmd := &cobra.Command{Use: "rollback VERSION", Short: "Put an earlier version of the rules in force on all gateways, until the file changes", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if end == (len(args) == 1) {
			return errors.New("say either a version or --end")
		}
		return g.call(cmd.Context(), http.MethodPost, "/route/rollback", map[string]string{"version": strings.Join(args, "")}, nil)
	}}
	cmd.Flags().BoolVar(&end, "end", false, "take the file again")
	g.flags(cmd)
	return cmd
}

func drainCmd(what, short string) *cobra.Command {
	g := &client{}
	cmd := &cobra.Command{Use: what + " CLUSTER", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return g.call(cmd.Context(), http.MethodPost, "/clusters/"+url.PathEscape(args[0])+"/"+what, nil, nil)
	}}
	g.flags(cmd)
	return cmd
}

func clustersCmd() *cobra.Command {
	g := &client{}
	cmd := &cobra.Command{Use: "clusters", Short: "List the clusters as the router sees them", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var s router.Snapshot
		if err := g.call(cmd.Context(), http.MethodGet, "/clusters", nil, &s); err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "CLUSTER\tKIND\tHEALTH\tFREE\tWAITING\tDRIVERS\t")
		for _, c := range s.Clusters {
			health, free := string(c.Health), "not known"
			if c.Draining {
				health += ", drains"
			}
			if c.Known {
				free = c.Free.String() + " of " + c.Total.String()
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", c.Name, c.Kind, health, free, c.Waiting, c.Drivers, cmp.Or(c.Why, c.Note))
		}
		return w.Flush()
	}}
	g.flags(cmd)
	return cmd
}
