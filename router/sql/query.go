package sql

import "strings"

// query reads a query with its CTEs.
func (r *reader) query() {
	r.deeper()
	outer := r.scope
	r.ctes()
	r.primary()
	r.tail()
	r.scope = outer
	r.depth--
}

// ctes reads WITH and puts its names into the scope. A CTE sees those before it, and itself only if it is recursive:
// else its own name is the table of that name.
func (r *reader) ctes() {
	if !r.take("with") {
		return
	}
	if r.peek().word == "recursive" && r.ahead(1).word == "as" {
		r.unexpected() // a CTE of this name for Spark 3, one that is called AS for Spark 4
	}
	recursive := (r.ahead(1).kind == Word || r.ahead(1).kind == Quoted) && r.take("recursive")
	for {
		t := r.next()
		if t.kind != Word && t.kind != Quoted {
			r.pos = max(r.pos-1, 0)
			r.unexpected()
			return
		}
		inner := &scope{r.text[t.start:t.end], r.scope}
		if strings.Contains(inner.name, "${") {
			r.fail("${…} in a name")
			return
		}
		if r.symbol("(") && !r.queryAt(1) && !r.ahead(1).is(r.text, "(") { // names of columns
			r.next()
			r.skipTo()
		}
		if r.take("max", "recursion", "level") {
			r.next()
		}
		r.take("as")
		if recursive {
			r.scope = inner
		}
		r.expect("(")
		r.query()
		r.expect(")")
		r.scope = inner
		if !r.symbol(",") {
			return
		}
		r.next()
	}
}

// primary reads the head of a query: what its clauses and set operations go on from.
func (r *reader) primary() {
	switch {
	case r.take("select"):
		r.selectList()
	case r.peek().word == "from":
		r.from()
	case r.peek().word == "values":
		r.values()
		r.alias()
	case r.take("table"):
		r.read()
	case r.symbol("("):
		r.next()
		r.query()
		r.expect(")")
	case r.peek().word == "map" || r.peek().word == "reduce":
		r.fail("MAP and REDUCE run programs")
	default:
		r.unexpected()
	}
}

// values reads VALUES with its rows.
func (r *reader) values() {
	for {
		r.next()
		r.expressions(row)
		if !r.symbol(",") {
			return
		}
	}
}

// read reads the name of a table that is read.
func (r *reader) read() {
	if n, known := r.name(); known {
		r.reads(n)
	}
}

// write reads the name of a table that is written.
func (r *reader) write() {
	if n, known := r.name(); known {
		r.writes(n)
	}
}

func (r *reader) selectList() {
	for r.symbol("/*+") {
		for !r.symbol("*/") && r.peek().kind != End {
			r.next()
		}
		r.expect("*/")
	}
	if next := r.ahead(1); !next.is(r.text, ".") && !next.is(r.text, "(") || r.peek().word == "distinct" {
		r.takeAny("distinct", "all")
	}
	r.expressions(named)
	if r.peek().word == "from" {
		r.from()
	}
}

// tailAhead says whether what follows goes on with a query that stands in brackets.
func (r *reader) tailAhead() bool {
	switch r.peek().word {
	case "union", "intersect", "except", "minus", "limit", "offset":
		return true
	case "order", "sort", "cluster", "distribute":
		return r.ahead(1).word == "by"
	}
	return r.symbol("|>")
}

// tail reads the clauses of a query, its set operations and its pipes. In which order they may stand is Spark's to say.
func (r *reader) tail() {
	for r.clause() {
	}
}

// clause says whether a word begins a clause, or does so if BY follows.
func clause(word string) bool {
	switch word {
	case "from", "where", "having", "qualify", "group", "order", "sort", "cluster", "distribute", "limit", "offset", "window",
		"union", "intersect", "except", "minus", "lateral", "select":
		return true
	}
	return false
}

