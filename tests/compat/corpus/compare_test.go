//go:build e2e

package corpus

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// difference is one thing of a statement's outcome that the client sees otherwise.
type difference struct{ at, sql, where, stock, ours string }

// compare lists all differences of two outcomes.
func compare(stock, ours outcome) []difference {
	var out []difference
	note := func(where string, s, o any) {
		if text(s) != text(o) {
			out = append(out, difference{stock.At, stock.SQL, where, text(s), text(o)})
		}
	}
	if kind(stock) != kind(ours) {
		note("outcome", summary(stock), summary(ours))
		return out
	}
	if stock.Error != nil {
		note("error state", stock.Error.State, ours.Error.State)
		note("error code", stock.Error.Code, ours.Error.Code)
		note("error message", stock.Error.Message, ours.Error.Message)
	}
	note("thrown", stock.Thrown, ours.Thrown)
	note("number of columns", len(stock.Columns), len(ours.Columns))
	for i := range min(len(stock.Columns), len(ours.Columns)) {
		for _, what := range []string{"label", "name", "type", "number", "precision", "scale", "size", "class", "nullable", "cased"} {
			note(fmt.Sprintf("column %d %s", i, what), stock.Columns[i][what], ours.Columns[i][what])
		}
	}
	note("number of rows", len(stock.Rows), len(ours.Rows))
	for i := range min(len(stock.Rows), len(ours.Rows)) {
		for j := range min(len(stock.Rows[i]), len(ours.Rows[i])) {
			s, o := stock.Rows[i][j], ours.Rows[i][j]
			// What was sent decides the rest, so the first difference is the one to tell.
			for _, what := range []string{"sent", "null", "object", "string"} {
				if text(s[what]) != text(o[what]) {
					note(fmt.Sprintf("row %d column %d %s", i, j, what), s[what], o[what])
					break
				}
			}
		}
	}
	return out
}

// text tells null from an empty string.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

func kind(o outcome) string {
	switch {
	case o.Error != nil:
		return "error"
	case o.Thrown != "":
		return "thrown"
	default:
		return "result"
	}
}

func summary(o outcome) string {
	switch kind(o) {
	case "error":
		return "error " + o.Error.State + " " + o.Error.Message
	case "thrown":
		return "thrown " + o.Thrown
	}
	out := "result"
	for _, row := range o.Rows {
		for _, cell := range row {
			out += " | " + text(cell["sent"])
		}
	}
	return out
}

// rule describes differences that may be. Of its conditions those that are given must all hold.
type rule struct {
	Why        string
	Statements *pattern // matches file:line and text, with a blank between
	Where      *pattern // matches which part of the outcome differs
	Ignore     *pattern // what it matches is taken out of both values, before anything else
	Stock      *pattern // matches Spark's value
	Ours       *string  // is our value, with $1 for what the groups of stock matched; without it, and without the next two, both must be equal once Ignore is out
	OursLike   *pattern `yaml:"ours_like"` // matches our value
	Numbers    bool     // both hold the same numbers, of float or double, in other digits
	Optional   bool     // whether it occurs depends on the machine
	hits       int
}

type pattern struct{ *regexp.Regexp }

func (p *pattern) UnmarshalYAML(n *yaml.Node) (err error) {
	p.Regexp, err = regexp.Compile("(?s)" + n.Value)
	return err
}

func readRules(t *testing.T) []*rule {
	t.Helper()
	data, err := os.ReadFile("differences.yaml")
	require.NoError(t, err)
	var rules []*rule
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	require.NoError(t, dec.Decode(&rules))
	for _, r := range rules {
		require.NotEmpty(t, r.Why, "a difference without a reason")
		require.NotNil(t, r.Where, r.Why)
	}
	return rules
}

// listed counts a difference for the first rule that allows it.
func listed(rules []*rule, d difference) bool {
	for _, r := range rules {
		if r.allows(d) {
			r.hits++
			return true
		}
	}
	return false
}

func (r *rule) allows(d difference) bool {
	if r.Statements != nil && !r.Statements.MatchString(d.at+" "+d.sql) || !r.Where.MatchString(d.where) {
		return false
	}
	stock, ours := d.stock, d.ours
	if r.Ignore != nil {
		stock, ours = r.Ignore.ReplaceAllString(stock, ""), r.Ignore.ReplaceAllString(ours, "")
	}
	var groups []int
	if r.Stock != nil {
		if groups = r.Stock.FindStringSubmatchIndex(stock); groups == nil {
			return false
		}
	}
	switch {
	case r.Ours != nil:
		want := *r.Ours
		if r.Stock != nil {
			want = string(r.Stock.ExpandString(nil, want, stock, groups))
		}
		return ours == want
	case r.OursLike != nil:
		return r.OursLike.MatchString(ours)
	case r.Numbers:
		return sameNumbers(stock, ours)
	default:
		return stock == ours
	}
}

var number = regexp.MustCompile(`-?\d+(\.\d+)?(E-?\d+)?`)

// sameNumbers tells whether two texts differ in nothing but the digits of numbers that are the same float or double.
func sameNumbers(a, b string) bool {
	if number.ReplaceAllString(a, "") != number.ReplaceAllString(b, "") {
		return false
	}
	left, right := number.FindAllString(a, -1), number.FindAllString(b, -1)
	for i := range left {
		x, _ := strconv.ParseFloat(left[i], 64)
		y, _ := strconv.ParseFloat(right[i], 64)
		if x != y && float32(x) != float32(y) {
			return false
		}
	}
	return true
}
