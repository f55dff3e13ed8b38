package rules

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"
	"gopkg.in/yaml.v3"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/policy"
)

// Load reads a file of rules for clusters, which are given in the order of the snapshots that will be decided over. Its
// error has a line for everything that is wrong, each beginning with line:column.
func Load(text []byte, clusters []string) (*Set, error) {
	s, err := parse(text, clusters)
	if err != nil {
		return nil, err
	}
	if errs := s.reach(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s.ready(), nil
}

// LoadFile is Load of a file, whose name stands before each place.
func LoadFile(file string, clusters []string) (*Set, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	set, err := Load(text, clusters)
	if err == nil {
		return set, nil
	}
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		if l != "" && l[0] >= '0' && l[0] <= '9' {
			lines[i] = file + ":" + l
		}
	}
	return nil, errors.New(strings.Join(lines, "\n"))
}

// parse reads a file, in which there may be rules that are never reached.
func parse(text []byte, clusters []string) (*Set, error) {
	r := &reader{source: strings.Split(string(text), "\n"), set: &Set{
		Version: versionOf(text), Text: string(text), Rollout: 1, Choice: Follow, Zone: time.Local, clusters: clusters, near: make([][]tablePattern, len(clusters)),
		costs: make([]float64, len(clusters)), patterns: newPatterns(),
	}}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%w: it is no YAML", err)
	}
	if len(doc.Content) == 0 {
		return nil, errors.New("1:1: the file is empty; its least is\nrules:\n- to: NAME-OF-A-CLUSTER")
	}
	r.file(doc.Content[0])
	return r.set, errors.Join(r.errs...)
}

// ready makes what decisions need beside the rules.
func (s *Set) ready() *Set {
	s.index = newIndex(s.Rules)
	s.machines.New = func() any { return s.patterns.newMachine() }
	return s
}

// reader reads a file and gathers what is wrong with it.
type reader struct {
	set    *Set
	source []string
	errs   []error
}

func (r *reader) wrong(n *yaml.Node, format string, args ...any) {
	r.wrongAt(n.Line, n.Column, format, args...)
}

func (r *reader) wrongAt(line, column int, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%d:%d: %s", line, column, fmt.Sprintf(format, args...)))
}

// each goes through the keys of a mapping, of which it refuses those that have no reader.
func (r *reader) each(n *yaml.Node, what string, read map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "%s must be a mapping with some of %s", what, strings.Join(keysOf(read), ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, known := read[key.Value]
		switch {
		case !known:
			r.wrong(key, "%s has no %q%s; it has %s", what, key.Value, nearest(key.Value, keysOf(read)), strings.Join(keysOf(read), ", "))
		case seen[key.Value]:
			r.wrong(key, "%q is said twice", key.Value)
		default:
			seen[key.Value] = true
			f(value)
		}
	}
}

// text takes a single value.
func (r *reader) text(to *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			r.wrong(n, "must be a single value")
			return
		}
		*to = n.Value
	}
}

func (r *reader) whole(to *int, least, most int) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := strconv.Atoi(n.Value)
		if err != nil || v < least || v > most {
			r.wrong(n, "%q is no whole number from %d to %d", n.Value, least, most)
			return
		}
		*to = v
	}
}

func (r *reader) bool(to *bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			r.wrong(n, "%q is neither true nor false", n.Value)
			return
		}
		*to = n.Value == "true"
	}
}

func (r *reader) list(n *yaml.Node, read func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.wrong(n, "must be a list")
		return
	}
	for _, item := range n.Content {
		read(item)
	}
}

