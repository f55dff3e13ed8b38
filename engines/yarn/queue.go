package yarn

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// queue is one of the scheduler's. The capacity scheduler and the fair one describe theirs in words of their own; the fields
// of both are here.
type queue struct {
	Name  string `json:"queueName"` // the fair scheduler's is the whole path
	Path  string `json:"queuePath"`
	State string `json:"state"` // of the capacity scheduler: RUNNING, STOPPED, DRAINING

	Children struct {
		Queue []queue `json:"queue"`
	} `json:"queues"`
	FairChildren struct {
		Queue []queue `json:"queue"`
	} `json:"childQueues"`

	Waiting     int `json:"numPendingApplications"`
	FairWaiting int `json:"numPendingApps"`
	Apps        int `json:"numApplications"`
	MostApps    int `json:"maxApplications"` // more are refused; the fair scheduler lets them wait
	Resources   struct {
		ByPartition []usage `json:"resourceUsagesByPartition"`
	} `json:"resources"`
	Capacities struct {
		ByPartition []limits `json:"queueCapacitiesByPartition"`
	} `json:"capacities"`
	FairUsed        amount `json:"usedResources"`
	FairLeast       amount `json:"minResources"`
	FairMost        amount `json:"maxResources"`
	FairDriversUsed amount `json:"amUsedResources"`
	FairDriversMost amount `json:"amMaxResources"` // 0 as long as the queue has had no application
}

// usage is what a queue uses of a partition, the nodes with one label.
type usage struct {
	Name        string `json:"partitionName"`
	Used        amount `json:"used"`
	DriversUsed amount `json:"amUsed"`
	DriversMost amount `json:"amLimit"`
	UserMost    amount `json:"userAmLimit"` // 0 as long as nobody uses the queue
}

// limits are what a queue may use of a partition: least is what nobody else can have.
type limits struct {
	Name  string `json:"partitionName"`
	Least amount `json:"effectiveMinResource"`
	Most  amount `json:"effectiveMaxResource"`
}

// amount is of memory, in MiB, and of cores.
type amount struct {
	Memory int `json:"memory"`
	Cores  int `json:"vCores"`
}

func (a amount) room() engines.Room {
	return engines.Room{Memory: int64(a.Memory), MilliCores: 1000 * int64(a.Cores)}
}

func (q queue) children() []queue { return append(q.Children.Queue, q.FairChildren.Queue...) }

// fair says which scheduler a queue is of.
func (q queue) fair() bool { return len(q.Capacities.ByPartition) == 0 }

// in is what a queue uses and may use of a partition: nothing of one that it does not name. The fair scheduler has but one.
func (q queue) in(partition string) (u usage, l limits) {
	if q.fair() {
		return usage{Used: q.FairUsed, DriversUsed: q.FairDriversUsed, DriversMost: q.FairDriversMost}, limits{Least: q.FairLeast, Most: q.FairMost}
	}
	for _, p := range q.Resources.ByPartition {
		if p.Name == partition {
			u = p
		}
	}
	for _, p := range q.Capacities.ByPartition {
		if p.Name == partition {
			l = p
		}
	}
	return u, l
}

func (q queue) waiting() int { return q.Waiting + q.FairWaiting }

func (q queue) path() string {
	if q.Path != "" {
		return q.Path
	}
	return q.Name
}

// find looks for a queue by its path, or, as the capacity scheduler allows, by the last part of it.
func (q queue) find(name string) (queue, bool) {
	if q.path() == name || strings.HasSuffix(q.path(), "."+name) {
		return q, true
	}
	for _, c := range q.children() {
		if found, ok := c.find(name); ok {
			return found, true
		}
	}
	return queue{}, false
}

// leaves are the queues that take applications.
func (q queue) leaves() (paths []string) {
	if len(q.children()) == 0 {
		return []string{q.path()}
	}
	for _, c := range q.children() {
		paths = append(paths, c.leaves()...)
	}
	return paths
}

// describe says how full a queue is, of the nodes without a label.
func (q queue) describe() string {
	u, l := q.in("")
	state := strings.ToLower(q.State)
	if state == "" {
		state = "running"
	}
	return fmt.Sprintf("queue %s is %s, uses %d of %d MiB and %d of %d cores, and %d of its applications wait for a driver",
		q.path(), state, u.Used.Memory, l.Most.Memory, u.Used.Cores, l.Most.Cores, q.waiting())
}

// tree is the answer to /scheduler: the capacity scheduler's root is there itself, the fair one's below.
type tree struct {
	Scheduler struct {
		Info struct {
			queue
			Root *queue `json:"rootQueue"`
		} `json:"schedulerInfo"`
	} `json:"scheduler"`
}

func (t *tree) root() queue {
	if t.Scheduler.Info.Root != nil {
		return *t.Scheduler.Info.Root
	}
	return t.Scheduler.Info.queue
}

// queues asks for the tree of queues.
func (r *rm) queues(ctx context.Context, user string) (queue, error) {
	var t tree
	err := r.call(ctx, http.MethodGet, "/scheduler", user, nil, &t)
	return t.root(), err
}

// labels asks which node labels the cluster has.
func (r *rm) labels(ctx context.Context, user string) ([]string, error) {
	var answer struct {
		Info json.RawMessage `json:"nodeLabelInfo"`
	}
	if err := r.call(ctx, http.MethodGet, "/get-node-labels", user, nil, &answer); err != nil {
		return nil, err
	}
	type label struct {
		Name string `json:"name"`
	}
	var many []label
	var one label
	switch { // a single one comes without its list
	case len(answer.Info) == 0:
	case json.Unmarshal(answer.Info, &many) == nil:
	case json.Unmarshal(answer.Info, &one) == nil:
		many = []label{one}
	}
	var names []string
	for _, l := range many {
		names = append(names, l.Name)
	}
	return names, nil
}
