package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/sql"
)

// facts are the names that a condition may use. The doc tags are what `sluice route names` prints.
type facts struct {
	User     string            `expr:"user" doc:"whose work it is"`
	RealUser string            `expr:"real_user" doc:"who acts for that user, or empty"`
	Groups   []string          `expr:"groups" doc:"of the user"`
	Client   string            `expr:"client" doc:"what the client says of itself: sluice.client, or over HTTP its User-Agent"`
	Address  string            `expr:"address" doc:"of the client, without its port"`
	FrontEnd string            `expr:"front_end" doc:"how the client came in, such as hs2 or hs2-http"`
	Work     string            `expr:"work" doc:"kind of work: interactive, etl or batch (sluice.work)"`
	Queue    string            `expr:"queue" doc:"that the client names: sluice.queue, spark.yarn.queue, mapreduce.job.queuename or tez.queue.name"`
	Tags     []string          `expr:"tags" doc:"of the session (sluice.tags, with commas between them)"`
	Profile  string            `expr:"profile" doc:"that the client names (sluice.profile)"`
	Runtime  string            `expr:"runtime" doc:"that the client names (sluice.runtime)"`
	Cluster  string            `expr:"cluster" doc:"that the client names (sluice.cluster)"`
	Catalog  string            `expr:"catalog" doc:"current catalogue"`
	Database string            `expr:"database" doc:"current database"`
	Conf     map[string]string `expr:"conf" doc:"settings of the session: conf[\"spark.app.name\"]; one that is not set is empty"`
	Hour     int               `expr:"hour" doc:"of the day, 0 to 23, in the file's zone"`
	Weekday  string            `expr:"weekday" doc:"mon, tue, wed, thu, fri, sat or sun"`
	SQL      statement         `expr:"sql" doc:"the statement: sql.kind, sql.reads, sql.writes, sql.tables (both), sql.unknown"`

	Touches func(string) bool `expr:"touches" doc:"touches(\"sales.*\"): the statement reads or writes such a table"`
	Reads   func(string) bool `expr:"reads" doc:"the same of what it reads"`
	Writes  func(string) bool `expr:"writes" doc:"the same of what it writes, makes, changes or drops"`
	From    func(string) bool `expr:"from" doc:"from(\"10.0.0.0/8\"): the client's address is in that range"`
}

type statement struct {
	Kind    string   `expr:"kind"`
	Reads   []string `expr:"reads"`
	Writes  []string `expr:"writes"`
	Tables  []string `expr:"tables"`
	Unknown bool     `expr:"unknown"`
}

// functions of expr that conditions may use: those that are pure and cheap.
var functions = []string{"len", "lower", "upper", "trim", "split", "int", "string", "any", "all", "none", "one", "count", "filter", "map", "first", "last"}

// condition is what a rule asks for.
type condition struct {
	text     string
	program  *vm.Program     // nil if the atoms say it all
	atoms    []atom          // parts of it that an index answers: all of them must hold
	rest     []string        // the other parts, in one form of writing
	other    map[string]atom // of those the ones that compare with constants, too
	parts    []string        // all parts, as they are written
	constant string          // "true" or "false" if it is nothing else
}

// atom is a comparison with constants: the fact, or one of a list of facts, is one of the values.
type atom struct {
	fact   string
	values []string
}

// patterns are the constants of a file that conditions match against, made ready once.
type patterns struct {
	tables   map[string]tablePattern
	prefixes map[string]netip.Prefix
}

var envType = facts{Conf: map[string]string{}}

func options(more ...expr.Option) []expr.Option {
	opt := []expr.Option{expr.Env(envType), expr.DisableAllBuiltins()}
	for _, f := range functions {
		opt = append(opt, expr.EnableBuiltin(f))
	}
	return append(opt, more...)
}

// compile checks a condition and makes it ready. Its errors are *file.Error where they have a place in the text.
func (p *patterns) compile(text string) (*condition, error) {
	if _, err := expr.Compile(text, options(expr.AsBool())...); err != nil {
		return nil, better(err)
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, err
	}
	c := &condition{text: text, other: map[string]atom{}}
	if b, ok := tree.Node.(*ast.BoolNode); ok {
		c.constant = fmt.Sprint(b.Value)
	}
	v := &inspector{patterns: p, source: text}
	ast.Walk(&tree.Node, v)
	if v.err != nil {
		return nil, v.err
	}
	for _, part := range conjuncts(tree.Node) {
		c.parts = append(c.parts, part.String())
		a, ok := p.atomOf(part)
		if ok && !c.asks(a.fact) {
			c.atoms = append(c.atoms, a)
			continue
		}
		c.rest = append(c.rest, part.String())
		if ok {
			c.other[part.String()] = a
		}
	}
	if len(c.rest) > 0 && c.constant == "" {
		c.program, err = whole(text)
	}
	return c, err
}

// whole compiles all of a condition so that it holds only if it is known to.
func whole(text string) (*vm.Program, error) {
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, err
	}
	return expr.Compile(guard(tree.Node, true).String(), options(expr.AsBool())...)
}

