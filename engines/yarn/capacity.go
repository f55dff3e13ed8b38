package yarn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// capacityPause is between two looks at how much room there is: YARN tells nobody of a change.
const capacityPause = 3 * time.Second

// capacityPatience is for how long a look may take, however many ResourceManagers are asked: whoever chooses a cluster is to
// know of an outage in ten seconds.
const capacityPatience = 7 * time.Second

// WatchCapacity implements engines.Measurer. It ends without an error with ctx or the cluster.
func (c *Cluster) WatchCapacity(ctx context.Context, tell func(engines.Capacity, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	pause := c.opt.Poll
	if pause <= 0 {
		pause = capacityPause
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var last engines.Capacity
	for known, lost := false, false; ; {
		now, err := c.measure(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !lost:
			tell(engines.Capacity{}, fmt.Errorf("the capacity of cluster %s: %w", c.opt.Name, err))
		case err == nil && (lost || !known || !alike(last, now)):
			last, known = now, true
			tell(now, nil)
		}
		lost = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func alike(a, b engines.Capacity) bool {
	return a.Known == b.Known && a.Nodes == b.Nodes && a.Total == b.Total && a.Free == b.Free && a.Waiting == b.Waiting && maps.Equal(a.Queues, b.Queues)
}

// metrics are of the nodes without a label alone, but for the number of nodes.
type metrics struct {
	Cluster struct {
		AvailableMB, AvailableVirtualCores, TotalMB, TotalVirtualCores int
		ActiveNodes, AppsPending                                       int
	} `json:"clusterMetrics"`
}

// measure looks once.
func (c *Cluster) measure(ctx context.Context) (engines.Capacity, error) {
	ctx, cancel := context.WithTimeout(ctx, capacityPatience)
	defer cancel()
	var t tree
	var m metrics
	err := c.rm.promptly(ctx, "/scheduler", c.opt.User, &t)
	if err == nil {
		err = c.rm.promptly(ctx, "/metrics", c.opt.User, &m)
	}
	if err != nil {
		return engines.Capacity{}, err
	}
	return capacityOf(t.root(), m, c.opt.DriverLabel, c.opt.ExecutorLabel), nil
}

// promptly asks each ResourceManager once. None of them may use up the time of all.
func (r *rm) promptly(ctx context.Context, path, user string, into any) error {
	var all error
	for range r.addresses {
		at := r.addresses[int(r.current.Load())%len(r.addresses)]
		soon, cancel := context.WithTimeout(ctx, capacityPatience/time.Duration(len(r.addresses)))
		err := r.ask(soon, http.MethodGet, at, path, user, nil, into)
		cancel()
		var no *refusal
		if err == nil || errors.As(err, &no) || errors.Is(err, errNoApp) {
			return err
		}
		r.current.Add(1)
		all = errors.Join(all, fmt.Errorf("ResourceManager %s: %w", at, err))
	}
	return all
}

// capacityOf is what the scheduler's queues and the metrics say.
func capacityOf(root queue, m metrics, driverLabel, executorLabel string) engines.Capacity {
	out := engines.Capacity{Known: true, Nodes: m.Cluster.ActiveNodes, Waiting: m.Cluster.AppsPending, Queues: map[string]engines.Queue{}}
	out.Total, out.Free = root.partition(executorLabel, m)
	_, drivers := root.partition(driverLabel, m)
	v := visit{driverLabel, executorLabel, out.Queues}
	v.queue(root, true, out.Free, drivers)
	return out
}

// partition is how much room the nodes with a label have, all queues together.
func (q queue) partition(label string, m metrics) (total, free engines.Room) {
	if label == "" || q.fair() {
		c := m.Cluster
		return amount{c.TotalMB, c.TotalVirtualCores}.room(), amount{c.AvailableMB, c.AvailableVirtualCores}.room().Minus(engines.Room{})
	}
	_, l := q.in(label)
	total, free = l.Most.room(), l.Most.room()
	for _, child := range q.children() { // the root does not say what it uses
		u, _ := child.in(label)
		free = free.Minus(u.Used.room())
	}
	return total, free
}

// visit goes through the queues.
type visit struct {
	driverLabel, executorLabel string
	leaves                     map[string]engines.Queue
}

// queue adds the leaves below a queue, or the queue itself. What they may take is what all above them may: free for
// executors, drivers for drivers.
func (v visit) queue(q queue, accepts bool, free, drivers engines.Room) {
	accepts = accepts && (q.State == "" || q.State == "RUNNING") && (q.MostApps == 0 || q.Apps < q.MostApps)
	u, l := q.in(v.executorLabel)
	free = free.Within(l.Most.room().Minus(u.Used.room()))
	guaranteed := l.Least.room().Minus(u.Used.room()).Within(free)
	u, l = q.in(v.driverLabel)
	drivers = drivers.Within(l.Most.room().Minus(u.Used.room()))
	if children := q.children(); len(children) > 0 {
		for _, child := range children {
			v.queue(child, accepts, free, drivers)
		}
		return
	}
	v.leaves[q.path()] = engines.Queue{Path: q.path(), Accepts: accepts, Free: free, Guaranteed: guaranteed, Drivers: q.driversWithin(drivers, u), Waiting: q.waiting()}
}

// driversWithin is what drivers may take of some room.
func (q queue) driversWithin(room engines.Room, u usage) engines.Room {
	none := amount{}
	switch {
	case q.fair() && u.DriversMost == none: // not known before the first one
		return room
	case !q.fair() && u.DriversUsed == none: // the capacity scheduler lets the first one in, whatever the limit
		return room
	}
	room = room.Within(u.DriversMost.room().Minus(u.DriversUsed.room()))
	if u.UserMost != none {
		room = room.Within(u.UserMost.room())
	}
	return room
}
