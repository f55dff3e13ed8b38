// Package router decides on which cluster work runs: a decision follows from a request, a snapshot of the clusters and the
// rules, and says its reason in words. It is pure: no clock, no random source and no I/O of its own.
//
// This room has the words. Its neighbours are router/rules (the file of rules and the decision), router/policy (how one of
// several clusters is picked), router/sql (what a statement touches) and router/watch (what is known of the clusters).
package router

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sluicedata/sluice/router/sql"
)

// The kinds of work.
const (
	Interactive = "interactive" // somebody waits for the answer
	ETL         = "etl"         // statements of a job
	Batch       = "batch"       // an application as a whole
)

// Works are the kinds of work.
var Works = []string{Interactive, ETL, Batch}

// Request is what is known of work that needs a cluster.
type Request struct {
	At       time.Time // in the zone that times of day are meant in
	Session  string    // its id
	User     string
	RealUser string // who acts for User; empty if nobody does
	Groups   []string
	Client   string // what the client says of itself
	Address  netip.Addr
	FrontEnd string
	Work     string // one of Works
	Queue    string // that the client names, or empty
	Tags     []string
	Profile  string
	Runtime  string
	Catalog  string
	Database string
	Conf     map[string]string // of the session
	Cluster  string            // that the client names, or empty
	SQL      sql.Facts

	Current     Place    // where the session has an engine; empty without one
	CurrentRule uint64   // the rule that led there; 0 if it is not known
	Warm        []Place  // where an engine is ready that it may share
	Driver      Room     // what a new engine's driver needs
	Avoid       []string // clusters on which a start has failed just now
}

// Place is a cluster, and a queue of it; an empty queue is the cluster's own default.
type Place struct{ Cluster, Queue string }

func (p Place) String() string {
	if p.Queue == "" {
		return p.Cluster
	}
	return p.Cluster + " (queue " + p.Queue + ")"
}

// Room is memory in MiB and processor time in thousandths of a core.
type Room struct {
	Memory     int64 `json:"memory_mib" yaml:"memory_mib"`
	MilliCores int64 `json:"millicores" yaml:"millicores"`
}

// Holds says whether there is room for a driver. Of cores it only asks whether any is free: how much of one a driver asks for
// is a setting of its cluster, and some clusters do not count them.
func (r Room) Holds(driver Room) bool {
	return r.Memory >= driver.Memory && (r.MilliCores > 0 || driver.MilliCores == 0)
}

// Health says whether new engines may be started on a cluster.
type Health string

// The states of health.
const (
	Up      Health = "up"
	Down    Health = "down"    // it does not answer, or starts there fail
	Ejected Health = "ejected" // starts fail there far more often than elsewhere
	Trial   Health = "trial"   // it was down, and a start may try whether it works again
	Trying  Health = "trying"  // as many as may try do
)

// State is one cluster at one moment.
type State struct {
	Name     string `json:"name" yaml:"name"`
	Kind     string `json:"kind" yaml:"kind"`
	Health   Health `json:"health" yaml:"health"`
	Why      string `json:"why,omitempty" yaml:"why"` // it is not up, in words
	Draining bool   `json:"draining,omitempty" yaml:"draining"`

	Note       string            `json:"note,omitempty" yaml:"note"`   // why its room is not known, and what to do
	Known      bool              `json:"known,omitempty" yaml:"known"` // Total and Free are
	Total      Room              `json:"total" yaml:"total"`
	Free       Room              `json:"free" yaml:"free"`
	Waiting    int               `json:"waiting,omitempty" yaml:"waiting"` // applications that have no place yet
	Drivers    int               `json:"drivers,omitempty" yaml:"drivers"`
	MaxDrivers int               `json:"max_drivers,omitempty" yaml:"max_drivers"` // 0 is any number
	Queue      string            `json:"queue,omitempty" yaml:"queue"`             // for those who name none
	Queues     map[string]*Queue `json:"queues,omitempty" yaml:"queues"`           // by path
}

// Queue is a queue of a cluster.
type Queue struct {
	Accepts bool `json:"accepts" yaml:"accepts"`
	Free    Room `json:"free" yaml:"free"`
	Drivers Room `json:"drivers" yaml:"drivers"` // that drivers may still take
	Waiting int  `json:"waiting,omitempty" yaml:"waiting"`
}

// Snapshot is all clusters at one moment, in the order in which rules were made for them. It does not change.
type Snapshot struct {
	At       time.Time `json:"at"`
	Clusters []State   `json:"clusters"`
}

