package sql

import "strings"

// create reads CREATE and REPLACE.
func (r *reader) create(word string) {
	if word == "create" {
		r.take("or", "replace")
	} else {
		r.facts.Kind = "create"
	}
	global := r.take("global")
	temporary := r.takeAny("temporary", "temp")
	r.take("external")
	switch {
	case r.take("table"):
		r.createTable()
	case r.take("view"):
		r.createView(global)
	case r.take("function"):
		r.rest()
	case r.namespace():
		r.ifNotExists()
		if n, known := r.name(); known {
			r.writesDatabase(n)
		}
		r.rest()
	case !temporary && r.take("index"):
		r.index()
	default:
		r.unexpected()
	}
}

// index reads name ON [TABLE] table, of CREATE INDEX and DROP INDEX.
func (r *reader) index() {
	r.ifNotExists()
	r.ifExists()
	r.next()
	r.must("on")
	if k := r.ahead(1).kind; k == Word && r.ahead(1).word != "using" || k == Quoted {
		r.take("table")
	}
	r.write()
	r.rest()
}

func (r *reader) createTable() {
	r.ifNotExists()
	r.write()
	if r.take("like") {
		r.read()
		r.tableClauses()
		return
	}
	if r.symbol("(") {
		if r.queryAt(1) || r.ahead(1).is(r.text, "(") {
			r.unexpected() // a query, or a column of such a name
		}
		r.tableColumns()
	}
	r.tableClauses()
	if r.take("as") || r.queryAt(0) || r.symbol("(") {
		r.facts.Kind = "ctas"
		r.query()
	}
}

// tableColumns skips the columns of a new table.
func (r *reader) tableColumns() {
	start := r.pos
	r.expect("(")
	r.skipTo()
	r.constraints(r.tokens[start:r.pos])
}

// constraints looks for what may name other tables among what is skipped.
func (r *reader) constraints(skipped []token) {
	for _, t := range skipped {
		switch t.word {
		case "references":
			r.partly("a foreign key")
		case "select":
			r.partly("a query in a constraint or a default")
		}
	}
}

// tableClauses skips what may stand between the columns of a new table and its query.
func (r *reader) tableClauses() {
	for {
		before := r.pos
		switch {
		case r.take("using"):
			if _, known := r.name(); !known {
				return
			}
		case r.takeAny("options", "tblproperties"), r.take("partitioned", "by"), r.take("partitioned", "on"), r.take("cluster", "by"):
			r.expect("(")
			r.skipTo()
		case r.take("clustered", "by"), r.take("skewed", "by"):
			r.skipLists()
		case r.take("stored"):
			r.stored()
		case r.take("row"):
			r.rowFormat()
		case r.takeAny("location", "comment"), r.take("default", "collation"):
			r.next()
		}
		if r.pos == before {
			return
		}
	}
}

// skipLists skips the lists and words of CLUSTERED BY (…) SORTED BY (…) INTO 4 BUCKETS and SKEWED BY (…) ON (…).
func (r *reader) skipLists() {
	for {
		t := r.peek()
		switch {
		case t.is(r.text, "("):
			r.next()
			r.skipTo()
		case t.word == "by" || t.word == "into" || t.word == "on" || t.kind == Number:
			r.next()
		case t.kind == Word && t.word == "" && r.isWord("sorted", "buckets"):
			r.next()
		default:
			return
		}
	}
}

// stored skips what follows STORED.
func (r *reader) stored() {
	if r.take("by") {
		r.next()
		r.serdeProperties()
		return
	}
	r.must("as")
	if !r.isWord("inputformat") {
		r.next()
		return
	}
	r.next()
	r.next()
	if !r.isWord("outputformat") {
		r.unexpected()
		return
	}
	r.next()
	r.next()
}

func (r *reader) serdeProperties() {
	if r.take("with", "serdeproperties") {
		r.expect("(")
		r.skipTo()
	}
}

// rowFormat skips what follows ROW: words and texts, none of which begins another clause.
func (r *reader) rowFormat() {
	if !r.isWord("format") {
		r.unexpected()
		return
	}
	r.next()
	if r.isWord("serde") {
		r.next()
		r.next()
		r.serdeProperties()
		return
	}
	for r.isWord("delimited", "fields", "terminated", "by", "escaped", "collection", "items", "map", "keys", "lines", "null", "defined") ||
		r.peek().kind == String || r.peek().word == "as" && r.ahead(1).kind == String {
		r.next()
	}
}

// isWord says whether the next token is one of the words, which need not be keywords here.
func (r *reader) isWord(words ...string) bool {
	t := r.peek()
	if t.kind != Word {
		return false
	}
	for _, w := range words {
		if len(w) == int(t.end-t.start) && strings.EqualFold(r.text[t.start:t.end], w) {
			return true
		}
	}
	return false
}

func (r *reader) createView(global bool) {
	r.ifNotExists()
	n, known := r.name()
	if known && global && n.n == 1 {
		var whole name
		whole.add("global_temp")
		whole.add(n.part(0))
		n = whole
	}
	if known {
		r.writes(n)
	}
	if r.symbol("(") {
		r.next()
		r.skipTo()
	}
	r.tableClauses()
	for r.take("with", "schema") { // BINDING, EVOLUTION, TYPE EVOLUTION
		r.next()
		r.take("evolution")
		r.tableClauses()
	}
	if r.take("as") {
		r.query()
	}
}

func (r *reader) drop() {
	temporary := r.takeAny("temporary", "temp")
	switch {
	case r.take("function") || temporary && r.takeAny("variable", "var"):
		r.rest()
	case r.takeAny("table", "view"):
		r.ifExists()
		r.write()
		r.take("purge")
	case r.namespace():
		r.ifExists()
		if n, known := r.name(); known {
			r.writesDatabase(n)
		}
		r.rest()
	case r.take("index"):
		r.index()
	default:
		r.unexpected()
	}
}

func (r *reader) alter() {
	if r.namespace() {
		if n, known := r.name(); known {
			r.writesDatabase(n)
		}
		r.rest()
		return
	}
	view := r.take("view")
	if !view && !r.take("table") {
		r.unexpected()
		return
	}
	n, known := r.name()
	if known {
		r.writes(n)
	}
	switch {
	case r.take("rename", "to"):
		r.renameTo(n)
	case view && (r.take("as") || r.queryAt(0) && r.ahead(1).word != "schema" || r.symbol("(")):
		r.query()
	case r.take("exchange"):
		r.unexpected()
	default:
		start := r.pos
		r.rest()
		r.constraints(r.tokens[start:r.pos])
	}
}

// renameTo reads the new name. A table stays in its database, unless the new name says another.
func (r *reader) renameTo(old name) {
	n, known := r.name()
	if !known || old.n == 0 {
		return
	}
	if n.n == 1 && old.n > 1 {
		var whole name
		for i := range old.n - 1 {
			whole.add(old.part(i))
		}
		whole.add(n.part(0))
		n = whole
	}
	r.writes(n)
}
