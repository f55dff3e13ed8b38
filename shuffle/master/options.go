// Package master is the shuffle service's master: which workers there are, where a shuffle's partitions go, and which
// applications still live. All of its state is soft: workers and drivers say it again within seconds, so a master that starts
// anew knows what it needs after one round, and until then it deletes nothing.
//
// State is the core: no sockets, no clock, no randomness of its own, so that tests and a simulation can drive it. Server puts it
// on a port.
package master

import (
	"cmp"
	"time"

	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

// Options of a master. Zero values stand for the defaults.
type Options struct {
	SilentAfter        time.Duration // a worker without heartbeats gets no slots: 2 s
	LostAfter          time.Duration // a worker without heartbeats is gone: 30 s
	ApplicationTimeout time.Duration // an application that nobody heard of for so long has ended: 300 s
	Settle             time.Duration // after the start, requests for slots wait so long for workers to say that they are there: 3 s
	Tombstones         time.Duration // what ended is remembered so long after a worker last reported it: 1 h
	Spares             int           // workers without partitions that a driver learns of, for when one fails: 8
	MinFree            int64         // bytes below which a disk is full: 128 MiB
	Quotas             Quotas
	Exclude            []string // patterns of workers that get no slots, as with State.Exclude
	Incarnation        string   // new at every start
	On                 func(Event)
}

func (o Options) withDefaults() Options {
	o.SilentAfter = cmp.Or(o.SilentAfter, 2*time.Second)
	o.LostAfter = cmp.Or(o.LostAfter, 30*time.Second)
	o.ApplicationTimeout = cmp.Or(o.ApplicationTimeout, 300*time.Second)
	o.Settle = cmp.Or(o.Settle, 3*time.Second)
	o.Tombstones = cmp.Or(o.Tombstones, time.Hour)
	o.Spares = cmp.Or(o.Spares, 8)
	o.MinFree = cmp.Or(o.MinFree, 128<<20)
	if o.On == nil {
		o.On = func(Event) {}
	}
	return o
}

// Event is something that an operator may want to know of.
type Event struct {
	Kind   string // one word or two, the same for the same thing
	Worker string
	App    string
	Text   string // in words
}

// Quotas bound the bytes that a user's shuffles hold on workers, replicas included. 0 is no bound.
type Quotas struct {
	Default int64
	Users   map[string]int64
}

func (q Quotas) limit(user string) int64 {
	if n, ok := q.Users[user]; ok {
		return n
	}
	return q.Default
}

// userName is how a user is called in quotas: the name, with the tenant in front unless it is the clients' default.
func userName(u *pb.UserIdentifier) string {
	if t := u.GetTenantId(); t != "" && t != "default" {
		return t + "/" + u.GetName()
	}
	return u.GetName()
}
