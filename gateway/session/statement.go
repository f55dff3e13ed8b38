package session

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// statement is what the gateway understands of a text without running it. What it does not understand is left to the
// engine: guessing wrong may cost a round trip, never a result.
type statement struct {
	text  string // without surrounding blanks and trailing semicolons
	verb  verb
	key   string // of SET and RESET
	value string // of SET
	shown string // of SET: the key that Spark answers with, if it is another
	name  string // of USE: as written, quotes included; of a ping: its column; of EXPLAIN ROUTE: the statement
}

type verb int

const (
	other        verb = iota
	query             // surely rows and nothing else: SELECT, VALUES, TABLE
	ping              // SELECT 1 [AS name]: what pools, schedulers and dbt send to see whether somebody is there
	setValue          // SET key = value
	setShow           // SET key
	reset             // RESET, with or without a key
	useSchema         // USE [DATABASE|SCHEMA|NAMESPACE] name
	useCatalog        // USE CATALOG name, SET CATALOG name
	explainRoute      // EXPLAIN ROUTE statement: ours, no engine sees it
)

// parse reads the head of a statement.
func parse(text string) statement {
	st := statement{text: trim(text)}
	start := skipBlank(st.text)
	head := start
	for strings.HasPrefix(head, "(") {
		head = skipBlank(head[1:])
	}
	word, rest := nextWord(head)
	switch strings.ToUpper(word) {
	case "SELECT":
		st.verb = query
		if m := oneAs.FindStringSubmatch(rest); m != nil && head == start {
			st.verb, st.name = ping, cmp.Or(m[1], "1") // Spark names the column after the number
		}
	case "VALUES", "TABLE":
		st.verb = query
	case "EXPLAIN":
		if word, what := nextWord(rest); strings.EqualFold(word, "ROUTE") && strings.TrimSpace(what) != "" {
			st.verb, st.name = explainRoute, strings.TrimSpace(what)
		}
	case "SET":
		st.set(rest)
	case "RESET":
		if key := strings.TrimSpace(rest); !strings.ContainsAny(key, " \t\n") {
			st.verb, st.key = reset, strings.Trim(key, "`")
		}
	case "USE":
		st.use(rest)
	}
	return st
}

// oneAs is what follows SELECT in a ping.
var oneAs = regexp.MustCompile(`(?i)^\s+1(?:\s+AS\s+([a-z_]\w*))?\s*$`)

// FirstWord is the word that a statement begins with, behind comments and brackets.
func FirstWord(text string) string {
	head := skipBlank(text)
	for strings.HasPrefix(head, "(") {
		head = skipBlank(head[1:])
	}
	word, _ := nextWord(head)
	return word
}

// writing are words that a statement with a common table expression may have only if it writes. They are looked for in
// the whole text: a false alarm costs a retry, nothing else.
var writing = regexp.MustCompile(`(?i)\b(INSERT|UPDATE|DELETE|MERGE)\b`)

// reads says that a statement surely changes nothing.
func (st statement) reads() bool {
	if st.verb == query || st.verb == ping || st.verb == setShow || st.verb == explainRoute {
		return true
	}
	word, _ := nextWord(st.text)
	switch strings.ToUpper(word) {
	case "SHOW", "DESCRIBE", "DESC", "EXPLAIN":
		return true
	case "WITH":
		return !writing.MatchString(st.text)
	}
	return false
}

