package rules

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"gopkg.in/yaml.v3"
)

type netPrefix = netip.Prefix

const stringKind = reflect.String

// window reads when a rule holds.
func (r *reader) window(span, days, from, until *yaml.Node) (w window) {
	var said []string
	say := func(what string, n *yaml.Node) {
		if n != nil {
			said = append(said, what+" "+flow(n))
		}
	}
	if span != nil {
		begin, end, _ := strings.Cut(span.Value, "-")
		b, berr := time.Parse("15:04", strings.TrimSpace(begin))
		e, eerr := time.Parse("15:04", strings.TrimSpace(end))
		w.begin, w.end = b.Hour()*60+b.Minute(), e.Hour()*60+e.Minute()
		if berr != nil || eerr != nil || w.begin == w.end {
			r.wrong(span, "between: %q is no span of the day; write it like 22:00-06:00", span.Value)
		}
	}
	if days != nil {
		w.someDays = true
		for _, part := range strings.Split(days.Value, ",") {
			if !w.addDays(strings.ToLower(strings.TrimSpace(part))) {
				r.wrong(days, "days: %q is no day; write them like mon-fri or sat,sun", part)
			}
		}
	}
	moment := func(key string, n *yaml.Node, to *time.Time) {
		if n == nil {
			return
		}
		for _, form := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02 15:04", time.RFC3339} {
			if at, err := time.ParseInLocation(form, n.Value, r.set.Zone); err == nil {
				*to = at
				return
			}
		}
		r.wrong(n, "%s: %q is no time; write it like 2026-12-01 or 2026-12-01T18:00", key, n.Value)
	}
	moment("from", from, &w.from)
	moment("until", until, &w.until)
	if !w.from.IsZero() && !w.until.IsZero() && !w.from.Before(w.until) {
		r.wrong(until, "until: it is not after from, so the rule never holds")
	}
	say("between", span)
	say("days", days)
	say("from", from)
	say("until", until)
	w.text = strings.Join(said, ", ")
	return w
}

func (w *window) addDays(text string) bool {
	first, last, span := strings.Cut(text, "-")
	a := slices.Index(weekdays, first)
	b := slices.Index(weekdays, cmp.Or(last, first))
	if a < 0 || b < 0 || span && last == "" {
		return false
	}
	for d := a; ; d = (d + 1) % 7 {
		w.days[d] = true
		if d == b {
			return true
		}
	}
}

func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// nearest proposes what was probably meant.
func nearest(word string, known []string) string {
	best, least := "", min(3, len(word))
	for _, k := range known {
		if d := levenshtein.ComputeDistance(word, k); d < least && d < 2*len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}
