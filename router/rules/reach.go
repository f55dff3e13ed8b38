package rules

import (
	"fmt"
	"slices"
)

// reach refuses rules that can never match: what stands before them takes all that they would, or they contradict
// themselves. It finds what follows from the parts of conditions, not all that a mathematician would.
func (s *Set) reach() (errs []error) {
	wrong := func(r *Rule, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%d:1: %s", r.Line, fmt.Sprintf(format, args...)))
	}
	for i, rule := range s.Rules {
		if why := rule.contradiction(); why != "" {
			wrong(rule, "%q never matches: %s", rule.Name, why)
		}
		for _, before := range s.Rules[:i] {
			if before.covers(rule) {
				wrong(rule, "%q is never reached: %q in line %d takes all of it; put it before that one, or remove it", rule.Name, before.Name, before.Line)
				break
			}
		}
	}
	return errs
}

// contradiction says why a condition can never hold.
func (r *Rule) contradiction() string {
	if r.when == nil {
		return ""
	}
	for _, a := range r.when.atoms {
		if isList(a.fact) {
			continue
		}
		for _, text := range r.when.rest {
			if b, ok := r.when.other[text]; ok && b.fact == a.fact && !slices.ContainsFunc(b.values, func(v string) bool { return slices.Contains(a.values, v) }) {
				return fmt.Sprintf("%s cannot be both %v and %v", a.fact, a.values, b.values)
			}
		}
	}
	return ""
}

func isList(fact string) bool { return fact == "groups" || fact == "tags" || fact == "touches" }

// covers says that whatever matches the later rule matches this one.
func (r *Rule) covers(later *Rule) bool {
	if r.window.text != "" && r.window.text != later.window.text {
		return false
	}
	if r.when == nil {
		return true
	}
	if later.when == nil {
		return false
	}
	for _, a := range r.when.all() {
		if !slices.ContainsFunc(later.when.all(), func(b atom) bool { return b.implies(a) }) {
			return false
		}
	}
	return true
}

// all are the parts of a condition; one that is no comparison with constants is an atom of its text.
func (c *condition) all() []atom {
	out := slices.Clone(c.atoms)
	for _, text := range c.rest {
		if a, ok := c.other[text]; ok {
			out = append(out, a)
			continue
		}
		out = append(out, atom{fact: text})
	}
	return out
}

func (a atom) implies(b atom) bool {
	if a.fact != b.fact {
		return false
	}
	return !slices.ContainsFunc(a.values, func(v string) bool { return !slices.Contains(b.values, v) })
}
