package session

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

// superset is what Superset makes of the lines that are new to it.
func superset(lines []string) int {
	total, current, sum, stages := 1, 1, 0, map[string]int{}
	for _, l := range lines {
		if m := regexp.MustCompile(`INFO.*Total jobs = (\d+)`).FindStringSubmatch(l); m != nil {
			total, _ = strconv.Atoi(m[1])
		}
		if m := regexp.MustCompile(`INFO.*Launching Job (\d+) out of (\d+)`).FindStringSubmatch(l); m != nil {
			current, _ = strconv.Atoi(m[1])
			total, _ = strconv.Atoi(m[2])
			stages = map[string]int{}
		}
		if m := regexp.MustCompile(`INFO.*Stage-(\d+).*map = (\d+)%.*reduce = (\d+)%`).FindStringSubmatch(l); m != nil {
			a, _ := strconv.Atoi(m[2])
			b, _ := strconv.Atoi(m[3])
			stages[m[1]] = (a + b) / 2
		}
	}
	for _, p := range stages {
		sum += p
	}
	return (100*(current-1) + sum/max(len(stages), 1)) / total
}

// hue is what Hue makes of all lines.
func hue(lines []string) int {
	log := strings.Join(lines, "\n")
	total := 1
	if m := regexp.MustCompile(`Total jobs = (\d+)`).FindStringSubmatch(log); m != nil {
		total, _ = strconv.Atoi(m[1])
	}
	return max(5, (strings.Count(log, "Starting Job")+strings.Count(log, "Ended Job"))*100/(2*total))
}

func TestJobsInHivesWords(t *testing.T) {
	type stages = []engines.Stage
	steps := []struct {
		now           stages
		superset, hue int
	}{
		{stages{{ID: 4, Tasks: 8}}, 0, 5},
		{stages{{ID: 4, Tasks: 8, Done: 4}}, 50, 50},
		{stages{{ID: 4, Tasks: 8, Done: 8, Finished: true}}, 100, 50},
		{stages{{ID: 4, Tasks: 8, Done: 8, Finished: true}, {ID: 5, Tasks: 8}, {ID: 6, Tasks: 4}}, 0, 50}, // 5 is skipped
		{stages{{ID: 4, Tasks: 8, Done: 8, Finished: true}, {ID: 5, Tasks: 8}, {ID: 6, Tasks: 4, Done: 2}}, 50, 50},
		{stages{{ID: 4, Tasks: 8, Done: 8, Finished: true}, {ID: 5, Tasks: 8}, {ID: 6, Tasks: 4, Done: 4, Finished: true}}, 66, 50},
	}
	var j jobs
	var before engines.Progress
	var all []string
	for i, s := range steps {
		now := engines.Progress{Stages: s.now}
		lines := j.lines(before, now)
		all, before = append(all, lines...), now
		require.Equal(t, s.superset, superset(lines), "step %d: %q", i, lines)
		require.Equal(t, s.hue, hue(all), "step %d", i)
	}
	require.Empty(t, j.lines(before, before), "what did not move is not said")
	require.Equal(t, []string{
		"INFO  : Total jobs = 1",
		"INFO  : Stage 4: 0 of 8 tasks",
		"INFO  : Launching Job 1 out of 1",
		"INFO  : Starting Job = stage 4",
		"INFO  : Stage 4: 4 of 8 tasks; Stage-1 map = 50%,  reduce = 50% (Launching Job 1 out of 1)",
	}, all[:5])
}

func TestJobsKnownFromTheBeginning(t *testing.T) {
	var j jobs
	one := engines.Progress{Stages: []engines.Stage{{ID: 1, Tasks: 2, Done: 2, Finished: true}, {ID: 2, Tasks: 2}}}
	two := engines.Progress{Stages: []engines.Stage{one.Stages[0], {ID: 2, Tasks: 2, Done: 2, Finished: true}}}
	first := j.lines(engines.Progress{}, one)
	require.Equal(t, 50, superset(first))
	require.Equal(t, 50, hue(first))
	require.Equal(t, 75, hue(append(first, j.lines(one, two)...)), "only the operation's state says that all is done")
}