func (r *reader) clause() bool {
	if r.symbol("|>") {
		r.next()
		r.pipe()
		return true
	}
	word := r.peek().word
	if !clause(word) {
		return false
	}
	switch word {
	case "from": // it stands behind the list of SELECT, or in front
		r.unexpected()
		return false
	case "lateral":
		r.lateralView()
		return true
	case "select": // FROM t SELECT x
		r.primary()
		return true
	}
	r.next()
	switch word {
	case "where", "having", "qualify", "limit", "offset":
		r.expressions(one)
	case "group", "order", "sort", "cluster", "distribute":
		if !r.take("by") {
			r.unexpected()
		}
		r.expressions(list)
	case "window":
		r.expressions(named)
	default: // set operations
		r.takeAny("all", "distinct")
		r.primary()
	}
	return true
}

// pipe reads the operation behind |>.
func (r *reader) pipe() {
	switch {
	case r.take("as"):
		r.next()
	case r.take("select"):
		r.selectList()
	case r.take("aggregate"):
		if r.peek().word != "group" {
			r.expressions(named)
		}
		if r.take("group", "by") {
			r.expressions(named)
		}
	case r.takeAny("extend", "set"):
		r.expressions(named)
	case r.take("drop"):
		r.expressions(list)
	case clause(r.peek().word) && r.peek().word != "from":
		r.clause()
	default:
		before := r.pos
		r.relationTail()
		if r.pos == before {
			r.unexpected()
		}
	}
}

// from reads FROM with its relations.
func (r *reader) from() {
	r.next()
	r.relation()
	for r.symbol(",") {
		r.next()
		r.relation()
	}
}

// relation reads a table, a query or a function, and what is joined with it.
func (r *reader) relation() {
	r.take("lateral")
	r.relationPrimary()
	r.relationTail()
}

// relationTail reads joins, PIVOT, UNPIVOT and TABLESAMPLE.
func (r *reader) relationTail() {
	for {
		before := r.pos
		switch word := r.peek().word; word {
		case "lateral":
			if r.ahead(1).word == "view" {
				r.lateralView()
			}
		case "pivot", "unpivot", "tablesample":
			r.next()
			if r.takeAny("include", "exclude") {
				r.next()
			}
			if !r.symbol("(") {
				r.unexpected()
				return
			}
			r.bracketed()
			if word == "tablesample" && r.peek().kind == Word && strings.EqualFold(r.text[r.peek().start:r.peek().end], "repeatable") {
				r.next()
				r.bracketed()
			}
			r.alias()
		case "on":
			r.next()
			r.expressions(one)
		case "using":
			r.next()
			r.expect("(")
			r.skipTo()
		default:
			r.join()
		}
		if r.pos == before {
			return
		}
	}
}

// join reads the words of a join and its right side.
func (r *reader) join() {
	before := r.pos
	for r.takeAny("natural", "inner", "cross", "left", "right", "full", "outer", "semi", "anti", "asof") {
	}
	if r.take("join") {
		r.take("lateral")
		r.relationPrimary()
	} else if r.pos > before {
		r.unexpected()
	}
}

// lateralView reads LATERAL VIEW [OUTER] function(…) name [AS columns].
func (r *reader) lateralView() {
	if !r.take("lateral", "view") {
		r.unexpected()
		return
	}
	if r.peek().word == "outer" && !r.ahead(1).is(r.text, "(") {
		r.next()
	}
	n, known := r.name()
	if !known {
		return
	}
	r.function(n)
	if r.peek().word != "as" && (!r.alias() || r.tokens[r.pos-1].is(r.text, ")")) {
		r.unexpected()
	}
	r.columns()
}

// columns reads the names behind a lateral view: x AS a, b.
func (r *reader) columns() {
	if !r.take("as") && (r.peek().kind != Quoted && (r.peek().kind != Word || r.aliasEnds())) {
		return
	}
	for {
		if k := r.peek().kind; k != Word && k != Quoted {
			r.unexpected()
			return
		}
		r.next()
		if !r.symbol(",") {
			return
		}
		r.next()
	}
}
