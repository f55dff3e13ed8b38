//go:build e2e

package corpus

import (
	"regexp"
	"slices"
	"strings"
)

// node is one of a logical plan as Spark prints it. Queries inside expressions are inner nodes; those of a CTE too.
type node struct {
	text            string
	depth           int
	inner, children []*node
}

var (
	branch   = regexp.MustCompile(`^((?::  |   )*(?::- |\+- ))?(.*)$`)
	relation = regexp.MustCompile(`Unresolved(Relation|Table|TableOrView|View|Identifier) \[([^\]]*)\](, \[[^\]]*__required_write_privileges__)?`)
	ctes     = regexp.MustCompile(`^'?CTE \[(.*)\]$`)
	// Names that commands print otherwise, and names that are none of tables.
	plainName = regexp.MustCompile("^'?(?:CreateViewCommand `([^`]*)`|CacheTableAsSelect ([^,]*),|CreateTempViewUsing \\[tableIdent:`([^`]*)`|RenameTable \\[([^\\]]*)\\])")
	noTable   = regexp.MustCompile(`^'?(CreateVariable|DropVariable|SetVariable|CreateFunction|DropFunction|CreateUserDefinedFunction|RefreshFunction|DescribeFunction)\b`)
)

// Databases, and the commands that change them.
var (
	namespace   = regexp.MustCompile(`(?:UnresolvedNamespace \[([^\]]*)\]|CurrentNamespace)`)
	ofNamespace = regexp.MustCompile(`^'?(CreateNamespace|DropNamespace|SetNamespace\w*|UnsetNamespace\w*|CommentOnNamespace|AnalyzeTables)\b`)
)

// database is the form of a whole database.
func database(name string) string {
	parts := []string{"spark_catalog"}
	switch {
	case name == "":
		parts = append(parts, "default")
	case strings.Contains(name, ", "):
		parts = strings.Split(name, ", ")
	default:
		parts = append(parts, name)
	}
	return strings.ToLower(strings.Join(append(parts, "*"), "|"))
}

// readPlan makes a tree of a plan's lines. An inner node is printed two steps deeper than its parent, a child one.
func readPlan(plan string) *node {
	var path []*node
	for _, line := range strings.Split(strings.TrimSpace(plan), "\n") {
		m := branch.FindStringSubmatch(line)
		n := &node{text: m[2], depth: len(m[1]) / 3}
		if len(path) == 0 {
			path = append(path, n)
			continue
		}
		if n.depth == 0 { // a text with several lines
			continue
		}
		for path[len(path)-1].depth >= n.depth {
			path = path[:len(path)-1]
		}
		parent := path[len(path)-1]
		if n.depth == parent.depth+2 {
			parent.inner = append(parent.inner, n)
		} else {
			parent.children = append(parent.children, n)
		}
		path = append(path, n)
	}
	return path[0]
}

// touched are the names that a plan has, as a set, without those of its CTEs; written are those that it must be allowed
// to write.
type touched struct{ all, written []string }

func (t *touched) walk(n *node, scope []string, recursive bool) {
	if m := ctes.FindStringSubmatch(n.text); m != nil {
		names := strings.Split(m[1], ", ")
		for i, inner := range n.inner {
			seen := names[:i]
			if recursive {
				seen = names[:i+1]
			}
			t.walk(inner, slices.Concat(scope, seen), recursive)
		}
		scope = slices.Concat(scope, names)
	} else {
		t.own(n, scope)
		for _, inner := range n.inner {
			t.walk(inner, scope, recursive)
		}
	}
	for _, child := range n.children {
		if m := namespace.FindStringSubmatch(child.text); m != nil && ofNamespace.MatchString(n.text) {
			t.all = append(t.all, database(m[1]))
			continue
		}
		if noTable.MatchString(n.text) && strings.HasPrefix(child.text, "'UnresolvedIdentifier") {
			continue
		}
		t.walk(child, scope, recursive)
	}
}

// own notes what the line of a node names itself.
func (t *touched) own(n *node, scope []string) {
	for _, m := range relation.FindAllStringSubmatch(n.text, -1) {
		parts := strings.Split(m[2], ", ")
		isCTE := len(parts) == 1 && slices.ContainsFunc(scope, func(s string) bool { return strings.EqualFold(s, parts[0]) })
		if m[1] == "Relation" && m[3] == "" && isCTE {
			continue
		}
		t.all = append(t.all, whole(parts))
		if m[3] != "" {
			t.written = append(t.written, whole(parts))
		}
	}
	if m := plainName.FindStringSubmatch(n.text); m != nil {
		parts := strings.Split(strings.Join(m[1:], ""), ", ")
		if strings.Contains(n.text, "GlobalTempView") {
			parts = append([]string{"global_temp"}, parts...)
		}
		if m[4] != "" && len(parts) == 1 { // a new name is in the database of the old one
			if old := relation.FindStringSubmatch(n.children[0].text); old != nil {
				all := strings.Split(old[2], ", ")
				parts = append(all[:len(all)-1], parts...)
			}
		}
		t.all = append(t.all, whole(parts))
	}
}

// whole puts the current catalogue and database in front of the parts of a name, and makes one text of them.
func whole(parts []string) string {
	current := []string{"spark_catalog", "default"}
	file := len(parts) == 2 && files.MatchString(parts[0]) && strings.Contains(parts[1], "/")
	if len(parts) < 3 && !file {
		parts = slices.Concat(current[:3-len(parts)], parts)
	}
	return strings.ToLower(strings.Join(parts, "|"))
}

// recursive says whether the CTEs of a statement may name themselves, which a plan does not tell.
var recursive = regexp.MustCompile("(?i)\\bWITH\\s+RECURSIVE\\s+[\\w`]")

var files = regexp.MustCompile(`(?i)^(parquet|csv|json)$`)

var partOfName = regexp.MustCompile("`((?:[^`]|``)*)`|[^.`]+")

// partsOf takes a name of ours apart in the same form.
func partsOf(name string) string {
	var parts []string
	for _, m := range partOfName.FindAllStringSubmatch(name, -1) {
		if m[1] != "" {
			m[0] = strings.ReplaceAll(m[1], "``", "`")
		}
		parts = append(parts, m[0])
	}
	return strings.ToLower(strings.Join(parts, "|"))
}
