package sql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScanner(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"words":               {"Select a_1, 1a, größe", "word:Select word:a_1 symbol:, word:1a symbol:, word:größe"},
		"numbers":             {"1 1.5 .5 2. 1e5 1E-5 10L 3.2BD 1.e2", "number:1 number:1.5 number:.5 number:2. number:1e5 number:1E-5 number:10L number:3.2BD number:1.e2"},
		"points between":      {"a.1b 1.a t.`x`.y", "word:a symbol:. word:1b number:1 symbol:. word:a word:t symbol:. quoted:`x` symbol:. word:y"},
		"quotes":              {`'a''b' "c""d" 'e\'f' r'\' R"\"`, `string:'a''b' string:"c""d" string:'e\'f' string:r'\' string:R"\"`},
		"a word before":       {`xr'\''`, `word:xr string:'\''`},
		"back quotes":         {"`a``b` `c;d`", "quoted:`a``b` quoted:`c;d`"},
		"dollars":             {"$$ a 'b $$ $x$ $$ $x$", "string:$$ a 'b $$ string:$x$ $$ $x$"},
		"comments":            {"a -- b\nc /* d /* e */ f */ g -- h", "word:a word:c word:g"},
		"a comment goes on":   {"a -- b \\\n c\nd", "word:a word:d"},
		"a hint":              {"/*+ a('*/') */ b", "symbol:/*+ word:a symbol:( string:'*/' symbol:) symbol:*/ word:b"},
		"no hint inside":      {"/* a /*+ b */ c", "word:c"},
		"addresses":           {"s3://a-b/c--d e", "word:s3 symbol:: symbol:/ symbol:/ word:a symbol:- word:b symbol:/ word:c"},
		"an address":          {"hdfs://a-b/c--d e", "word:hdfs://a-b/c--d word:e"},
		"operators":           {"a|>b||c::d->e=>f<=>g!=h", "word:a symbol:|> word:b symbol:|| word:c symbol::: word:d symbol:-> word:e symbol:=> word:f symbol:<= symbol:> word:g symbol:!= word:h"},
		"odd blanks":          {"a\u00a0b\u3000c\fd", "word:a word:b word:c word:d"},
		"no end of a quote":   {"a 'b", "word:a broken:'b"},
		"no end of a name":    {"`a``", "broken:`a``"},
		"no end of a comment": {"a /* b /* c */", "word:a broken:/* b /* c */"},
		"a variable":          {"a ${b} c", "word:a broken:${b} c"},
		"no SQL":              {"a # b", "word:a broken:# b"},
		"no text":             {"a \xff", "word:a broken:\xff"},
		"nothing":             {" -- a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			names := []string{"end", "word", "quoted", "string", "number", "symbol", "broken"}
			var got []string
			s := NewScanner(test.text)
			for tok := s.Next(); tok.Kind != End; tok = s.Next() {
				got = append(got, names[tok.Kind]+":"+test.text[tok.Start:tok.End])
			}
			require.Equal(t, test.want, strings.Join(got, " "))
			require.Equal(t, End, s.Next().Kind)
		})
	}
}