func (r *reader) file(n *yaml.Node) {
	var rules *yaml.Node
	r.each(n, "the file", map[string]func(*yaml.Node){
		"version":       r.text(&r.set.Name),
		"zone":          r.zone,
		"client_choice": r.choice,
		"rollout":       r.rollout,
		"clusters":      r.clusters,
		"rules":         func(n *yaml.Node) { rules = n },
		"limits":        func(n *yaml.Node) { r.list(n, r.limit) },
	})
	if rules == nil || rules.Kind != yaml.SequenceNode || len(rules.Content) == 0 {
		r.wrong(n, "rules must be a list with a rule at least, such as `- to: NAME-OF-A-CLUSTER`")
		return
	}
	r.list(rules, r.rule)
	last := rules.Content[len(rules.Content)-1]
	if n := len(r.set.Rules); n > 0 && len(r.errs) == 0 && !r.set.Rules[n-1].always() {
		r.wrong(last, "the last rule must hold always (no when, no time), so that all work has a place; to refuse what no rule names, end with `- to: {refuse: the reason}`")
	}
}

func (r *reader) zone(n *yaml.Node) {
	zone, err := time.LoadLocation(n.Value)
	if err != nil || n.Value == "" {
		r.wrong(n, "%q is no time zone; write it like Europe/Berlin or UTC", n.Value)
		return
	}
	r.set.Zone = zone
}

func (r *reader) choice(n *yaml.Node) {
	if !slices.Contains([]string{Follow, Ignore, Refuse}, n.Value) {
		r.wrong(n, "client_choice is follow (a client gets the cluster that it names), ignore or refuse, not %q", n.Value)
		return
	}
	r.set.Choice = n.Value
}

func (r *reader) rollout(n *yaml.Node) {
	share, err := percent(n.Value)
	if err != nil {
		r.wrong(n, "rollout: %s", err)
		return
	}
	r.set.Rollout = float64(share) / policy.Whole
}

// percent reads a share, in ten-thousandths.
func percent(text string) (int, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	if err != nil || v < 0 || v > 100 {
		return 0, fmt.Errorf("%q is no share; write it like 10 or 12.5, in percent", text)
	}
	return int(v*policy.Whole/100 + 0.5), nil
}

// clusters reads what the router shall know of clusters beside what it sees.
func (r *reader) clusters(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "clusters must be a mapping of names")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at := r.cluster(n.Content[i])
		if at < 0 {
			continue
		}
		r.each(n.Content[i+1], "a cluster", map[string]func(*yaml.Node){
			"cost": func(n *yaml.Node) {
				v, err := strconv.ParseFloat(n.Value, 64)
				if err != nil || v <= 0 {
					r.wrong(n, "cost: %q is no price of a core for an hour", n.Value)
					return
				}
				r.set.costs[at] = v
			},
			"near": func(n *yaml.Node) {
				r.list(n, func(n *yaml.Node) {
					p, err := readPattern(n.Value)
					if err != nil {
						r.wrong(n, "near: %s", err)
					}
					r.set.near[at] = append(r.set.near[at], p)
				})
			},
		})
	}
}

// cluster finds a cluster by its name, or says which there are.
func (r *reader) cluster(n *yaml.Node) int {
	i := r.set.find(n.Value)
	if i < 0 {
		r.wrong(n, "there is no cluster %q%s; clusters are %s", n.Value, nearest(n.Value, r.set.clusters), strings.Join(r.set.clusters, ", "))
	}
	return i
}

func (r *reader) rule(n *yaml.Node) {
	rule := &Rule{Line: n.Line, Priority: DefaultPriority}
	var span, days, from, until *yaml.Node
	to := false
	r.each(n, "a rule", map[string]func(*yaml.Node){
		"name":     r.text(&rule.Name),
		"when":     func(n *yaml.Node) { rule.when = r.condition(n) },
		"to":       func(n *yaml.Node) { to = true; r.target(n, rule) },
		"strict":   r.bool(&rule.Strict),
		"priority": r.whole(&rule.Priority, 0, 9),
		"between":  func(n *yaml.Node) { span = n },
		"days":     func(n *yaml.Node) { days = n },
		"from":     func(n *yaml.Node) { from = n },
		"until":    func(n *yaml.Node) { until = n },
	})
	if !to {
		r.wrong(n, "a rule must say where its work goes: `to: NAME-OF-A-CLUSTER`")
	}
	rule.window = r.window(span, days, from, until)
	if rule.Name == "" {
		rule.Name = fmt.Sprintf("#%d", len(r.set.Rules)+1)
	}
	for _, other := range r.set.Rules {
		if other.Name == rule.Name {
			r.wrong(n, "the name %q has the rule of line %d already", rule.Name, other.Line)
		}
	}
	rule.id = rule.fingerprint()
	r.set.Rules = append(r.set.Rules, rule)
}

