package sql

import "strings"

// statement reads a statement by its first word. CTEs may stand in front of those that change rows.
func (r *reader) statement() {
	t := r.peek()
	switch t.word {
	case "with":
		outer := r.scope
		r.facts.Kind = "select"
		r.ctes()
		if !r.rows() {
			r.primary()
			r.queryEnd()
		}
		r.scope = outer
	case "select", "from", "values", "table", "map", "reduce":
		r.facts.Kind = "select"
		r.primary()
		r.queryEnd()
	default:
		switch {
		case t.is(r.text, "("):
			r.facts.Kind = "select"
			r.primary()
			r.queryEnd()
		case t.kind == End:
			r.fail("no statement")
		case r.script():
			r.facts.Kind = "script"
			r.fail("a script says what it does when it runs")
		case r.rows():
		default:
			r.command(t.word)
		}
	}
}

// queryEnd reads the rest of a query that is a statement, and the targets of FROM t INSERT INTO a SELECT … INSERT INTO b ….
func (r *reader) queryEnd() {
	r.tail()
	for r.take("insert") {
		r.facts.Kind = "insert"
		r.target()
		r.primary()
		r.tail()
	}
}

// script says whether BEGIN … END is next, with or without a label.
func (r *reader) script() bool {
	return r.peek().word == "begin" || r.ahead(1).is(r.text, ":") && r.ahead(2).word == "begin"
}

// rows reads the statements that change rows, and says whether there is one.
func (r *reader) rows() bool {
	word := r.peek().word
	switch word {
	case "insert", "update", "delete", "merge":
	default:
		return false
	}
	r.facts.Kind = word
	r.next()
	switch word {
	case "insert":
		r.target()
		r.query()
	case "update":
		r.write()
		r.alias()
		r.assignments()
		r.tail()
	case "delete":
		if !r.take("from") {
			r.unexpected()
			return true
		}
		r.write()
		r.alias()
		r.tail()
	case "merge":
		r.merge()
	}
	return true
}

// target reads what stands between INSERT and its query.
func (r *reader) target() {
	r.schemaEvolution()
	if !r.takeAny("into", "overwrite") {
		r.unexpected()
		return
	}
	if r.peek().word == "directory" || r.peek().word == "local" && r.ahead(1).word == "directory" {
		r.directory()
		return
	}
	partition := r.ahead(1).word == "partition" && r.ahead(2).is(r.text, "(") // of a table that is called TABLE
	if k := r.ahead(1).kind; k == Quoted || k == Word && !partition {
		r.take("table")
	}
	r.write()
	r.partition()
	r.ifNotExists()
	if r.peek().word == "as" || r.peek().kind == Quoted {
		r.alias()
	}
	switch {
	case r.take("by", "name"):
	case r.symbol("(") && !r.queryAt(1) && !r.ahead(1).is(r.text, "("):
		r.next()
		r.skipTo()
	case r.take("replace"):
		if r.take("using") {
			r.expect("(")
			r.skipTo()
			break
		}
		if !r.takeAny("where", "on") {
			r.unexpected()
		}
		r.expressions(one)
	}
}

func (r *reader) schemaEvolution() {
	if r.take("with", "schema") && !r.take("evolution") {
		r.unexpected()
	}
}

// directory reads [LOCAL] DIRECTORY 'path' and the format of what is written there.
func (r *reader) directory() {
	r.take("local")
	r.next()
	if t := r.peek(); t.kind == String {
		r.next()
		path := r.text[t.start:t.end]
		if strings.ContainsAny(path, "\\`$") || path[0] == 'r' || path[0] == 'R' {
			r.partly("a directory that only Spark can name")
		} else {
			r.facts.Writes = note(r.facts.Writes, "directory.`"+path[1:len(path)-1]+"`")
		}
	} else {
		r.partly("a directory that its options name")
	}
	r.tableClauses()
}

// partition skips PARTITION (…).
func (r *reader) partition() {
	if r.peek().word == "partition" && r.ahead(1).is(r.text, "(") {
		r.next()
		r.next()
		r.skipTo()
	}
}

// assignments reads SET a = 1, b = 2.
func (r *reader) assignments() {
	if !r.take("set") {
		r.unexpected()
		return
	}
	r.expressions(list)
}

func (r *reader) merge() {
	r.schemaEvolution()
	if !r.take("into") {
		r.unexpected()
		return
	}
	r.write()
	r.alias()
	if !r.take("using") {
		r.unexpected()
		return
	}
	r.relationPrimary()
	if !r.take("on") {
		r.unexpected()
		return
	}
	r.expressions(one)
	for r.take("when") {
		r.take("not")
		if !r.take("matched") {
			r.unexpected()
		}
		if r.take("by") && !r.takeAny("source", "target") {
			r.unexpected()
		}
		if r.take("and") {
			r.expressions(one)
		}
		if !r.take("then") {
			r.unexpected()
		}
		r.mergeAction()
	}
}

func (r *reader) mergeAction() {
	switch {
	case r.take("delete"):
	case r.take("update"):
		r.assignments()
	case r.take("insert"):
		if r.symbol("*") {
			r.next()
			return
		}
		if r.symbol("(") {
			r.next()
			r.skipTo()
		}
		if !r.take("values") || !r.symbol("(") {
			r.unexpected()
			return
		}
		r.bracketed()
	default:
		r.unexpected()
	}
}

// ifExists skips IF EXISTS.
func (r *reader) ifExists() { r.take("if", "exists") }

// ifNotExists skips IF NOT EXISTS.
func (r *reader) ifNotExists() {
	if r.peek().word == "if" && (r.ahead(1).word == "not" || r.ahead(1).is(r.text, "!")) && r.ahead(2).word == "exists" {
		r.pos += 3
	}
}
