// Package cases runs the tests of a file of rules: requests, the state of the clusters, and where the work shall go.
package cases

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/rules"
	"github.com/sluicedata/sluice/router/sql"
)

// File is a file of cases.
type File struct {
	Rules    string               `yaml:"rules"`    // the file of rules, beside this one
	Clusters map[string]yaml.Node `yaml:"clusters"` // as router.State; a cluster is up unless it says otherwise
	At       string               `yaml:"at"`       // the time of cases that name none
	Cases    []Case               `yaml:"cases"`
}

// Case is one request and what shall become of it.
type Case struct {
	Name     string               `yaml:"name"`
	Request  Request              `yaml:"request"`
	Clusters map[string]yaml.Node `yaml:"clusters"` // what is different from the file's
	Want     Want                 `yaml:"want"`
}

// Want is what shall become of a request. What is not said may be anything.
type Want struct {
	Cluster string  `yaml:"cluster"`
	Queue   *string `yaml:"queue"`
	Rule    string  `yaml:"rule"`
	Waits   *bool   `yaml:"waits"`
	Refused string  `yaml:"refused"` // a part of the refusal
	Reason  string  `yaml:"reason"`  // a part of the reason
}

// Request is a router.Request as people write it.
type Request struct {
	At       string            `yaml:"at" json:"at"`
	Session  string            `yaml:"session" json:"session"`
	User     string            `yaml:"user" json:"user"`
	RealUser string            `yaml:"real_user" json:"real_user"`
	Groups   []string          `yaml:"groups" json:"groups"`
	Client   string            `yaml:"client" json:"client"`
	Address  string            `yaml:"address" json:"address"`
	FrontEnd string            `yaml:"front_end" json:"front_end"`
	Work     string            `yaml:"work" json:"work"`
	Queue    string            `yaml:"queue" json:"queue"`
	Tags     []string          `yaml:"tags" json:"tags"`
	Profile  string            `yaml:"profile" json:"profile"`
	Runtime  string            `yaml:"runtime" json:"runtime"`
	Catalog  string            `yaml:"catalog" json:"catalog"`
	Database string            `yaml:"database" json:"database"`
	Conf     map[string]string `yaml:"conf" json:"conf"`
	Cluster  string            `yaml:"cluster" json:"cluster"`
	SQL      string            `yaml:"sql" json:"sql"`
	Warm     []string          `yaml:"warm" json:"warm"`
	Avoid    []string          `yaml:"avoid" json:"avoid"`
	Driver   router.Room       `yaml:"driver" json:"driver"`
}

// Now makes a request whose time, unless it says one, is up to the router.
func (q Request) Now() (router.Request, error) {
	r, err := q.Router(time.Local, time.Time{})
	if q.At == "" {
		r.At = time.Time{}
	}
	return r, err
}

// Router makes the router's request. Without a statement what it touches is unknown.
func (q Request) Router(zone *time.Location, at time.Time) (router.Request, error) {
	r := router.Request{
		At: at.In(zone), Session: q.Session, User: q.User, RealUser: q.RealUser, Groups: q.Groups, Client: q.Client, FrontEnd: q.FrontEnd, Work: q.Work,
		Queue: q.Queue, Tags: q.Tags, Profile: q.Profile, Runtime: q.Runtime, Catalog: q.Catalog, Database: q.Database, Conf: q.Conf, Cluster: q.Cluster,
		Warm: places(q.Warm), Avoid: q.Avoid, Driver: q.Driver, SQL: sql.Facts{Kind: sql.Unknown, Why: "no statement is given"},
	}
	if r.Work == "" {
		r.Work = router.Interactive
	}
	if !slices.Contains(router.Works, r.Work) {
		return r, fmt.Errorf("work: %q is not one of %s", r.Work, strings.Join(router.Works, ", "))
	}
	if q.SQL != "" {
		r.SQL = sql.Read(q.SQL, q.Catalog, q.Database)
	}
	var err error
	if q.Address != "" {
		if r.Address, err = netip.ParseAddr(q.Address); err != nil {
			return r, fmt.Errorf("address: %q is no address", q.Address)
		}
	}
	if q.At != "" {
		if r.At, err = Moment(q.At, zone); err != nil {
			return r, err
		}
	}
	return r, nil
}

func places(clusters []string) (out []router.Place) {
	for _, c := range clusters {
		out = append(out, router.Place{Cluster: c})
	}
	return out
}

