package sql

import (
	"cmp"
	"slices"
	"strings"
)

// name is a name as it is written: its parts are texts with their quotes.
type name struct {
	parts [6]string // of more than six the rest is in more
	more  []string
	n     int
}

func (n *name) add(part string) {
	if n.n < len(n.parts) {
		n.parts[n.n] = part
	} else {
		n.more = append(n.more, part)
	}
	n.n++
}

func (n *name) part(i int) string {
	if i < len(n.parts) {
		return n.parts[i]
	}
	return n.more[i-len(n.parts)]
}

// bounds are words that Spark lets be names without quotes and that are hardly meant so: where one stands in the place
// of a name, the statement is given up.
func bounds(word string) bool {
	switch word {
	case "select", "from", "where", "join", "inner", "cross", "left", "right", "full", "natural", "on", "using", "union",
		"except", "intersect", "minus", "lateral", "into", "as", "having", "when", "then", "and", "or", "not", "in", "exists",
		"set", "values", "with", "qualify", "offset", "semi", "anti", "overwrite", "if", "insert", "limit", "unnest":
		return true
	}
	return false
}

// name reads a name of one part or several. It returns false if it cannot be known, and says why.
func (r *reader) name() (n name, known bool) {
	t := r.peek()
	if t.word == "identifier" && r.ahead(1).is(r.text, "(") {
		return r.identifier()
	}
	after := r.ahead(1).word
	clause := after == "by" && clause(t.word) || t.word == "replace" && (after == "on" || after == "using" || after == "where")
	if t.kind != Word && t.kind != Quoted || bounds(t.word) || clause {
		r.unexpected()
		return n, false
	}
	for {
		t := r.next()
		if t.kind != Word && t.kind != Quoted {
			r.pos--
			r.unexpected()
			return n, false
		}
		part := r.text[t.start:t.end]
		switch {
		case t.word == "identifier" && r.symbol("("):
			r.fail("IDENTIFIER(…) as a part of a name")
			return n, false
		case t.kind == Quoted && strings.Contains(part, "${"):
			r.fail("${…} in a name")
			return n, false
		case t.kind == Quoted && len(part) == 2, t.kind == Word && strings.Contains(part, "://"):
			r.fail("a name that Spark refuses")
			return n, false
		}
		n.add(part)
		if !r.symbol(".") {
			return n, true
		}
		r.next()
	}
}

// identifier reads IDENTIFIER('a.b'). With anything but a plain text, the name is known only when the statement runs.
func (r *reader) identifier() (n name, known bool) {
	r.next()
	r.next()
	t := r.peek()
	if t.kind == String && r.ahead(1).is(r.text, ")") && !r.ahead(2).is(r.text, ".") {
		text := r.text[t.start:t.end]
		inner, plain := strings.CutPrefix(text, text[:1])
		inner = strings.TrimSuffix(inner, text[:1])
		if plain && !strings.ContainsAny(text[:1], "rR$") && !strings.ContainsAny(inner, `\'"$`) {
			r.next()
			r.next()
			return r.nameOf(inner)
		}
	}
	r.skipTo()
	r.partly("IDENTIFIER(…) of what is known when it runs")
	return n, false
}

// nameOf reads the text that IDENTIFIER holds: it is all of a name.
func (r *reader) nameOf(text string) (n name, known bool) {
	s := NewScanner(text)
	for {
		t := s.Next()
		if t.Kind != Word && t.Kind != Quoted || t.Kind == Quoted && t.End-t.Start == 2 {
			break
		}
		n.add(text[t.Start:t.End])
		if t = s.Next(); t.Kind == End {
			return n, true
		} else if text[t.Start:t.End] != "." {
			break
		}
	}
	r.fail("IDENTIFIER(…) of what is no name")
	return n, false
}

// skipTo goes behind the closing bracket of the one that the reader is in.
func (r *reader) skipTo() {
	for depth := 1; depth > 0; {
		t := r.next()
		switch {
		case t.kind == End:
			r.fail("it ends too early")
			return
		case t.is(r.text, "("):
			depth++
		case t.is(r.text, ")"):
			depth--
		}
	}
}

// reads notes a table that is read, unless it is a CTE.
func (r *reader) reads(n name) {
	if n.n == 1 && r.scope.has(n.part(0)) {
		return
	}
	r.facts.Reads = note(r.facts.Reads, r.qualified(n))
}

// writes notes a table that is written.
func (r *reader) writes(n name) { r.facts.Writes = note(r.facts.Writes, r.qualified(n)) }

// writesDatabase notes a database with all that is in it. A name of one part is a database of the current catalogue.
func (r *reader) writesDatabase(n name) {
	database := r.qualifiedFrom(n, 2)
	r.facts.Writes = note(r.facts.Writes, database+".*")
}

func note(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	if list == nil {
		list = make([]string, 0, 4)
	}
	return append(list, name)
}

// fileFormat returns the format that may stand in front of a path in the place of a table.
func fileFormat(part string) string {
	for _, f := range []string{"parquet", "orc", "csv", "json", "text", "avro", "xml", "delta", "iceberg", "hudi", "binaryfile"} {
		if strings.EqualFold(part, f) {
			return f
		}
	}
	return ""
}

// qualified is a name in the form of Facts.
func (r *reader) qualified(n name) string {
	if n.n == 2 && n.part(1)[0] == '`' {
		if f := fileFormat(n.part(0)); f != "" {
			return f + "." + n.part(1)
		}
	}
	return r.qualifiedFrom(n, 3)
}

// qualifiedFrom puts the current catalogue and database in front of a name that has not as many parts as a full one.
func (r *reader) qualifiedFrom(n name, full int) string {
	var room [96]byte // most names fit
	out := room[:0]
	if n.n < full {
		out = append(appendPart(out, cmp.Or(r.catalog, "spark_catalog")), '.')
	}
	if n.n < full-1 {
		out = append(appendPart(out, cmp.Or(r.database, "default")), '.')
	}
	for i := range n.n {
		if i > 0 {
			out = append(out, '.')
		}
		part := n.part(i)
		if part[0] == '`' {
			part = strings.ReplaceAll(part[1:len(part)-1], "``", "`")
		}
		out = appendPart(out, part)
	}
	return string(out)
}

// appendPart appends one part of a name in lower case, in back quotes if it needs them.
func appendPart(out []byte, part string) []byte {
	plain := part != ""
	for i := range len(part) {
		if c := part[i]; !isLetter(c) && !isDigit(c) {
			plain = false
			break
		}
	}
	if !plain {
		out = append(out, '`')
		out = append(out, strings.ReplaceAll(strings.ToLower(part), "`", "``")...)
		return append(out, '`')
	}
	for i := range len(part) {
		c := part[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		out = append(out, c)
	}
	return out
}

// scope holds the names of the CTEs that a query may use; inner ones come first.
type scope struct {
	name  string
	outer *scope
}

func (s *scope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if strings.EqualFold(unquoted(name), unquoted(s.name)) {
			return true
		}
	}
	return false
}

func unquoted(part string) string {
	if part != "" && part[0] == '`' {
		return strings.ReplaceAll(part[1:len(part)-1], "``", "`")
	}
	return part
}
