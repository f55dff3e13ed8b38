package sql

// extent says where expressions end, besides brackets and semicolons.
type extent uint8

const (
	one    extent = iota // one expression: at a comma, and at the word of the next clause or join
	list                 // several of them with commas
	named                // several with names, as SELECT has them: words of joins are names there
	row                  // one of VALUES: the name of the table may stand behind the last one
	inside               // all that is in brackets
)

// expressions skips expressions and reads the queries in them. It follows whether a value or an operator must come next:
// that alone tells the word of a clause from a name that looks like one.
func (r *reader) expressions(e extent) {
	x := expression{reader: r, extent: e, value: true}
	for x.step() {
	}
}

type expression struct {
	*reader
	extent
	value    bool // a value must come next, and no operator
	cases    int  // how many CASE are open
	interval bool // the last value may have a unit behind it
}

// step goes over the next token or several, and returns false at the end.
func (x *expression) step() bool {
	t := x.peek()
	switch t.kind {
	case End:
		return x.done()
	case Symbol:
		return x.symbolStep(t)
	case Word:
		return x.wordStep(t)
	default:
		x.next()
		x.value = false
		return true
	}
}

// done ends the expressions, unless a value is missing.
func (x *expression) done() bool {
	if x.value && x.extent != inside {
		x.unexpected()
	}
	return false
}

func (x *expression) symbolStep(t token) bool {
	switch s := x.text[t.start:t.end]; s {
	case "(":
		x.bracketed()
		x.value = false
	case ")", ";", "|>":
		return x.done()
	case ",":
		if x.extent == one || x.extent == row || x.value && x.extent != inside {
			return x.done()
		}
		x.next()
		x.value = true
	case ".", ":": // a field, a parameter, a path into a variant: whatever word follows is no keyword
		x.next()
		if k := x.peek().kind; k == Word || k == Quoted || x.symbol("*") {
			x.next()
		}
		x.value = false
		x.exceptColumns()
	case "*":
		x.next()
		if x.value = !x.value; !x.value {
			x.exceptColumns()
		}
	case "]", "?":
		x.next()
		x.value = false
	case "::":
		x.next()
		x.dataType()
		x.value = false
	case "/*+", "*/", "@":
		x.unexpected()
		return false
	default:
		x.next()
		x.value = true
	}
	return true
}

// exceptColumns skips EXCEPT (…) behind a star; in front of a query it is the operator between two of them.
func (x *expression) exceptColumns() {
	if x.tokens[x.pos-1].is(x.text, "*") && x.peek().word == "except" && x.ahead(1).is(x.text, "(") && !x.queryAt(2) {
		x.next()
		x.bracketed()
	}
}

// dataType skips a type behind `::`.
func (x *expression) dataType() {
	x.next()
	if x.symbol("<") || x.symbol("<>") {
		for depth := 0; x.peek().kind != End; {
			t := x.next()
			switch x.text[t.start:t.end] {
			case "<":
				depth++
			case ">":
				depth--
			}
			if depth == 0 {
				break
			}
		}
	}
	if x.symbol("(") {
		x.next()
		x.skipTo()
	}
}

func (x *expression) wordStep(t token) bool {
	switch {
	case x.extent == row && !x.value && !follows(t.word) && (!x.interval || !x.unit()):
		return x.done()
	case t.word == "":
		x.interval = x.isWord("interval")
		x.next()
		x.value = false
		return true
	case x.ahead(1).is(x.text, "."): // it is a name, whatever it looks like
		x.next()
		x.value = false
		return true
	case x.extent == inside:
		return x.innerWord(t)
	case x.value:
		return x.valueWord(t)
	}
	return x.operatorWord(t)
}

// follows says that an expression goes on behind a value with this word, so that it is no alias.
func follows(word string) bool {
	switch word {
	case "and", "or", "not", "in", "like", "ilike", "rlike", "regexp", "between", "div", "escape", "is", "when", "then", "else", "end":
		return true
	}
	return false
}

// unit says whether the next word belongs to an interval.
func (x *expression) unit() bool {
	return x.isWord("year", "years", "month", "months", "week", "weeks", "day", "days", "hour", "hours", "minute", "minutes", "second",
		"seconds", "millisecond", "milliseconds", "microsecond", "microseconds", "to")
}

// innerWord goes over a word in brackets: no clause ends them, and FROM and ORDER BY are parts of functions there.
func (x *expression) innerWord(t token) bool {
	switch t.word {
	case "select", "union", "intersect", "insert":
		x.unexpected()
		return false
	case "table":
		if before := x.tokens[x.pos-1]; before.is(x.text, "(") || before.is(x.text, ",") || before.is(x.text, "=>") {
			if x.tableArgument() {
				return true
			}
		}
	}
	x.next()
	x.value = operator(t.word)
	return true
}

// operator says that a value must follow the word.
func operator(word string) bool {
	switch word {
	case "and", "or", "not", "in", "like", "ilike", "rlike", "regexp", "between", "div", "escape", "when", "then", "else", "case",
		"distinct", "all", "by", "from", "for", "where", "is", "over", "filter", "as", "exists":
		return true
	}
	return false
}

