package session

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// A journal is what a session has made on its engine that lives and dies with the engine: temporary views and functions,
// variables and their values, added jars and files. It is replayed, in order, when the session gets a new engine. Settings and the current database
// are not in it: every new engine is given them anyway.
type journal []entry

// entry is a statement that succeeded, with where it was said: names inside it were looked up there.
type entry struct {
	Thing             string // what it made, such as "view v"; made again it replaces the entry
	Catalog, Database string
	Text              string
}

var (
	definition = regexp.MustCompile("(?is)^CREATE\\s+(?:OR\\s+REPLACE\\s+)?(?:GLOBAL\\s+)?TEMP(?:ORARY)?\\s+(VIEW|FUNCTION)\\s+(?:IF\\s+NOT\\s+EXISTS\\s+)?(`[^`]+`|[\\w.]+)")
	removal    = regexp.MustCompile("(?is)^DROP\\s+(?:TEMPORARY\\s+)?(VIEW|FUNCTION)\\s+(?:IF\\s+EXISTS\\s+)?(`[^`]+`|[\\w.]+)\\s*$")
	variable   = regexp.MustCompile("(?is)^DECLARE\\s+(?:OR\\s+REPLACE\\s+)?(?:(VAR)(?:IABLE)?\\s+)?(`[^`]+`|[\\w.]+)")
	assignment = regexp.MustCompile("(?is)^SET\\s+(VAR)(?:IABLE)?\\s+(`[^`]+`|[\\w.]+)\\s*=")
	undeclared = regexp.MustCompile("(?is)^DROP\\s+TEMPORARY\\s+(VAR)(?:IABLE)?\\s+(?:IF\\s+EXISTS\\s+)?(`[^`]+`|[\\w.]+)\\s*$")
	addition   = regexp.MustCompile(`(?is)^ADD\s+(JARS?|FILES?|ARCHIVES?)\s+(.+)$`)
)

func thing(m []string) string {
	return strings.ToLower(m[1] + " " + strings.ReplaceAll(m[2], "`", ""))
}

// after returns the journal as it is once the statement has succeeded; it does not change the one it is given.
func (j journal) after(text, catalog, database string) (journal, bool) {
	head := skipBlank(text)
	without := func(names ...string) journal {
		return slices.DeleteFunc(slices.Clone(j), func(e entry) bool { return slices.Contains(names, e.Thing) })
	}
	made := func(name string) (journal, bool) {
		return append(without(name), entry{name, catalog, database, text}), true
	}
	if m := removal.FindStringSubmatch(head); m != nil {
		rest := without(thing(m))
		return rest, len(rest) != len(j)
	}
	if m := undeclared.FindStringSubmatch(head); m != nil {
		rest := without("variable "+name(m), "value of "+name(m))
		return rest, len(rest) != len(j)
	}
	if m := variable.FindStringSubmatch(head); m != nil { // declared anew, it has its first value again
		rest := without("variable "+name(m), "value of "+name(m))
		return append(rest, entry{"variable " + name(m), catalog, database, text}), true
	}
	if m := assignment.FindStringSubmatch(head); m != nil {
		return made("value of " + name(m))
	}
	for _, re := range []*regexp.Regexp{definition, addition} {
		if m := re.FindStringSubmatch(head); m != nil {
			return made(thing(m))
		}
	}
	return j, false
}

func name(m []string) string { return strings.ToLower(strings.ReplaceAll(m[2], "`", "")) }

// replay makes everything again on a new engine, whose current database is the session's, and leaves it there. What
// cannot be made again is named in the report and left out: the session is still of use without it.
func (j journal) replay(ctx context.Context, remote engines.Session, catalog, database string, report func(string)) error {
	c := &Catalog{remote}
	at := [2]string{catalog, database}
	move := func(to [2]string) error {
		if at == to {
			return nil
		}
		if to[0] != at[0] {
			if err := c.do(ctx, "SET CATALOG '"+unquote(cmp.Or(to[0], OwnCatalog))+"'"); err != nil {
				return err
			}
		}
		err := c.do(ctx, "USE "+cmp.Or(to[1], "default"))
		at = to
		return err
	}
	for _, e := range j {
		err := move([2]string{e.Catalog, e.Database})
		if err == nil {
			err = c.do(ctx, e.Text)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			headline, _, _ := strings.Cut(err.Error(), "\n")
			report(fmt.Sprintf("Could not be made again on the new engine: %s: %s", e.Thing, headline))
			continue
		}
		report("Made again on the new engine: " + e.Thing)
	}
	return move([2]string{catalog, database})
}
