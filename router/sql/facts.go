// Package sql tells from the text of a Spark SQL statement what it does and which tables it touches. It reads the text
// alone: no catalogue, no clock. What it does not understand it calls unknown: a wrong list would be worse than none.
//
// What the text cannot tell, and what is taken for granted instead:
//   - Whether `a` in `a.b` is a catalogue. It is taken for a database of the current catalogue.
//   - Whether a name of one part is a temporary view. It is named as a table of the current database would be.
//   - What a view, or a function written in SQL, reads itself. Only its own name is known, and of a scalar function nothing.
//   - Whether somebody has put a function of his own in the place of a built-in one.
//   - Settings that change the grammar, such as spark.sql.ansi.doubleQuotedIdentifiers. They are taken to be Spark's own.
package sql

import (
	"strings"
	"sync"
)

// Unknown is the kind of what is no statement of Spark's.
const Unknown = "unknown"

// Facts are what a statement is and touches, as far as its text tells.
//
// Names are in the form catalog.database.table, in lower case, since Spark does not tell cases apart. A part with other
// characters than a-z, 0-9 and _ stands in back quotes, so points outside of quotes are between parts. A file is
// parquet.`/path`, the path in its own case; a directory that is written, directory.`/path`; a database that is made,
// changed or dropped, catalog.database.*; a global temporary view is in the database global_temp.
type Facts struct {
	// Kind is "select" for all queries, "ctas" for CREATE TABLE … AS, "script" for BEGIN … END, and else the first keyword
	// in lower case (a CTE aside): "insert", "create", "explain".
	Kind     string
	Reads    []string // tables and views that it reads
	Writes   []string // tables that it writes, makes, changes or drops; the target of UPDATE, DELETE and MERGE is here alone
	Complete bool     // Reads and Writes are all that it touches; if not, they hold at most what is sure
	Why      string   // what could not be told, if not Complete
}

// Read reads one statement. The current catalogue and database stand for what its names leave out; if they are empty they
// are spark_catalog and default.
func Read(statement, catalog, database string) Facts {
	room := tokens.Get().(*[]token)
	defer func() {
		if cap(*room) <= mostKept {
			tokens.Put(room)
		}
	}()
	r := reader{text: statement, tokens: (*room)[:0], catalog: catalog, database: database}
	r.facts.Kind = Unknown
	r.facts.Complete = true
	if len(statement) > longestStatement {
		return Facts{Kind: Unknown, Why: "it is too long to be read"}
	}
	broken := r.scan()
	*room = r.tokens
	r.statement()
	r.end()
	if broken != "" {
		r.fail(broken)
		r.facts.Why = broken
	}
	return r.facts
}

// tokens keeps the room for the tokens of statements that were read, unless they were many.
var tokens = sync.Pool{New: func() any { room := make([]token, 0, 64); return &room }}

const mostKept = 4096

// longestStatement is what is read at most: nobody writes more by hand, and who generates it waits for Spark anyhow.
const longestStatement = 64 << 20

// token is a Token with its keyword, if it is one.
type token struct {
	kind       Kind
	word       string // of a Word that is a keyword: in lower case
	start, end int32
}

func (t token) is(text, symbol string) bool {
	return t.kind == Symbol && text[t.start:t.end] == symbol
}

// reader walks through the tokens of a statement. After a failure it stands at the end, so that all that is under way
// comes to its end.
type reader struct {
	text              string
	tokens            []token // the last is End
	pos               int
	catalog, database string
	facts             Facts
	scope             *scope
	depth             int
}

// deepest is how deep queries and brackets may nest. Spark itself comes to its end long before.
const deepest = 500

// scan cuts the text, and says what is wrong with it.
func (r *reader) scan() (broken string) {
	s := NewScanner(r.text)
	for {
		t := s.Next()
		if t.Kind == Broken {
			broken = reason(r.text[t.Start:t.End])
			t.Kind = End
		}
		out := token{kind: t.Kind, start: int32(t.Start), end: int32(t.End)}
		if t.Kind == Word {
			out.word = keyword(r.text[t.Start:t.End])
		}
		r.tokens = append(r.tokens, out)
		if t.Kind == End {
			return broken
		}
	}
}

// reason says why a text cannot be cut into tokens.
func reason(rest string) string {
	switch {
	case strings.HasPrefix(rest, "${"):
		return "${…} stands for a text that is put in when it runs"
	case strings.HasPrefix(rest, "/*"):
		return "an unfinished comment"
	case rest != "" && strings.IndexByte("'\"`rR$", rest[0]) >= 0:
		return "an unfinished quote"
	}
	return "a character that no statement has"
}

// end makes sure that one statement was all.
func (r *reader) end() {
	several := r.symbol(";")
	for r.symbol(";") {
		r.next()
	}
	if r.peek().kind == End {
		return
	}
	if several {
		r.fail("several statements")
		return
	}
	r.unexpected()
}

func (r *reader) peek() token { return r.tokens[r.pos] }

// ahead returns the nth token behind the next one.
func (r *reader) ahead(n int) token { return r.tokens[min(r.pos+n, len(r.tokens)-1)] }

func (r *reader) next() token {
	t := r.tokens[r.pos]
	if t.kind != End {
		r.pos++
	}
	return t
}

// symbol says whether the next token is that symbol.
func (r *reader) symbol(s string) bool { return r.peek().is(r.text, s) }

// take goes over the keywords if all of them are next.
func (r *reader) take(words ...string) bool {
	for i, w := range words {
		if r.ahead(i).word != w {
			return false
		}
	}
	r.pos += len(words)
	return true
}

// takeAny goes over the next token if it is one of the keywords.
func (r *reader) takeAny(words ...string) bool {
	word := r.peek().word
	for _, w := range words {
		if word == w {
			r.pos++
			return true
		}
	}
	return false
}

// expect goes over a symbol that must be there.
func (r *reader) expect(s string) {
	if !r.symbol(s) {
		r.unexpected()
		return
	}
	r.next()
}

// fail gives up: nothing of what was found so far is sure.
func (r *reader) fail(why string) {
	r.facts.Reads, r.facts.Writes = nil, nil
	r.partly(why)
	r.pos = len(r.tokens) - 1
}

// partly says that what is found is right, but not all.
func (r *reader) partly(why string) {
	if r.facts.Complete {
		r.facts.Complete, r.facts.Why = false, why
	}
}

// unexpected fails at the next token.
func (r *reader) unexpected() {
	t := r.peek()
	if t.kind == End {
		r.fail("it ends too early")
		return
	}
	r.fail("not understood: " + shorten(r.text[t.start:t.end]))
}

func shorten(s string) string {
	const enough = 40
	if len(s) <= enough {
		return s
	}
	return strings.ToValidUTF8(s[:enough], "") + "…"
}

// deeper counts how deep the reader is inside brackets, and gives up where it is too deep.
func (r *reader) deeper() {
	if r.depth++; r.depth > deepest {
		r.fail("it is nested too deeply")
	}
}