// asks says whether an atom of a fact is there already: an index answers one for each.
func (c *condition) asks(fact string) bool {
	return slices.ContainsFunc(c.atoms, func(a atom) bool { return a.fact == fact })
}

// better says unknown names with what was probably meant.
func better(err error) error {
	var e *file.Error
	if !errors.As(err, &e) {
		return err
	}
	if name, ok := strings.CutPrefix(e.Message, "unknown name "); ok {
		out := *e
		out.Message = "there is no " + name + nearest(name, names(reflect.TypeFor[facts]()))
		return &out
	}
	if name, ok := strings.CutPrefix(e.Message, "type rules.statement has no field "); ok {
		out := *e
		out.Message = "sql has no " + name + nearest(name, names(reflect.TypeFor[statement]()))
		return &out
	}
	return err
}

func names(t reflect.Type) (all []string) {
	for i := range t.NumField() {
		all = append(all, t.Field(i).Tag.Get("expr"))
	}
	return all
}

// Names says what conditions may use, a line each.
func Names() (lines []string) {
	t := reflect.TypeFor[facts]()
	for i := range t.NumField() {
		f := t.Field(i)
		lines = append(lines, fmt.Sprintf("%-10s %s", f.Tag.Get("expr"), f.Tag.Get("doc")))
	}
	return append(lines, "functions  "+strings.Join(functions, ", ")+"; operators and, or, not, ==, !=, <, >, in, matches, contains, startsWith, endsWith")
}

// inspector looks at every part of a condition: what it asks for, and constants that can never be.
type inspector struct {
	*patterns
	source string
	err    error
}

// Visit implements ast.Visitor.
func (v *inspector) Visit(n *ast.Node) {
	switch x := (*n).(type) {
	case *ast.CallNode:
		v.call(x)
	case *ast.BinaryNode:
		if a, ok := v.atomOf(*n); ok {
			v.possible(*n, a)
		}
	}
}

// call reads the constants of our own functions.
func (v *inspector) call(x *ast.CallNode) {
	id, ok := x.Callee.(*ast.IdentifierNode)
	if !ok || !slices.Contains([]string{"touches", "reads", "writes", "from"}, id.Value) {
		return
	}
	arg, ok := x.Arguments[0].(*ast.StringNode)
	if !ok {
		v.wrong(x.Arguments[0], id.Value+" takes a constant text")
		return
	}
	if id.Value == "from" {
		prefix, err := readPrefix(arg.Value)
		if err != nil {
			v.wrong(arg, err.Error())
		}
		v.prefixes[arg.Value] = prefix
		return
	}
	pattern, err := readPattern(arg.Value)
	if err != nil {
		v.wrong(arg, err.Error())
	}
	v.tables[arg.Value] = pattern
}

func readPrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, fmt.Errorf("%q is no address and no range like 10.0.0.0/8", text)
}

// possible refuses comparisons with what a fact can never be.
func (v *inspector) possible(n ast.Node, a atom) {
	allowed := map[string][]string{"work": router.Works, "weekday": weekdays}[a.fact]
	for _, value := range a.values {
		if allowed != nil && !slices.Contains(allowed, value) {
			v.wrong(n, fmt.Sprintf("%s is never %q: it is one of %s%s", a.fact, value, strings.Join(allowed, ", "), nearest(value, allowed)))
		}
		if a.fact == "sql.kind" && value != strings.ToLower(value) {
			v.wrong(n, fmt.Sprintf("sql.kind is in small letters: %q", strings.ToLower(value)))
		}
	}
}

func (v *inspector) wrong(n ast.Node, text string) {
	if v.err == nil {
		v.err = (&file.Error{Location: n.Location(), Message: text}).Bind(file.NewSource(v.source))
	}
}

// guard makes a condition that holds only if it does whatever the unknown turns out to be: a part that asks for what is not
// known counts as false, and behind a not as true. Only sql.unknown and sql.kind == "unknown" say what holds then. A table
// that is known to be touched is, even if there may be others.
func guard(n ast.Node, positive bool) ast.Node {
	switch x := n.(type) {
	case *ast.UnaryNode:
		if x.Operator == "not" || x.Operator == "!" {
			return &ast.UnaryNode{Operator: "not", Node: guard(x.Node, !positive)}
		}
	case *ast.BinaryNode:
		switch x.Operator {
		case "and", "&&", "or", "||":
			return &ast.BinaryNode{Operator: x.Operator, Left: guard(x.Left, positive), Right: guard(x.Right, positive)}
		}
	}
	sqlFact := func(name string) ast.Node {
		return &ast.MemberNode{Node: &ast.IdentifierNode{Value: "sql"}, Property: &ast.StringNode{Value: name}}
	}
	kind, touched := asks(n, positive)
	var known []ast.Node
	if kind {
		known = append(known, &ast.BinaryNode{Operator: "!=", Left: sqlFact("kind"), Right: &ast.StringNode{Value: sql.Unknown}})
	}
	if touched {
		known = append(known, &ast.UnaryNode{Operator: "not", Node: sqlFact("unknown")})
	}
	for _, k := range known {
		if positive {
			n = &ast.BinaryNode{Operator: "and", Left: k, Right: n}
		} else {
			n = &ast.BinaryNode{Operator: "or", Left: &ast.UnaryNode{Operator: "not", Node: k}, Right: n}
		}
	}
	return n
}