// DefaultPriority is that of work whose rule says none.
const DefaultPriority = 5

// fingerprint changes when the rule does.
func (r *Rule) fingerprint() uint64 {
	h := fnv.New64a()
	when := ""
	if r.when != nil {
		when = r.when.text
	}
	_, _ = fmt.Fprintf(h, "%q %q %q %q %v", r.Name, when, r.window.text, r.target.text, r.Strict)
	return h.Sum64()
}

// condition compiles a rule's condition, and says where in the file it is wrong.
func (r *reader) condition(n *yaml.Node) *condition {
	if n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" {
		r.wrong(n, "when must be a condition, such as work == \"etl\"; leave it out for a rule that always holds")
		return nil
	}
	c, err := r.set.patterns.compile(n.Value)
	if err != nil {
		r.wrongIn(n, err)
		return nil
	}
	switch c.constant {
	case "true":
		return nil
	case "false":
		r.wrong(n, "the condition never holds")
	}
	return c
}

// wrongIn says what is wrong with an expression, at its place in the file.
func (r *reader) wrongIn(n *yaml.Node, err error) {
	var e *file.Error
	if !errors.As(err, &e) || e.Line == 0 {
		r.wrong(n, "%s", err)
		return
	}
	line, column := n.Line, n.Column+e.Column
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		if line += e.Line; line <= len(r.source) {
			column = 1 + e.Column + len(r.source[line-1]) - len(strings.TrimLeft(r.source[line-1], " "))
		}
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		column++
	}
	r.wrongAt(line, column, "%s", e.Message)
}

func newPatterns() *patterns {
	return &patterns{tables: map[string]tablePattern{}, prefixes: map[string]netPrefix{}}
}

// stickTo compiles what a weighted set sticks to.
func (r *reader) stickTo(n *yaml.Node, s *sticky) {
	s.by = n.Value
	if n.Value == "session" || n.Value == "user" {
		return
	}
	program, err := expr.Compile(n.Value, options(expr.AsKind(stringKind))...)
	if err != nil {
		r.wrongIn(n, better(err))
		return
	}
	s.program = &condition{text: n.Value, program: program}
}

// always says that a rule matches everything at any time.
func (r *Rule) always() bool { return r.when == nil && r.window.text == "" }

