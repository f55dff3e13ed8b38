package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/vm"

	"github.com/sluicedata/sluice/router"
)

// tablePattern says which tables are meant: catalog.database.table, where * stands for a whole part, or for anything in
// one.
type tablePattern struct {
	parts []string
	exact string // the one table or, with /* behind it, the one database that it means; empty if it is neither
}

// defaultCatalog is the one that a name of two parts is of.
const defaultCatalog = "spark_catalog"

func readPattern(text string) (tablePattern, error) {
	parts := strings.Split(strings.ToLower(text), ".")
	switch {
	case text == "" || strings.Contains(text, "..") || strings.HasPrefix(text, ".") || strings.HasSuffix(text, "."):
		return tablePattern{}, fmt.Errorf("%q is no name of tables: write table, database.table or catalog.database.table, with * for any", text)
	case len(parts) == 1:
		parts = []string{"*", "*", parts[0]}
	case len(parts) == 2:
		parts = append([]string{defaultCatalog}, parts...)
	}
	p := tablePattern{parts: parts}
	before := strings.Join(parts[:len(parts)-1], ".")
	switch last := parts[len(parts)-1]; {
	case len(parts) != 3 || strings.Contains(before, "*"):
	case last == "*":
		p.exact = before + "/*"
	case !strings.Contains(last, "*"):
		p.exact = before + "." + last
	}
	return p, nil
}

// match says whether a table is meant. A name with back quotes is compared as it is written.
func (p tablePattern) match(table string) bool {
	rest := table
	for i, part := range p.parts {
		name, after, more := cutName(rest)
		if !matchPart(part, name) || more != (i < len(p.parts)-1) {
			return false
		}
		rest = after
	}
	return true
}

// cutName takes the first part off a name, in which back quotes hide dots.
func cutName(s string) (first, rest string, more bool) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '`':
			quoted = !quoted
		case s[i] == '.' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func matchPart(pattern, name string) bool {
	before, after, some := strings.Cut(pattern, "*")
	if !some {
		return pattern == name
	}
	if !strings.HasPrefix(name, before) {
		return false
	}
	name = name[len(before):]
	for {
		middle, more, again := strings.Cut(after, "*")
		if !again {
			return strings.HasSuffix(name, middle)
		}
		i := strings.Index(name, middle)
		if i < 0 {
			return false
		}
		name, after = name[i+len(middle):], more
	}
}

func (p tablePattern) matchAny(lists ...[]string) bool {
	for _, list := range lists {
		for _, t := range list {
			if p.match(t) {
				return true
			}
		}
	}
	return false
}

// machine runs the programs of one decision. It is used again by later ones, because it costs more to make than to use.
type machine struct {
	*patterns
	env     facts
	vm      vm.VM
	request *router.Request
	hits    []row
	all     []router.Candidate
}

func (p *patterns) newMachine() *machine {
	m := &machine{patterns: p}
	m.env.Touches = func(t string) bool { return p.tables[t].matchAny(m.request.SQL.Reads, m.request.SQL.Writes) }
	m.env.Reads = func(t string) bool { return p.tables[t].matchAny(m.request.SQL.Reads) }
	m.env.Writes = func(t string) bool { return p.tables[t].matchAny(m.request.SQL.Writes) }
	m.env.From = func(r string) bool {
		return m.request.Address.IsValid() && p.prefixes[r].Contains(m.request.Address.Unmap())
	}
	return m
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// fill takes in the facts of a request, before the first program runs.
func (m *machine) fill(r *router.Request) {
	if m.request == r {
		return
	}
	m.request = r
	e := &m.env
	e.User, e.RealUser, e.Groups, e.Client, e.FrontEnd = r.User, r.RealUser, r.Groups, r.Client, r.FrontEnd
	e.Address = address(r)
	e.Work, e.Queue, e.Tags, e.Profile, e.Runtime, e.Cluster = r.Work, r.Queue, r.Tags, r.Profile, r.Runtime, r.Cluster
	e.Catalog, e.Database, e.Conf = r.Catalog, r.Database, r.Conf
	e.Hour, e.Weekday = r.At.Hour(), weekdays[r.At.Weekday()]
	e.SQL = statement{Kind: r.SQL.Kind, Reads: r.SQL.Reads, Writes: r.SQL.Writes, Tables: r.SQL.Reads, Unknown: !r.SQL.Complete}
	if len(r.SQL.Writes) > 0 {
		e.SQL.Tables = slices.Concat(r.SQL.Reads, r.SQL.Writes)
	}
}

// holds runs a condition's program.
func (m *machine) holds(r *router.Request, program *vm.Program) (bool, error) {
	m.fill(r)
	out, err := m.vm.Run(program, &m.env)
	yes, _ := out.(bool)
	return yes && err == nil, err
}

func address(r *router.Request) string {
	if !r.Address.IsValid() {
		return ""
	}
	return r.Address.String()
}
