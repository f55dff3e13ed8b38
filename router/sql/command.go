package sql

import "cmp"

// command reads the statements that are neither queries nor change rows.
func (r *reader) command(word string) {
	r.facts.Kind = word
	if word == "desc" {
		r.facts.Kind = "describe"
	}
	r.next()
	switch word {
	case "create", "replace":
		r.create(word)
	case "drop":
		r.drop()
	case "alter":
		r.alter()
	case "truncate":
		r.must("table")
		r.write()
		r.partition()
	case "load":
		r.load()
	case "explain":
		r.takeAny("logical", "formatted", "extended", "codegen", "cost")
		r.statement()
		r.facts.Kind = word
	case "show":
		r.show()
	case "describe", "desc":
		r.describe()
	case "cache", "uncache", "refresh":
		r.cache(word)
	case "analyze", "msck", "repair", "comment":
		r.maintain(word)
	case "use", "reset", "clear", "add", "list":
		r.rest()
	case "set":
		r.set()
	case "declare":
		r.declare()
	case "execute":
		r.fail("EXECUTE IMMEDIATE runs a text that is made when it runs")
	case "call":
		r.fail("CALL runs a procedure")
	case "grant", "revoke", "lock", "unlock", "export", "import", "start", "commit", "rollback", "dfs":
		r.fail("not a statement that Spark runs")
	default:
		r.pos = 0
		r.facts.Kind = Unknown
		r.unexpected()
	}
}

// must goes over a keyword that must be there.
func (r *reader) must(word string) {
	if !r.take(word) {
		r.unexpected()
	}
}

// rest skips what has no names of tables.
func (r *reader) rest() {
	for r.peek().kind != End && !r.symbol(";") {
		r.next()
	}
}

// namespace says whether a word that means a database is next, and goes over it.
func (r *reader) namespace() bool { return r.takeAny("database", "schema", "namespace") }

func (r *reader) load() {
	r.must("data")
	r.take("local")
	r.must("inpath")
	if r.next().kind != String {
		r.pos--
		r.unexpected()
	}
	r.take("overwrite")
	r.must("into")
	r.must("table")
	r.write()
	r.partition()
}

func (r *reader) show() {
	user := r.peek().word == "" || r.peek().word == "user" || r.peek().word == "system" || r.peek().word == "all"
	if user && r.ahead(1).word == "functions" { // SHOW USER FUNCTIONS
		r.next()
	}
	word := r.next().word
	switch word {
	case "tables", "views", "databases", "schemas", "namespaces", "functions", "catalogs", "current", "collations", "procedures":
		r.rest()
	case "table": // EXTENDED … LIKE
		r.must("extended")
		r.rest()
	case "partitions":
		r.read()
		r.partition()
	case "tblproperties":
		r.read()
		r.rest()
	case "create":
		r.must("table")
		r.read()
		r.rest()
	case "columns":
		r.showColumns()
	default:
		r.pos--
		r.unexpected()
	}
}

// showColumns reads FROM table [FROM database].
func (r *reader) showColumns() {
	if !r.takeAny("from", "in") {
		r.unexpected()
		return
	}
	table, known := r.name()
	if !known {
		return
	}
	if !r.takeAny("from", "in") {
		r.reads(table)
		return
	}
	if table.n > 1 {
		r.fail("a table with two databases")
		return
	}
	if n, known := r.name(); known {
		n.add(table.part(0))
		r.reads(n)
	}
}

func (r *reader) describe() {
	after := r.ahead(1)
	more := after.kind == Word || after.kind == Quoted || after.kind == String || after.kind == Symbol && !after.is(r.text, ".") && !after.is(r.text, ";")
	word := r.peek().word
	switch {
	case more && (word == "function" || word == "procedure" || word == "database" || word == "schema" || word == "namespace"):
		r.rest()
		return
	case more && word == "query":
		r.next()
		r.query()
		return
	case (word == "select" || word == "with") && r.nameOnly(1):
		r.unexpected() // a column of a table of this name
		return
	case r.symbol("(") || word == "select" || word == "with" || word == "values" && after.is(r.text, "("):
		r.query()
		return
	case more && word == "table":
		r.next()
		more = r.ahead(1).kind == Word || r.ahead(1).kind == Quoted
	}
	if more {
		r.takeAny("extended", "formatted")
	}
	r.read()
	r.partition()
	r.rest()
}

// nameOnly says whether nothing but a name stands from the nth token on.
func (r *reader) nameOnly(n int) bool {
	for ; ; n++ {
		switch t := r.ahead(n); {
		case t.kind == End || t.is(r.text, ";"):
			return true
		case t.kind != Word && t.kind != Quoted && !t.is(r.text, "."):
			return false
		case t.word == "from" && !r.ahead(n-1).is(r.text, ".") && !r.ahead(n+1).is(r.text, "."):
			return false
		}
	}
}

// cache reads CACHE TABLE, UNCACHE TABLE and REFRESH.
func (r *reader) cache(word string) {
	if word == "cache" {
		r.take("lazy")
	}
	if !r.take("table") {
		if word == "refresh" { // a path, a function
			r.rest()
			return
		}
		r.unexpected()
		return
	}
	if word == "uncache" {
		r.ifExists()
	}
	n, known := r.name()
	if r.take("options") {
		r.expect("(")
		r.skipTo()
	}
	if word == "cache" && (r.take("as") || r.queryAt(0) || r.symbol("(")) {
		if known {
			r.writes(n)
		}
		r.query()
		return
	}
	if known {
		r.reads(n)
	}
}

// maintain reads ANALYZE, MSCK REPAIR and COMMENT ON.
func (r *reader) maintain(word string) {
	switch {
	case word == "analyze" && r.take("tables"):
		n := name{}
		if r.takeAny("from", "in") {
			var known bool
			if n, known = r.name(); !known {
				return
			}
		}
		if n.n == 0 {
			n.add("`" + cmp.Or(r.database, "default") + "`")
		}
		r.writesDatabase(n)
	case word == "comment":
		r.must("on")
		if r.namespace() {
			if n, known := r.name(); known {
				r.writesDatabase(n)
			}
			break
		}
		if r.take("column") {
			r.fail("COMMENT ON COLUMN")
			return
		}
		r.must("table")
		r.write()
	default:
		if word == "msck" {
			r.must("repair")
		}
		r.must("table")
		if n, known := r.name(); known {
			r.writes(n)
			if word == "analyze" {
				r.reads(n)
			}
		}
	}
	r.rest()
}

// set reads SET. Settings touch nothing; variables may come from a query.
func (r *reader) set() {
	if r.ahead(1).is(r.text, "=") || !r.takeAny("var", "variable") {
		r.rest()
		return
	}
	r.expressions(list)
}

// declare reads DECLARE [OR REPLACE] [VARIABLE] name [type] [DEFAULT expression].
func (r *reader) declare() {
	for r.peek().kind != End && r.peek().word != "default" && !r.symbol("=") && !r.symbol(";") {
		r.next()
	}
	if r.take("default") {
		r.expressions(one)
	} else if r.symbol("=") {
		r.next()
		r.expressions(one)
	}
}