// target reads where a rule's work goes.
func (r *reader) target(n *yaml.Node, rule *Rule) {
	t := &rule.target
	if n.Kind == yaml.ScalarNode {
		r.members(t, policy.First{}, n)
		t.text = n.Value
		return
	}
	var queue, named, stick *yaml.Node
	queues := map[string]*yaml.Node{}
	kinds := 0
	one := func(f func(*yaml.Node)) func(*yaml.Node) { return func(n *yaml.Node) { kinds++; f(n) } }
	r.each(n, "to", map[string]func(*yaml.Node){
		"cluster": one(func(n *yaml.Node) { r.members(t, policy.First{}, n); t.text = n.Value }),
		"chain": one(func(n *yaml.Node) {
			r.list(n, func(n *yaml.Node) { r.members(t, policy.First{}, n) })
			t.text = "chain " + flow(n)
		}),
		"pool":     one(func(n *yaml.Node) { r.list(n, func(n *yaml.Node) { r.members(t, nil, n) }); t.text = "pool " + flow(n) }),
		"weighted": one(func(n *yaml.Node) { r.weighted(t, n) }),
		"refuse":   one(func(n *yaml.Node) { t.refuse, t.text = n.Value, "refuse" }),
		"policy":   func(n *yaml.Node) { named = n },
		"queue":    func(n *yaml.Node) { queue = n },
		"queues": func(n *yaml.Node) {
			for i := 0; i+1 < len(n.Content); i += 2 {
				queues[n.Content[i].Value] = n.Content[i+1]
				if at := r.cluster(n.Content[i]); at >= 0 && !slices.ContainsFunc(t.members, func(m member) bool { return m.cluster == at }) {
					r.wrong(n.Content[i], "%s is none of the rule's clusters", n.Content[i].Value)
				}
			}
		},
		"sticky": func(n *yaml.Node) { stick = n; r.stickTo(n, &t.sticky) },
	})
	if kinds != 1 {
		r.wrong(n, "to must have one of cluster, chain, pool, weighted, refuse")
		return
	}
	r.poolPolicy(n, t, named)
	if _, weighted := t.policy.(policy.Weighted); stick != nil && !weighted {
		r.wrong(stick, "sticky belongs to weighted alone")
	}
	for i := range t.members {
		if q := queues[r.set.clusters[t.members[i].cluster]]; q != nil {
			t.members[i].queue = q.Value
		} else if queue != nil {
			t.members[i].queue = queue.Value
		}
	}
	t.text = flow(n)
}

func (r *reader) poolPolicy(n *yaml.Node, t *target, named *yaml.Node) {
	pool := t.refuse == "" && t.policy == nil
	switch {
	case t.refuse == "" && len(t.members) == 0 && r.fine(n):
		r.wrong(n, "to names no cluster")
	case !pool && named != nil:
		r.wrong(named, "policy belongs to pool alone")
	case pool && named == nil:
		t.policy = policy.MostFree{}
	case pool:
		t.policy = policy.All[named.Value]
		if t.policy == nil {
			r.wrong(named, "there is no policy %q%s; policies are %s", named.Value, nearest(named.Value, keysOf(policy.All)), strings.Join(keysOf(policy.All), ", "))
		}
	}
}

// fine says that nothing was found wrong in a node so far.
func (r *reader) fine(n *yaml.Node) bool {
	return !slices.ContainsFunc(r.errs, func(err error) bool { return strings.HasPrefix(err.Error(), fmt.Sprint(n.Line, ":")) })
}

func (r *reader) members(t *target, p router.Policy, n *yaml.Node) {
	t.policy = p
	if at := r.cluster(n); at >= 0 {
		if slices.ContainsFunc(t.members, func(m member) bool { return m.cluster == at }) {
			r.wrong(n, "%s is named twice", n.Value)
		}
		t.members = append(t.members, member{cluster: at})
	}
}

func (r *reader) weighted(t *target, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "weighted must be a mapping of clusters to their shares in percent: {yarn1: 90, k8s1: 10}")
		return
	}
	sum := 0
	for i := 0; i+1 < len(n.Content); i += 2 {
		r.members(t, policy.Weighted{}, n.Content[i])
		share, err := percent(n.Content[i+1].Value)
		if err != nil {
			r.wrong(n.Content[i+1], "%s", err)
		}
		if sum += share; len(t.members) > 0 {
			t.members[len(t.members)-1].share = share
		}
	}
	if sum != policy.Whole {
		r.wrong(n, "the shares sum up to %g %%, not to 100", float64(sum)/100)
	}
	t.sticky.by = "session"
}

// flow writes a node as one line.
func flow(n *yaml.Node) string {
	c := *n
	c.Style = yaml.FlowStyle
	out, err := yaml.Marshal(&c)
	if err != nil {
		return n.Value
	}
	return strings.Join(strings.Fields(string(out)), " ")
}
