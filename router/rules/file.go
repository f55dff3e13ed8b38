// Package rules reads the file of rules and decides by it. A file is read top to bottom: the first rule whose condition
// holds says where the work goes. What is wrong with a file is told all at once, with line and column, when it is loaded;
// a file that is loaded always decides, or refuses in words.
package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluicedata/sluice/router"
)

// What becomes of a client's own wish for a cluster.
const (
	Follow = "follow" // it is met, unless a strict rule stands against it
	Ignore = "ignore" // the rules alone decide; conditions may ask for it
	Refuse = "refuse" // it is an error
)

// Set is a file of rules, checked and ready. It is safe for concurrent use.
type Set struct {
	Version string // the first signs of the text's hash
	Name    string // the version that the file gives itself, or empty
	Text    string
	Rollout float64 // share of sessions that it holds for as long as another version does for the rest; 1 is all
	Choice  string  // Follow, Ignore or Refuse
	Zone    *time.Location
	Rules   []*Rule
	Limits  []Limit

	clusters []string // by index, as in the snapshots that it decides over
	near     [][]tablePattern
	costs    []float64
	patterns *patterns
	index    *index
	machines sync.Pool
}

// Rule says where the work goes that it matches.
type Rule struct {
	Name     string
	Line     int
	Strict   bool // nothing but its target may have the work, whatever a client wishes
	Priority int  // of those who wait
	id       uint64
	when     *condition // nil matches everything
	window   window
	target   target
}

// target is where a rule's work goes.
type target struct {
	text    string // as it is said in words
	policy  router.Policy
	members []member
	refuse  string
	sticky  sticky
}

type member struct {
	cluster int // index in Set.clusters
	queue   string
	share   int
}

// What a weighted set sticks to.
type sticky struct {
	by      string // session, user, or an expression
	program *condition
}

// Title names a version for people.
func (s *Set) Title() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Version
}

// BuiltIn are the rules of those who have no file: what the client names, or the default cluster.
func BuiltIn(clusters []string, standard string) *Set {
	s, err := Load([]byte(fmt.Sprintf("version: built-in\nrules:\n- {name: engine.cluster, to: %q}\n", standard)), clusters)
	if err != nil {
		panic(fmt.Sprintf("the built-in rules: %v", err)) // the configuration was checked
	}
	return s
}

func versionOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// find is the index of a cluster, or -1.
func (s *Set) find(cluster string) int { return slices.Index(s.clusters, cluster) }

// window is when a rule holds.
type window struct {
	from, until time.Time // zero is open
	begin, end  int       // minutes of the day; equal is the whole day
	days        [7]bool
	someDays    bool
	text        string
}

// open says whether the rule holds at a time. A span over midnight belongs to the day on which it began.
func (w *window) open(at time.Time) bool {
	if w.text == "" {
		return true
	}
	if !w.from.IsZero() && at.Before(w.from) || !w.until.IsZero() && !at.Before(w.until) {
		return false
	}
	day, minute := at.Weekday(), at.Hour()*60+at.Minute()
	if w.begin != w.end {
		switch over := w.begin > w.end; {
		case over && minute < w.end:
			day = (day + 6) % 7
		case over && minute >= w.begin, !over && minute >= w.begin && minute < w.end:
		default:
			return false
		}
	}
	return !w.someDays || w.days[day]
}
