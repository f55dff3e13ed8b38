package engines

import "context"

// Room is memory in MiB and processor time in thousandths of a core.
type Room struct{ Memory, MilliCores int64 }

// Minus is what is left of r without o; never less than nothing.
func (r Room) Minus(o Room) Room {
	return Room{max(0, r.Memory-o.Memory), max(0, r.MilliCores-o.MilliCores)}
}

// Within is the smaller of the two in each respect.
func (r Room) Within(o Room) Room {
	return Room{min(r.Memory, o.Memory), min(r.MilliCores, o.MilliCores)}
}

// Capacity is how much room a cluster has at one moment. Who is given one does not change it.
type Capacity struct {
	// Known says that Total and Free are what the cluster itself counts. Otherwise Note says why they are not, and what to do.
	Known   bool
	Note    string
	Nodes   int  // that take work
	Total   Room // of those nodes, or of what the quota gives us
	Free    Room // not promised to anybody
	Waiting int  // applications of everybody that have no place yet
	// Drivers are those of ours; MaxDrivers is how many there may be, 0 is any number.
	Drivers, MaxDrivers int
	Queues              map[string]Queue // by path; nil where there are none
}

// Queue is how much room a queue of a cluster has.
type Queue struct {
	Path       string
	Accepts    bool // applications may be submitted to it
	Free       Room // what it may still take, within what the cluster has free
	Guaranteed Room // of that, what nobody else can have
	Drivers    Room // what drivers may still take, of Free: an engine starts at once only if its driver fits in
	Waiting    int  // applications that have no driver yet
}

// Measurer is a Cluster that can tell how much room it has.
type Measurer interface {
	// WatchCapacity calls tell with how it is now, and again when that has changed, at most some times a second, until ctx
	// ends. An error means that the cluster does not answer, until the next Capacity. tell is called by one goroutine at a
	// time and does not block.
	WatchCapacity(ctx context.Context, tell func(Capacity, error)) error
}
