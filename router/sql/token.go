package sql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind says what a token is.
type Kind uint8

// The kinds of tokens.
const (
	End    Kind = iota // the text is over
	Word               // a name or a keyword without quotes; `1a` and `hdfs://b/c` are words too, as in Spark
	Quoted             // a name in back quotes
	String             // a text in single or double quotes, raw (r'…') or between dollars ($$…$$)
	Number
	Symbol // an operator or a punctuation mark; /*+ and */ around a hint are symbols
	Broken // a quote or a comment without its end, or a character that no statement has; nothing follows
)

// Token is a part of a statement: Text[Start:End] of the text that is scanned.
type Token struct {
	Kind       Kind
	Start, End int
}

// Scanner gives the tokens of a text one after the other, without blanks and comments, cut as Spark's lexer cuts them. It
// makes no copies, and a copy of it goes on from the same place.
type Scanner struct {
	text string
	pos  int
}

// NewScanner begins at the start of a text.
func NewScanner(text string) Scanner { return Scanner{text: text} }

// Next returns the next token. Behind the last one it returns End, again and again.
func (s *Scanner) Next() Token {
	if !s.blanks() {
		return s.broken()
	}
	start := s.pos
	if start >= len(s.text) {
		return Token{End, start, start}
	}
	switch c := s.text[start]; {
	case isLetter(c) || c >= utf8.RuneSelf:
		return s.word()
	case isDigit(c), c == '.' && s.decimalAt(start):
		return s.number()
	case c == '\'' || c == '"':
		return s.quoted(String, c, true)
	case c == '`':
		return s.quoted(Quoted, c, false)
	case c == '$':
		return s.dollars()
	}
	n := symbolAt(s.text[start:])
	if n == 0 {
		return s.broken()
	}
	s.pos += n
	return Token{Symbol, start, s.pos}
}

// broken ends the text: what follows cannot be cut for sure.
func (s *Scanner) broken() Token {
	t := Token{Broken, s.pos, len(s.text)}
	s.pos = len(s.text)
	return t
}

// blanks skips blanks and comments, and says whether all comments had an end.
func (s *Scanner) blanks() bool {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			s.pos++
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s.text[s.pos:])
			if !unicode.IsSpace(r) || r == 0x85 || r == 0x2029 { // the two that Spark does not know
				return true
			}
			s.pos += n
		case c == '-' && strings.HasPrefix(s.text[s.pos:], "--"):
			s.lineComment()
		case c == '/' && strings.HasPrefix(s.text[s.pos:], "/*") && !strings.HasPrefix(s.text[s.pos:], "/*+"):
			if !s.bracketedComment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// lineComment skips a comment to the end of its line. A backslash takes the next line to it.
func (s *Scanner) lineComment() {
	for ; s.pos < len(s.text); s.pos++ {
		switch s.text[s.pos] {
		case '\\':
			if strings.HasPrefix(s.text[s.pos+1:], "\n") {
				s.pos++
			}
		case '\r', '\n':
			return
		}
	}
}

// bracketedComment skips a comment and those inside it. Of a comment without an end nothing is skipped.
func (s *Scanner) bracketedComment() bool {
	depth := 0
	for i := s.pos; i+1 < len(s.text); {
		switch {
		case s.text[i] == '/' && s.text[i+1] == '*' && (i+2 >= len(s.text) || s.text[i+2] != '+'):
			depth++
			i += 2
		case s.text[i] == '*' && s.text[i+1] == '/':
			depth--
			i += 2
			if depth == 0 {
				s.pos = i
				return true
			}
		default:
			i++
		}
	}
	return false
}

func (s *Scanner) word() Token {
	start := s.pos
	s.wordPart()
	if s.pos == start { // neither a letter nor a blank
		return s.broken()
	}
	rest := s.text[s.pos:]
	if s.pos == start+1 && s.text[start]|0x20 == 'r' && rest != "" && (rest[0] == '\'' || rest[0] == '"') {
		end := strings.IndexByte(rest[1:], rest[0])
		if end < 0 {
			s.pos = start
			return s.broken()
		}
		s.pos += end + 2
		return Token{String, start, s.pos}
	}
	if strings.HasPrefix(rest, "://") && len(rest) > 3 && inAddress(rest[3]) && !strings.ContainsAny(s.text[start:s.pos], "0123456789_") {
		for s.pos += 3; s.pos < len(s.text) && inAddress(s.text[s.pos]); {
			s.pos++
		}
	}
	return Token{Word, start, s.pos}
}

