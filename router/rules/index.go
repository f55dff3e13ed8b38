package rules

import (
	"math/bits"
	"strings"

	"github.com/sluicedata/sluice/router"
)

// row has a bit for each rule.
type row []uint64

func newRow(n int) row { return make(row, (n+63)/64) }

func (r row) set(i int) { r[i/64] |= 1 << (i % 64) }

// index finds the rules that may match a request without looking at each: most rules compare a fact with constants, so for
// each fact and each of its values it has the rules whose comparison holds. What is left is looked at one by one.
type index struct {
	rules int
	facts []factIndex
}

type factIndex struct {
	fact string
	any  row // rules that do not compare the fact
	by   map[string]row
}

func newIndex(rules []*Rule) *index {
	x := &index{rules: len(rules)}
	at := map[string]int{}
	for i, r := range rules {
		if r.when == nil {
			continue
		}
		for _, a := range r.when.atoms {
			f, known := at[a.fact]
			if !known {
				f = len(x.facts)
				at[a.fact] = f
				x.facts = append(x.facts, factIndex{fact: a.fact, by: map[string]row{}})
			}
			for _, v := range a.values {
				if x.facts[f].by[v] == nil {
					x.facts[f].by[v] = newRow(len(rules))
				}
				x.facts[f].by[v].set(i)
			}
		}
	}
	for f := range x.facts {
		fi := &x.facts[f]
		fi.any = newRow(len(rules))
		for i, r := range rules {
			if r.when == nil || !r.when.asks(fi.fact) {
				fi.any.set(i)
			}
		}
		for _, hit := range fi.by {
			for w := range hit {
				hit[w] |= fi.any[w]
			}
		}
	}
	return x
}

// gather looks up the facts of a request: for each of them the rows, of which one must have a rule's bit. A nil row ends a
// fact.
func (x *index) gather(r *router.Request, hits []row) []row {
	hits = hits[:0]
	for i := range x.facts {
		f := &x.facts[i]
		switch f.fact {
		case "groups":
			hits = f.list(hits, r.Groups)
		case "tags":
			hits = f.list(hits, r.Tags)
		case "touches":
			hits = f.tables(f.tables(hits, r.SQL.Reads), r.SQL.Writes)
		default:
			if hit := f.by[textOf(f.fact, r)]; hit != nil {
				hits = append(hits, hit)
			}
		}
		hits = append(hits, f.any, nil)
	}
	return hits
}

func (f *factIndex) list(hits []row, values []string) []row {
	for _, v := range values {
		if hit := f.by[v]; hit != nil {
			hits = append(hits, hit)
		}
	}
	return hits
}

// tables looks up tables and their databases.
func (f *factIndex) tables(hits []row, names []string) []row {
	var key [256]byte
	for _, name := range names {
		if hit := f.by[name]; hit != nil {
			hits = append(hits, hit)
		}
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 || dot > len(key)-2 || name[len(name)-1] == '`' && strings.Count(name[dot:], "`") != 2 {
			continue
		}
		database := append(append(key[:0], name[:dot]...), "/*"...)
		if hit := f.by[string(database)]; hit != nil {
			hits = append(hits, hit)
		}
	}
	return hits
}

// next returns the first rule from i on that may match, or -1.
func (x *index) next(i int, hits []row) int {
	for w := i / 64; w*64 < x.rules; w++ {
		acc, one := ^uint64(0), uint64(0)
		for _, h := range hits {
			if h == nil {
				acc, one = acc&one, 0
				continue
			}
			one |= h[w]
		}
		if w == i/64 {
			acc &= ^uint64(0) << (i % 64)
		}
		if acc != 0 {
			if found := w*64 + bits.TrailingZeros64(acc); found < x.rules {
				return found
			}
		}
	}
	return -1
}

// textOf is a fact that is one text.
func textOf(fact string, r *router.Request) string {
	switch fact {
	case "user":
		return r.User
	case "real_user":
		return r.RealUser
	case "client":
		return r.Client
	case "address":
		return address(r)
	case "front_end":
		return r.FrontEnd
	case "work":
		return r.Work
	case "queue":
		return r.Queue
	case "profile":
		return r.Profile
	case "runtime":
		return r.Runtime
	case "cluster":
		return r.Cluster
	case "catalog":
		return r.Catalog
	case "database":
		return r.Database
	case "weekday":
		return weekdays[r.At.Weekday()]
	case "sql.kind":
		return r.SQL.Kind
	}
	return r.Conf[strings.TrimPrefix(fact, confFact)]
}