// asks says whether a part of a condition has no answer while the kind of statement, or what it touches, is not known.
func asks(n ast.Node, positive bool) (kind, touched bool) {
	a := &asked{}
	ast.Walk(&n, a)
	_, call := n.(*ast.CallNode)
	return a.kind && !a.unknown, a.lists || a.calls && (!call || !positive)
}

type asked struct{ kind, lists, calls, unknown bool }

// Visit implements ast.Visitor.
func (a *asked) Visit(n *ast.Node) {
	switch x := (*n).(type) {
	case *ast.MemberNode:
		if id, ok := x.Node.(*ast.IdentifierNode); ok && id.Value == "sql" {
			a.kind = a.kind || property(x) == "kind"
			a.lists = a.lists || slices.Contains([]string{"reads", "writes", "tables"}, property(x))
		}
	case *ast.CallNode:
		if id, ok := x.Callee.(*ast.IdentifierNode); ok {
			a.calls = a.calls || slices.Contains([]string{"touches", "reads", "writes"}, id.Value)
		}
	case *ast.StringNode:
		a.unknown = a.unknown || x.Value == sql.Unknown
	}
}

// conjuncts are the parts of a condition that must all hold.
func conjuncts(n ast.Node) []ast.Node {
	if b, ok := n.(*ast.BinaryNode); ok && (b.Operator == "and" || b.Operator == "&&") {
		return append(conjuncts(b.Left), conjuncts(b.Right)...)
	}
	return []ast.Node{n}
}

// atomOf reads a comparison that an index can answer.
func (p *patterns) atomOf(n ast.Node) (atom, bool) {
	if call, ok := n.(*ast.CallNode); ok {
		return p.touching(call)
	}
	b, ok := n.(*ast.BinaryNode)
	if !ok {
		return atom{}, false
	}
	switch b.Operator {
	case "or", "||":
		l, ok := p.atomOf(b.Left)
		r, also := p.atomOf(b.Right)
		return atom{l.fact, append(slices.Clone(l.values), r.values...)}, ok && also && l.fact == r.fact
	case "==":
		if fact, ok := factOf(b.Left); ok {
			return constants(fact, b.Right)
		}
		if fact, ok := factOf(b.Right); ok {
			return constants(fact, b.Left)
		}
	case "in":
		if fact, ok := factOf(b.Left); ok {
			if list, ok := b.Right.(*ast.ArrayNode); ok {
				return constants(fact, list.Nodes...)
			}
		}
		if list, ok := b.Right.(*ast.IdentifierNode); ok && (list.Value == "groups" || list.Value == "tags") {
			return constants(list.Value, b.Left)
		}
	}
	return atom{}, false
}

// touching is an atom for a pattern that is one table, or all of a database.
func (p *patterns) touching(call *ast.CallNode) (atom, bool) {
	id, ok := call.Callee.(*ast.IdentifierNode)
	if !ok || id.Value != "touches" || len(call.Arguments) != 1 {
		return atom{}, false
	}
	arg, ok := call.Arguments[0].(*ast.StringNode)
	if !ok {
		return atom{}, false
	}
	t, ok := p.tables[arg.Value]
	return atom{"touches", []string{t.exact}}, ok && t.exact != ""
}

func constants(fact string, nodes ...ast.Node) (atom, bool) {
	a := atom{fact: fact}
	for _, n := range nodes {
		s, ok := n.(*ast.StringNode)
		if !ok {
			return a, false
		}
		a.values = append(a.values, s.Value)
	}
	return a, len(a.values) > 0
}

// factOf is the name of a fact that is one text.
func factOf(n ast.Node) (string, bool) {
	switch x := n.(type) {
	case *ast.IdentifierNode:
		return x.Value, slices.Contains(texts, x.Value)
	case *ast.MemberNode:
		id, ok := x.Node.(*ast.IdentifierNode)
		if ok && id.Value == "sql" && property(x) == "kind" {
			return "sql.kind", true
		}
		if ok && id.Value == "conf" && property(x) != "" {
			return confFact + property(x), true
		}
	}
	return "", false
}

const confFact = "conf."

// texts are the facts that are one text.
var texts = func() (out []string) {
	t := reflect.TypeFor[facts]()
	for i := range t.NumField() {
		if t.Field(i).Type.Kind() == reflect.String {
			out = append(out, t.Field(i).Tag.Get("expr"))
		}
	}
	return out
}()

func property(m *ast.MemberNode) string {
	s, ok := m.Property.(*ast.StringNode)
	if !ok {
		return ""
	}
	return s.Value
}