// wordPart skips letters, digits and underscores.
func (s *Scanner) wordPart() {
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		if isLetter(c) || isDigit(c) {
			s.pos++
			continue
		}
		if c < utf8.RuneSelf {
			return
		}
		r, n := utf8.DecodeRuneInString(s.text[s.pos:])
		if !unicode.IsLetter(r) {
			return
		}
		s.pos += n
	}
}

// number reads a number, or a word that begins with a digit.
func (s *Scanner) number() Token {
	start, i := s.pos, s.pos
	for i < len(s.text) && isDigit(s.text[i]) {
		i++
	}
	if i < len(s.text) && s.text[i] == '.' && s.decimalAt(start) {
		for i++; i < len(s.text) && isDigit(s.text[i]); {
			i++
		}
	}
	if i+1 < len(s.text) && s.text[i]|0x20 == 'e' {
		j := i + 1
		if s.text[j] == '+' || s.text[j] == '-' {
			j++
		}
		for n := j; j < len(s.text) && isDigit(s.text[j]); j++ {
			i = max(i, n, j+1)
		}
	}
	s.pos = i
	s.wordPart() // a letter for the type, or what makes it a word
	kind := Number
	if suffix := s.text[i:s.pos]; len(suffix) > 2 || len(suffix) == 2 && !strings.EqualFold(suffix, "bd") ||
		len(suffix) == 1 && strings.IndexByte("lsydfLSYDF", suffix[0]) < 0 {
		kind = Word
	}
	return Token{kind, start, s.pos}
}

// decimalAt says whether a number with a point stands there: in `1.a` and `.1a` the point parts two names.
func (s *Scanner) decimalAt(i int) bool {
	digits := 0
	for ; i < len(s.text) && isDigit(s.text[i]); i++ {
		digits++
	}
	if i >= len(s.text) || s.text[i] != '.' {
		return false
	}
	for i++; i < len(s.text) && isDigit(s.text[i]); i++ {
		digits++
	}
	if digits == 0 {
		return false
	}
	rest := Scanner{s.text, i}
	rest.wordPart()
	suffix := s.text[i:rest.pos]
	if suffix == "" {
		return true
	}
	for len(suffix) > 1 && suffix[0]|0x20 == 'e' && isDigit(suffix[1]) || suffix != "" && isDigit(suffix[0]) {
		suffix = suffix[1:]
	}
	switch strings.ToLower(suffix) {
	case "", "d", "f", "bd":
		return true
	case "e": // and a sign
		return rest.pos+1 < len(s.text) && (s.text[rest.pos] == '+' || s.text[rest.pos] == '-') && isDigit(s.text[rest.pos+1])
	}
	return false
}

// quoted reads to the closing quote. A doubled quote is one of the text.
func (s *Scanner) quoted(kind Kind, quote byte, escapes bool) Token {
	start := s.pos
	for i := start + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '\\' && escapes:
			i++
		case c == quote:
			if i+1 < len(s.text) && s.text[i+1] == quote {
				i++
				continue
			}
			s.pos = i + 1
			return Token{kind, start, s.pos}
		}
	}
	return s.broken()
}

// dollars reads $$…$$ and $tag$…$tag$.
func (s *Scanner) dollars() Token {
	start := s.pos
	tag := Scanner{s.text, start + 1}
	tag.wordPart()
	if tag.pos >= len(s.text) || s.text[tag.pos] != '$' {
		return s.broken()
	}
	mark := s.text[start : tag.pos+1]
	end := strings.Index(s.text[tag.pos+1:], mark)
	if end < 0 {
		return s.broken()
	}
	s.pos = tag.pos + 1 + end + len(mark)
	return Token{String, start, s.pos}
}

// symbolAt returns how long the symbol at the beginning of a text is. Nothing hangs on where comparisons are cut, so of
// those with several characters it knows the ones that a reader asks for.
func symbolAt(s string) int {
	if len(s) > 2 && s[:3] == "/*+" {
		return 3
	}
	if len(s) > 1 {
		switch s[:2] {
		case "*/", "|>", "||", "::", "->", "=>", "<>", "<=", ">=", "!=":
			return 2
		}
	}
	if strings.IndexByte(";(),.[]!=<>+-*/%~&|^:?@", s[0]) >= 0 {
		return 1
	}
	return 0
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }

// inAddress says what an address without quotes may hold behind its ://.
func inAddress(c byte) bool {
	return isLetter(c) || isDigit(c) || strings.IndexByte("/-.?=&#%", c) >= 0
}
