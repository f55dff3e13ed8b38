package session

import (
	"fmt"

	"github.com/sluicedata/sluice/engines"
)

// jobs tells of a statement's progress in the words of Hive, whose log lines old tools read. A job of Hive is a stage of
// Spark that has begun, counted in the order in which they begin. How many there will be Spark does not know before
// (it plans the next ones with what the last ones have shown), so the total is that of the stages known by now and is
// said again when it grows.
type jobs struct {
	number       map[int64]int // of a stage that has begun
	first, total int           // stages that were known at first, and are known now
	ended        int           // said to have ended
}

// lines says what has moved since the last time.
func (j *jobs) lines(before, now engines.Progress) []string {
	var out []string
	if len(now.Stages) > j.total {
		if j.total == 0 {
			j.first = len(now.Stages)
		}
		j.total = len(now.Stages)
		out = append(out, fmt.Sprintf("INFO  : Total jobs = %d", j.total))
	}
	old := map[int64]engines.Stage{}
	for _, st := range before.Stages {
		old[st.ID] = st
	}
	for _, st := range now.Stages {
		if old[st.ID] != st {
			out = append(out, j.stage(st)...)
		}
	}
	return out
}

func (j *jobs) stage(st engines.Stage) []string {
	tasks := fmt.Sprintf("INFO  : Stage %d: %d of %d tasks", st.ID, st.Done, st.Tasks)
	if st.Done == 0 && !st.Finished {
		return []string{tasks} // Spark also lists stages that it skips: they never begin
	}
	var out []string
	n, begun := j.number[st.ID]
	if !begun {
		if j.number == nil {
			j.number = map[int64]int{}
		}
		n = len(j.number) + 1
		j.number[st.ID] = n
		out = append(out, fmt.Sprintf("INFO  : Launching Job %d out of %d", n, j.total))
		if n <= j.first {
			out = append(out, fmt.Sprintf("INFO  : Starting Job = stage %d", st.ID))
		}
	}
	// Superset takes each batch of lines by itself, and one that names no job for the first of one. It also takes the mean
	// of map and reduce, and a stage has tasks of one kind only.
	percent := 100
	if st.Tasks > 0 && !st.Finished {
		percent = int(100 * st.Done / st.Tasks)
	}
	if st.Finished {
		tasks += ", done"
	}
	out = append(out, fmt.Sprintf("%s; Stage-%d map = %d%%,  reduce = %d%% (Launching Job %d out of %d)", tasks, n, percent, percent, n, j.total))
	// Hue divides the starts and ends by the first total it reads: more of them would be more than everything, and all of
	// them would be the end, which only the operation's state tells.
	if st.Finished && j.ended < j.first-1 {
		j.ended++
		out = append(out, fmt.Sprintf("INFO  : Ended Job = stage %d", st.ID))
	}
	return out
}