// Moment reads a time as people write it.
func Moment(text string, zone *time.Location) (time.Time, error) {
	for _, form := range []string{"2006-01-02T15:04", "2006-01-02 15:04", time.RFC3339, time.DateOnly} {
		if at, err := time.ParseInLocation(form, text, zone); err == nil {
			return at.In(zone), nil
		}
	}
	return time.Time{}, fmt.Errorf("at: %q is no time; write it like 2026-12-01T18:00", text)
}

// Run runs the cases of a file, and tells of each that went wrong, with how the decision came about. It returns how many
// there are; an error means that they could not be run.
func Run(path string, failed func(name, why string, t *rules.Trace)) (int, error) {
	f, err := read(path)
	if err != nil {
		return 0, err
	}
	clusters := slices.Sorted(maps.Keys(f.Clusters))
	file := filepath.Join(filepath.Dir(path), f.Rules)
	set, err := rules.LoadFile(file, clusters)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: rules: %w", path, err)
	}
	if err != nil {
		return 0, err
	}
	for i := range f.Cases {
		c := &f.Cases[i]
		if c.Name == "" {
			c.Name = fmt.Sprintf("case %d", i+1)
		}
		if c.Want == (Want{}) {
			return 0, fmt.Errorf("%s: %q: want says nothing; it has cluster, queue, rule, waits, refused, reason", path, c.Name)
		}
		why, trace, err := c.run(f, set, clusters)
		if err != nil {
			return 0, fmt.Errorf("%s: %q: %w", path, c.Name, err)
		}
		if why != "" {
			failed(c.Name, why, trace)
		}
	}
	return len(f.Cases), nil
}

func read(path string) (f File, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case f.Rules == "":
		err = fmt.Errorf("%s: rules must name the file of rules, beside this one", path)
	case len(f.Clusters) == 0:
		err = fmt.Errorf("%s: clusters must name the clusters: {yarn1: {}, k8s1: {}}", path)
	case len(f.Cases) == 0:
		err = fmt.Errorf("%s: there are no cases", path)
	}
	return f, err
}

// snapshot is the state of the clusters in a case.
func (c *Case) snapshot(f File, clusters []string) (*router.Snapshot, error) {
	s := &router.Snapshot{}
	for name := range c.Clusters {
		if !slices.Contains(clusters, name) {
			return nil, fmt.Errorf("clusters: there is no %q", name)
		}
	}
	for _, name := range clusters {
		st := router.State{Name: name, Health: router.Up}
		for _, n := range []yaml.Node{f.Clusters[name], c.Clusters[name]} {
			if n.Kind == 0 {
				continue
			}
			if err := n.Decode(&st); err != nil {
				return nil, fmt.Errorf("clusters.%s: %w", name, err)
			}
		}
		st.Known = st.Known || st.Total != router.Room{} || st.Free != router.Room{}
		s.Clusters = append(s.Clusters, st)
	}
	return s, nil
}

func (c *Case) run(f File, set *rules.Set, clusters []string) (why string, t *rules.Trace, err error) {
	now, err := c.snapshot(f, clusters)
	if err != nil {
		return "", nil, err
	}
	at := time.Time{}
	if f.At != "" {
		if at, err = Moment(f.At, set.Zone); err != nil {
			return "", nil, err
		}
	}
	r, err := c.Request.Router(set.Zone, at)
	if err != nil {
		return "", nil, err
	}
	d, refused := set.Decide(&r, now)
	return c.Want.differs(d, refused), set.Explain(&r, now), nil
}

// differs says how a decision is not what is wanted.
func (w Want) differs(d rules.Decision, refused error) string {
	var no *rules.Refusal
	errors.As(refused, &no)
	switch {
	case w.Refused != "" && no == nil:
		return fmt.Sprintf("it goes to %s, and was to be refused", d.Place)
	case w.Refused != "" && !strings.Contains(no.Error(), w.Refused):
		return fmt.Sprintf("it is refused with %q, not %q", no.Error(), w.Refused)
	case w.Refused == "" && no != nil:
		return "it is refused: " + no.Error()
	case w.Cluster != "" && w.Cluster != d.Cluster:
		return fmt.Sprintf("it goes to %s, not to %s", d.Place, w.Cluster)
	case w.Queue != nil && *w.Queue != d.Queue:
		return fmt.Sprintf("its queue is %q, not %q", d.Queue, *w.Queue)
	case w.Rule != "" && w.Rule != d.Rule:
		return fmt.Sprintf("rule %q decides, not %q", d.Rule, w.Rule)
	case w.Waits != nil && *w.Waits != d.Waits:
		return fmt.Sprintf("waits is %v", d.Waits)
	case !strings.Contains(d.Reason, w.Reason):
		return fmt.Sprintf("the reason is %q, not %q", d.Reason, w.Reason)
	}
	return ""
}
