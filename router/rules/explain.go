package rules

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/expr-lang/expr/parser"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/sql"
)

// Trace is how a decision came about.
type Trace struct {
	Version    string           `json:"version"`
	Rules      []RuleTrace      `json:"rules"` // down to the one that matched
	Candidates []CandidateTrace `json:"candidates"`
	Place      string           `json:"place,omitempty"` // empty: it was refused
	Cluster    string           `json:"cluster,omitempty"`
	Queue      string           `json:"queue,omitempty"`
	Reason     string           `json:"reason"`
	SQL        string           `json:"sql"` // what is known of the statement
}

// RuleTrace is one rule of a trace.
type RuleTrace struct {
	Name    string `json:"name"`
	Line    int    `json:"line"`
	Matched bool   `json:"matched"`
	Why     string `json:"why"`
	To      string `json:"to,omitempty"` // of the one that matched
}

// CandidateTrace is a cluster that the rule allows.
type CandidateTrace struct {
	Cluster string `json:"cluster"`
	Queue   string `json:"queue,omitempty"`
	Picked  bool   `json:"picked"`
	Why     string `json:"why"`
}

// Explain decides, and says how.
func (s *Set) Explain(r *router.Request, now *router.Snapshot) *Trace {
	t := &Trace{Version: s.Title(), SQL: inWords(r)}
	d, err := s.decide(r, now, t)
	if err != nil {
		t.Reason = err.Error()
		return t
	}
	t.Place, t.Cluster, t.Queue, t.Reason = d.String(), d.Cluster, d.Queue, d.Reason
	found := false
	for i := range t.Candidates {
		c := &t.Candidates[i]
		if c.Cluster == d.Cluster {
			c.Picked, found = true, true
		} else if c.Why == "" {
			c.Why = "it could have taken the work, and " + d.Cluster + " is preferred"
		}
		if c.Picked && c.Why == "" {
			c.Why = d.Reason
		}
	}
	if !found {
		t.Candidates = append(t.Candidates, CandidateTrace{Cluster: d.Cluster, Queue: d.Queue, Picked: true, Why: d.Reason})
	}
	return t
}

func inWords(r *router.Request) string {
	text := "kind " + r.SQL.Kind
	switch {
	case !r.SQL.Complete && r.SQL.Why == "":
		return text + "; what it touches is unknown"
	case !r.SQL.Complete:
		return text + "; what it touches is unknown: " + r.SQL.Why
	}
	for _, l := range []struct {
		what  string
		names []string
	}{{"reads", r.SQL.Reads}, {"writes", r.SQL.Writes}} {
		if len(l.names) > 0 {
			text += "; " + l.what + " " + strings.Join(l.names, ", ")
		}
	}
	return text
}

func (t *Trace) judged(all []router.Candidate) {
	for i := range all {
		t.Candidates = append(t.Candidates, CandidateTrace{Cluster: all[i].Name, Queue: all[i].Queue, Why: all[i].Lost()})
	}
}

// matched says of each rule down to the one that matched why it did or did not.
func (t *Trace) matched(s *Set, m *machine, r *router.Request, at int) {
	for i, rule := range s.Rules[:at+1] {
		rt := RuleTrace{Name: rule.Name, Line: rule.Line, Matched: i == at}
		switch {
		case rt.Matched:
			rt.To, rt.Why = rule.target.text, rule.holdsBecause()
		default:
			rt.Why = rule.whyNot(m, r)
		}
		t.Rules = append(t.Rules, rt)
	}
}

func (r *Rule) holdsBecause() string {
	var parts []string
	if r.when != nil {
		parts = append(parts, r.when.text)
	}
	if r.window.text != "" {
		parts = append(parts, r.window.text)
	}
	if len(parts) == 0 {
		return "it always holds"
	}
	return strings.Join(parts, ", ") + " holds"
}

// whyNot finds the first part of a rule that does not hold.
func (r *Rule) whyNot(m *machine, req *router.Request) string {
	if !r.window.open(req.At) {
		return r.window.text + " does not hold at " + req.At.Format("Mon 15:04")
	}
	for _, part := range r.when.parts {
		if why := r.when.whyNot(part, m, req); why != "" {
			return why
		}
	}
	return r.when.text + " does not hold"
}

func (c *condition) whyNot(part string, m *machine, r *router.Request) string {
	tree, err := parser.Parse(part)
	if err != nil {
		return "" // it has worked as a part of the whole
	}
	program, err := whole(part)
	if err != nil {
		return ""
	}
	yes, err := m.holds(r, program)
	kind, touched := asks(tree.Node, false)
	switch {
	case err != nil:
		return fmt.Sprintf("%s cannot be computed: %v", part, err)
	case yes:
		return ""
	case kind && r.SQL.Kind == sql.Unknown:
		return part + " is not known to hold: the kind of statement is unknown (sql.unknown says what to do then)"
	case touched && !r.SQL.Complete:
		return part + " is not known to hold: what the statement touches is unknown (sql.unknown says what to do then)"
	}
	return part + " does not hold" + c.saying(part, r)
}

// saying tells the value of the fact that a part compares.
func (c *condition) saying(part string, r *router.Request) string {
	for _, a := range c.all() {
		if a.fact != "sql.kind" && !slices.Contains(texts, a.fact) || !strings.Contains(part, a.fact) {
			continue
		}
		return fmt.Sprintf(": %s is %q", a.fact, textOf(a.fact, r))
	}
	return ""
}

// Write prints a trace for people.
func (t *Trace) Write(w io.Writer) {
	for _, line := range t.Lines() {
		fmt.Fprintf(w, "%-10s %-24s %s\n", line[0], line[1], line[2])
	}
}

// Lines are a trace in three columns: what a line is about, its name, and what is said of it.
func (t *Trace) Lines() [][]string {
	lines := [][]string{{"rules", t.Version, fmt.Sprintf("%d looked at", len(t.Rules))}, {"statement", "", t.SQL}}
	for _, r := range t.Rules {
		mark := "passed"
		if r.Matched {
			mark = "matched"
		}
		lines = append(lines, []string{mark, r.Name, fmt.Sprintf("line %d: %s", r.Line, r.Why)})
		if r.Matched {
			lines = append(lines, []string{"target", "", r.To})
		}
	}
	for _, c := range t.Candidates {
		mark := "lost"
		if c.Picked {
			mark = "picked"
		}
		lines = append(lines, []string{mark, router.Place{Cluster: c.Cluster, Queue: c.Queue}.String(), c.Why})
	}
	if t.Cluster == "" {
		return append(lines, []string{"refused", "", t.Reason})
	}
	return append(lines, []string{"decision", t.Place, t.Reason})
}