// set reads `SET key=value` and `SET key`. Forms that are not about a setting (SET TIME ZONE, SET VAR, SET -v, SET
// CATALOG) differ from a setting by their second word.
func (st *statement) set(rest string) {
	rest = strings.TrimSpace(rest)
	key, value, assigned := strings.Cut(rest, "=")
	key = strings.TrimSpace(key)
	if word, after := nextWord(rest); strings.EqualFold(word, "CATALOG") && !assigned {
		st.verb, st.name = useCatalog, strings.TrimSpace(after)
		return
	}
	if key == "" || strings.ContainsAny(key, " \t\n") || strings.HasPrefix(key, "-") {
		return
	}
	st.key = SettingKey(strings.Trim(key, "`"))
	if !assigned {
		st.verb = setShow
		return
	}
	st.verb, st.value = setValue, strings.TrimSpace(value)
	if n := len(st.value); n >= 2 && st.value[0] == '`' && st.value[n-1] == '`' {
		st.value = st.value[1 : n-1]
	}
	if strings.HasPrefix(key, "hivevar:") { // Spark knows this prefix, and answers with it
		st.shown = key
		return
	}
	// Spark's SET keeps Hive's other prefixes in the key, and then nothing finds the setting again.
	if st.key != key {
		st.text = "SET " + st.key + "=" + st.value
	}
}

// SettingKey takes the prefixes of Hive's SET off a key: all name the same settings in Spark.
func SettingKey(key string) string {
	for _, p := range []string{"hivevar:", "hiveconf:", "spark:", "sparkconf:"} {
		if len(key) > len(p) && strings.EqualFold(key[:len(p)], p) {
			return key[len(p):]
		}
	}
	return key
}

func (st *statement) use(rest string) {
	name := strings.TrimSpace(rest)
	verb := useSchema
	if word, after := nextWord(name); after != "" {
		switch strings.ToUpper(word) {
		case "CATALOG":
			verb, name = useCatalog, strings.TrimSpace(after)
		case "DATABASE", "SCHEMA", "NAMESPACE":
			name = strings.TrimSpace(after)
		}
	}
	if isName(name) {
		st.verb, st.name = verb, name
	}
}

// isName says whether the text is one identifier, plain or in back quotes, with or without parts.
func isName(s string) bool {
	inQuotes := false
	for _, r := range s {
		switch {
		case r == '`':
			inQuotes = !inQuotes
		case inQuotes || r == '_' || r == '.' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r):
		default:
			return false
		}
	}
	return s != "" && !inQuotes
}

// trim takes off blanks and trailing semicolons, which clients send and Spark's parser takes only some of.
func trim(text string) string {
	text = strings.TrimSpace(text)
	for strings.HasSuffix(text, ";") {
		text = strings.TrimSpace(strings.TrimSuffix(text, ";"))
	}
	return text
}

// skipBlank skips blanks and comments.
func skipBlank(s string) string {
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		switch {
		case strings.HasPrefix(s, "--"):
			_, after, found := strings.Cut(s, "\n")
			if !found {
				return ""
			}
			s = after
		case strings.HasPrefix(s, "/*") && !strings.HasPrefix(s, "/*+"):
			rest := skipBracketed(s)
			if rest == s {
				return s
			}
			s = rest
		default:
			return s
		}
	}
}

// skipBracketed skips one comment, in which Spark allows others; one without an end stays.
func skipBracketed(s string) string {
	depth := 0
	for i := 0; i+1 < len(s); {
		switch s[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
			if depth == 0 {
				return s[i:]
			}
		default:
			i++
		}
	}
	return s
}

func nextWord(s string) (word, rest string) {
	s = skipBlank(s)
	end := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && r != '_' })
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// split parts a text at the semicolons that are in no quotes and no comment.
func split(text string) []string {
	var out []string
	start := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ';':
			out = append(out, strings.TrimSpace(text[start:i]))
			i++
			start = i
		case c == '\'' || c == '"' || c == '`':
			i = skipQuoted(text, i)
		case strings.HasPrefix(text[i:], "--") || strings.HasPrefix(text[i:], "/*"):
			i = len(text) - len(skipBlank(text[i:]))
			if strings.HasPrefix(text[i:], "/*") { // a hint, or a comment without an end
				i += 2
			}
		default:
			i++
		}
	}
	out = append(out, strings.TrimSpace(text[start:]))
	return slices.DeleteFunc(out, func(s string) bool { return skipBlank(s) == "" })
}

// skipQuoted returns where the quoted text that begins at i is over.
func skipQuoted(text string, i int) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if quote != '`' {
				i++
			}
		case quote:
			return i + 1
		}
	}
	return len(text)
}