// Find returns the state of a cluster, or nil.
func (s *Snapshot) Find(name string) *State {
	for i := range s.Clusters {
		if s.Clusters[i].Name == name {
			return &s.Clusters[i]
		}
	}
	return nil
}

// Loss is why a candidate cannot have the work now.
type Loss int

// The losses. One that is full could still have it, if nobody else can, and so could one that is away: it waits there.
const (
	None Loss = iota
	Full
	Stopped // its queue takes no applications
	Drains
	Failed // a start there has failed just now
	Away   // it is down, ejected, or being tried
)

// Candidate is a cluster that a rule allows.
type Candidate struct {
	*State
	Queue string  // of it that the rule names; empty is its default
	Share int     // of a weighted set, in ten-thousandths
	Cost  float64 // of an hour of a core, in whatever money; 0 is not known
	Near  int     // how many of the tables that the statement touches lie there
	Warm  bool    // an engine is ready there
	Loss  Loss

	named string // its queue, with its path
	queue *Queue // as it is; nil if nothing is known of it
}

// Place is where the work would run.
func (c *Candidate) Place() Place { return Place{c.Name, c.Queue} }

// findQueue finds what is known of the candidate's queue; nil is nothing.
func (c *Candidate) findQueue() {
	c.named = c.Queue
	if c.named == "" {
		c.named = c.State.Queue
	}
	if c.named == "" || len(c.Queues) == 0 {
		c.queue = nil
		return
	}
	if c.queue = c.Queues[c.named]; c.queue != nil {
		return
	}
	for path, q := range c.Queues { // by the last part of its path
		if n := len(path) - len(c.named); n > 0 && path[n-1] == '.' && path[n:] == c.named {
			c.named, c.queue = path, q
			return
		}
	}
}

// Judge finds whether the candidate can have the work of a request now.
func (c *Candidate) Judge(r *Request) {
	c.findQueue()
	c.Warm = len(r.Warm) > 0 && slices.Contains(r.Warm, c.Place())
	switch q := c.queue; {
	case c.Draining:
		c.Loss = Drains
	case c.Health == Down || c.Health == Ejected || c.Health == Trying:
		c.Loss = Away
	case len(r.Avoid) > 0 && slices.Contains(r.Avoid, c.Name):
		c.Loss = Failed
	case q != nil && !q.Accepts:
		c.Loss = Stopped
	case c.Warm:
		c.Loss = None // no room is needed
	case c.MaxDrivers > 0 && c.Drivers >= c.MaxDrivers,
		c.Known && !c.Free.Holds(r.Driver),
		q != nil && (!q.Free.Holds(r.Driver) || q.Drivers.Memory < r.Driver.Memory):
		c.Loss = Full
	default:
		c.Loss = None
	}
}

// Lost says in words why the candidate cannot have the work; empty if it can.
func (c *Candidate) Lost() string {
	switch c.Loss {
	case Away:
		return c.Why
	case Failed:
		return "a start there has failed just now"
	case Drains:
		return "it drains: it gets no new engines"
	case Stopped:
		return fmt.Sprintf("its queue %s takes no applications", c.named)
	case Full:
		switch {
		case c.MaxDrivers > 0 && c.Drivers >= c.MaxDrivers:
			return fmt.Sprintf("it is full: it has %d drivers of at most %d", c.Drivers, c.MaxDrivers)
		case c.queue != nil:
			return fmt.Sprintf("its queue %s is full: %s free, %d MiB for drivers, %d applications wait", c.named, c.queue.Free, c.queue.Drivers.Memory, c.queue.Waiting)
		}
		return fmt.Sprintf("it is full: %s free, %d applications wait", c.Free, c.Waiting)
	}
	return ""
}

func (r Room) String() string {
	return fmt.Sprintf("%d MiB and %g cores", r.Memory, float64(r.MilliCores)/1000)
}

// Policy picks one of several candidates. It is pure, safe for concurrent use, and allocates nothing in Pick.
type Policy interface {
	// Pick returns the index of a candidate whose Loss is None, or -1 if there is none. key is a hash of what the choice
	// sticks to.
	Pick(r *Request, key uint64, all []Candidate) int
	// Why says in words what speaks for the one that was picked.
	Why(r *Request, all []Candidate, picked int) string
}

// Room is what the candidate has free for an engine and its executors, as far as that is known.
func (c *Candidate) Room() (Room, bool) {
	if c.queue != nil {
		return c.queue.Free, true
	}
	return c.Free, c.Known
}
