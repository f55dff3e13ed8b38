package yarn

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
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
	Resources   struct {
		ByPartition []struct {
			Name string `json:"partitionName"`
			Used amount `json:"used"`
		} `json:"resourceUsagesByPartition"`
	} `json:"resources"`
	Capacities struct {
		ByPartition []struct {
			Name string `json:"partitionName"`
			Most amount `json:"effectiveMaxResource"`
		} `json:"queueCapacitiesByPartition"`
	} `json:"capacities"`
	FairUsed amount `json:"usedResources"`
	FairMost amount `json:"maxResources"`
}

// amount is of memory, in MiB, and of cores.
type amount struct {
	Memory int `json:"memory"`
	Cores  int `json:"vCores"`
}

func (q queue) children() []queue { return append(q.Children.Queue, q.FairChildren.Queue...) }

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
	used, most := q.FairUsed, q.FairMost
	for _, p := range q.Resources.ByPartition {
		if p.Name == "" {
			used = p.Used
		}
	}
	for _, p := range q.Capacities.ByPartition {
		if p.Name == "" {
			most = p.Most
		}
	}
	state := strings.ToLower(q.State)
	if state == "" {
		state = "running"
	}
	return fmt.Sprintf("queue %s is %s, uses %d of %d MiB and %d of %d cores, and %d of its applications wait for a driver",
		q.path(), state, used.Memory, most.Memory, used.Cores, most.Cores, q.Waiting+q.FairWaiting)
}

// queues asks for the tree of queues.
func (r *rm) queues(ctx context.Context, user string) (queue, error) {
	var answer struct {
		Scheduler struct {
			Info json.RawMessage `json:"schedulerInfo"`
		} `json:"scheduler"`
	}
	if err := r.call(ctx, http.MethodGet, "/scheduler", user, nil, &answer); err != nil {
		return queue{}, err
	}
	var fair struct {
		Root *queue `json:"rootQueue"`
	}
	var root queue
	err := json.Unmarshal(answer.Scheduler.Info, &fair)
	if err == nil && fair.Root != nil {
		return *fair.Root, nil
	}
	if err == nil {
		err = json.Unmarshal(answer.Scheduler.Info, &root)
	}
	if err != nil {
		return queue{}, fmt.Errorf("the scheduler's queues: %w", err)
	}
	return root, nil
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