// valueWord goes over a word where a value must stand.
func (x *expression) valueWord(t token) bool {
	switch t.word {
	case "case":
		x.cases++
		x.next()
		after := x.peek()
		operator := after.kind == Symbol && !after.is(x.text, "(") && !after.is(x.text, "-") && !after.is(x.text, ":")
		if operator || follows(after.word) && after.word != "when" && after.word != "not" {
			x.unexpected() // a column of this name
		}
		return true
	case "not", "distinct", "all":
		x.next()
		if t.word == "all" {
			x.value = false // GROUP BY ALL, ORDER BY ALL
		}
		return true
	case "when":
		if x.cases > 0 {
			x.next()
			return true
		}
	case "left", "right", "window", "values", "insert", "if", "semi", "anti", "limit", "set", "exists":
		if !x.ahead(1).is(x.text, "(") { // a function
			break
		}
		x.next()
		x.value = false
		return true
	}
	if bounds(t.word) && t.word != "exists" || clause(t.word) && t.word != "group" && t.word != "order" && t.word != "window" {
		x.unexpected()
		return false
	}
	x.next()
	x.value = false
	return true
}

// operatorWord goes over a word behind a value: an operator, a name for the value, or the end.
func (x *expression) operatorWord(t token) bool {
	if x.ends(t) {
		return x.done()
	}
	switch t.word {
	case "when", "then":
		if x.cases == 0 {
			return x.done()
		}
		x.next()
		x.value = true
	case "end":
		x.cases = max(x.cases-1, 0)
		x.next()
	case "is":
		x.next()
		x.take("not")
		x.value = x.take("distinct", "from")
		if !x.value && !x.takeAny("null", "true", "false", "unknown") {
			x.unexpected()
		}
	case "as":
		x.next()
		switch k := x.peek().kind; {
		case k == Word || k == Quoted:
			x.aliasName()
		case !x.symbol("("):
			x.unexpected()
		}
	case "over", "collate":
		x.next()
		if bounds(x.peek().word) || clause(x.peek().word) {
			x.unexpected() // an alias, or a window or collation of this name
		}
	case "using":
		if x.ahead(1).kind == String {
			x.fail("TRANSFORM runs a program")
			return false
		}
		x.next()
	case "with": // ROLLUP, CUBE
		x.next()
		x.next()
	case "and", "or", "in", "like", "ilike", "rlike", "regexp", "between", "div", "escape", "else":
		x.next()
		x.value = true
	default: // NOT in front of IN too
		x.next()
		if next := x.peek(); joins(t.word) && (next.kind == Quoted || next.kind == Word && !x.ends(next)) {
			x.unexpected() // a name in front of a join, without a FROM
			return false
		}
	}
	return true
}

// ends says whether the word ends expressions of this extent.
func (x *expression) ends(t token) bool {
	switch t.word {
	case "from", "where", "having", "qualify", "union", "intersect", "except", "minus", "limit", "offset", "select", "insert",
		"values", "map", "reduce":
		return true
	case "group", "order", "sort", "cluster", "distribute":
		return x.ahead(1).word == "by"
	case "with":
		next := x.ahead(1).word
		return next != "rollup" && next != "cube"
	case "window":
		return x.ahead(2).word == "as"
	case "lateral":
		return x.ahead(1).word == "view" || x.extent != named
	case "table":
		return x.extent != named
	}
	return joins(t.word) && x.extent != named
}

// joins says whether a word belongs to a join, or to what else may stand behind a table.
func joins(word string) bool {
	switch word {
	case "join", "inner", "cross", "left", "right", "full", "natural", "semi", "anti", "asof", "on", "using", "pivot", "unpivot":
		return true
	}
	return false
}

// bracketed goes over brackets and what is in them, and says whether it is a query.
func (r *reader) bracketed() (query bool) {
	trim := r.pos > 0 && r.tokens[r.pos-1].word == "trim"
	r.next()
	r.deeper()
	switch {
	case r.peek().word == "from" && !r.ahead(1).is(r.text, ".") && !trim:
		r.unexpected() // a query, or a column of this name
	case r.queryAt(0) && !trim:
		r.query()
		query = true
	case r.symbol("("):
		x := expression{reader: r, extent: inside}
		if r.bracketed() && r.tailAhead() {
			r.tail()
			query = true
			break
		}
		for x.step() {
		}
	default:
		r.expressions(inside)
	}
	r.expect(")")
	r.depth--
	return query
}

// queryAt says whether a query begins at the nth token from here, other than with a bracket.
func (r *reader) queryAt(n int) bool {
	after := r.ahead(n + 1)
	name := after.kind == Word || after.kind == Quoted
	switch r.ahead(n).word {
	case "select", "with", "from":
		return true
	case "values":
		return name || after.kind == String || after.kind == Number || after.is(r.text, "(") || after.is(r.text, "-")
	case "table":
		return name
	case "map", "reduce":
		return name || after.kind == String || after.kind == Number
	}
	return false
}

// tableArgument reads TABLE(name) and TABLE(query), what functions take as an argument.
func (x *expression) tableArgument() bool {
	after := x.ahead(1)
	switch {
	case after.is(x.text, "("):
		x.next()
		if x.queryAt(1) || x.ahead(1).is(x.text, "(") {
			x.bracketed()
			break
		}
		x.next()
		if n, known := x.name(); known {
			x.reads(n)
		}
		x.expect(")")
	case after.kind == Quoted || after.kind == Word && !bounds(after.word):
		if !x.tokens[x.pos-1].is(x.text, "=>") {
			x.unexpected() // an argument, or a column of this name
			return true
		}
		x.next()
		if n, known := x.name(); known {
			x.reads(n)
		}
	default:
		return false
	}
	x.value = false
	return true
}
