package sql

import "strings"

// relationPrimary reads one table, query or function of a FROM clause, with its alias.
func (r *reader) relationPrimary() {
	after := r.ahead(1)
	switch t := r.peek(); {
	case t.is(r.text, "("):
		r.relationBrackets()
	case t.word == "values" && (after.kind == String || after.kind == Number || after.is(r.text, "(") && !r.ahead(2).is(r.text, ")")):
		r.values()
	case t.word == "unnest" && after.is(r.text, "("):
		r.next()
		r.bracketed()
		if r.take("with") && !r.take("ordinality") {
			r.unexpected()
		}
	case t.word == "stream" && (after.kind == Quoted || after.kind == Word || after.is(r.text, "(")):
		r.unexpected() // either a stream, or a table of this name with an alias
	default:
		n, known := r.name()
		if r.symbol("(") {
			r.function(n)
			break
		}
		if known {
			r.reads(n)
		}
		r.temporal()
	}
	if r.peek().word == "tablesample" {
		return // relationTail reads it, and the alias behind it
	}
	r.alias()
}

// relationBrackets reads a query or a relation in brackets. What `((` begins shows behind the inner ones.
func (r *reader) relationBrackets() (query bool) {
	r.next()
	r.deeper()
	switch {
	case r.queryAt(0):
		r.query()
		query = true
	case r.symbol("("):
		if r.relationBrackets() && r.tailAhead() {
			r.tail()
			query = true
			break
		}
		inner := r.pos
		r.alias()
		r.relationTail()
		query = r.pos == inner // ((query)) is a query again
	default:
		r.relation()
	}
	r.expect(")")
	r.depth--
	return query
}

// temporal skips VERSION AS OF, TIMESTAMP AS OF and table@v1.
func (r *reader) temporal() {
	if r.symbol("@") {
		r.next()
		t := r.next()
		if strings.EqualFold(r.text[t.start:t.end], "v") {
			r.next()
		}
		return
	}
	skip := 0
	if r.peek().word == "for" {
		skip = 1
	}
	switch r.ahead(skip).word {
	case "version", "timestamp", "system_version", "system_time":
		if r.ahead(skip+1).word == "as" && r.ahead(skip+2).word == "of" {
			r.pos += skip + 3
			r.timestamp()
		}
	case "changes":
		if r.aliasEndsAt(skip+1) || r.ahead(skip+1).kind == Word {
			r.unexpected() // CHANGES FROM VERSION 1, or an alias
		}
	}
}

// timestamp skips the value of a time travel. It is one value, or several with operators between them; the alias may
// follow at once.
func (r *reader) timestamp() {
	for {
		t := r.peek()
		switch {
		case t.is(r.text, "("):
			r.bracketed()
		case t.kind == Word && (r.ahead(1).kind == String || r.ahead(1).kind == Number): // TIMESTAMP '…', INTERVAL '…' HOUR
			r.next()
			r.next()
			if strings.EqualFold(r.text[t.start:t.end], "interval") {
				r.next()
			}
		case t.kind == Word || t.kind == String || t.kind == Number:
			r.next()
			if r.symbol("(") {
				r.bracketed()
			}
		default:
			r.unexpected()
			return
		}
		if !r.symbol("-") && !r.symbol("+") {
			return
		}
		r.next()
	}
}

// alias reads [AS] name [(columns)], if there is one.
func (r *reader) alias() bool {
	as := r.take("as")
	t := r.peek()
	if t.kind != Quoted && t.kind != Word {
		if as {
			r.unexpected()
		}
		return as
	}
	if !as && t.kind == Word && r.aliasEnds() {
		return false
	}
	r.aliasName()
	if r.symbol("(") {
		r.next()
		r.skipTo()
	}
	return true
}

// aliasName goes over a name that something is given. It may be the word of a clause if nothing follows that the clause
// could have.
func (r *reader) aliasName() {
	t, after := r.peek(), r.ahead(1)
	ends := after.kind == End || after.is(r.text, ",") || after.is(r.text, ")") ||
		after.word == "from" && !r.ahead(2).is(r.text, ".") || clause(after.word) && r.ahead(2).word == "by"
	if t.kind == Word && (bounds(t.word) || clause(t.word)) && !ends {
		r.unexpected()
		return
	}
	r.next()
}

func (r *reader) aliasEnds() bool { return r.aliasEndsAt(0) }

// aliasEndsAt says whether the nth word from here goes on with the statement, and is no alias without AS.
func (r *reader) aliasEndsAt(n int) bool {
	after := r.ahead(n + 1)
	switch word := r.ahead(n).word; word {
	case "where", "having", "qualify", "union", "except", "intersect", "minus", "limit", "offset", "on", "using", "join", "inner",
		"cross", "left", "right", "full", "natural", "semi", "anti", "lateral", "select", "insert", "set", "when", "with", "from",
		"map", "reduce", "values":
		return true
	case "group", "order", "cluster", "distribute", "sort", "bin":
		return after.word == "by"
	case "pivot", "tablesample":
		return after.is(r.text, "(")
	case "unpivot":
		return after.is(r.text, "(") || after.word == "include" || after.word == "exclude"
	case "window":
		return r.ahead(n+2).word == "as"
	case "asof":
		return after.word == "join" || after.word == "left" || after.word == "inner"
	}
	return false
}

// function reads the call of a function that stands for a table.
func (r *reader) function(n name) {
	if !r.symbol("(") {
		r.unexpected()
		return
	}
	if n.n > 0 && !harmless(n) {
		r.partly("what a function of tables touches: " + shorten(n.part(n.n-1)))
	}
	r.bracketed()
}

// harmless says that a function of tables is one of Spark's own that touch none but those in its arguments.
func harmless(n name) bool {
	word := strings.ToLower(unquoted(n.part(n.n - 1)))
	switch n.n {
	case 1:
	case 2:
		if !strings.EqualFold(n.part(0), "builtin") {
			return false
		}
	case 3:
		if !strings.EqualFold(n.part(0), "system") || !strings.EqualFold(n.part(1), "builtin") {
			return false
		}
	default:
		return false
	}
	switch word {
	case "range", "explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack", "json_tuple",
		"variant_explode", "variant_explode_outer", "collations", "sql_keywords", "json_table":
		return true
	}
	return false
}
