package hs2

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

func TestProgress(t *testing.T) {
	created := time.UnixMilli(1_700_000_000_123)
	for name, tc := range map[string]struct {
		state    session.State
		progress engines.Progress
		status   tcli.TJobExecutionStatus
		percent  float64
		footer   string
		rows     [][]string
	}{
		"waits for an engine": {session.Pending, engines.Progress{}, tcli.TJobExecutionStatus_NOT_AVAILABLE, 0, "STAGES: 00/00", [][]string{}},
		"no stages yet":       {session.Running, engines.Progress{}, tcli.TJobExecutionStatus_NOT_AVAILABLE, 0, "STAGES: 00/00", [][]string{}},
		"ended without":       {session.Finished, engines.Progress{}, tcli.TJobExecutionStatus_COMPLETE, 0, "STAGES: 00/00", [][]string{}},
		"runs": {session.Running, engines.Progress{Running: 3, Stages: []engines.Stage{
			{ID: 1, Tasks: 4, Done: 4, Finished: true}, {ID: 2, Tasks: 8, Done: 2}, {ID: 10, Tasks: 4},
		}}, tcli.TJobExecutionStatus_IN_PROGRESS, 6.0 / 16, "STAGES: 01/03", [][]string{
			{"Stage-1", "0", "FINISHED", "4", "4", "0", "0", "0", ""},
			{"Stage-2", "0", "RUNNING", "8", "2", "3", "3", "0", ""},
			{"Stage-10", "0", "PENDING", "4", "0", "0", "4", "0", ""},
		}},
		"more tasks run than the first stage has left": {session.Running, engines.Progress{Running: 3, Stages: []engines.Stage{
			{ID: 1, Tasks: 2, Done: 1}, {ID: 2, Tasks: 4},
		}}, tcli.TJobExecutionStatus_IN_PROGRESS, 1.0 / 6, "STAGES: 00/02", [][]string{
			{"Stage-1", "0", "RUNNING", "2", "1", "1", "0", "0", ""},
			{"Stage-2", "0", "RUNNING", "4", "0", "2", "2", "0", ""},
		}},
		"failed": {session.Failed, engines.Progress{Stages: []engines.Stage{{ID: 0, Tasks: 2, Done: 1}}}, tcli.TJobExecutionStatus_COMPLETE, 0.5,
			"STAGES: 00/01", [][]string{{"Stage-0", "0", "RUNNING", "2", "1", "0", "1", "0", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := progress(session.Snapshot{State: tc.state, Created: created, Progress: tc.progress})
			require.Equal(t, []string{"STAGES", "ATTEMPT", "STATUS", "TOTAL", "COMPLETED", "RUNNING", "PENDING", "FAILED", ""}, got.HeaderNames)
			for _, row := range got.Rows {
				require.Len(t, row, 9, "Beeline's format fails with any other number of cells")
			}
			require.Equal(t, tc.rows, got.Rows)
			require.Equal(t, tc.status, got.Status)
			require.InDelta(t, tc.percent, got.ProgressedPercentage, 1e-9)
			require.Equal(t, tc.footer, got.FooterSummary)
			require.Equal(t, created.UnixMilli(), got.StartTime)
		})
	}
}

func TestStateOf(t *testing.T) {
	for state, want := range map[session.State]tcli.TOperationState{
		session.Pending:  tcli.TOperationState_RUNNING_STATE, // Superset takes PENDING for the end
		session.Running:  tcli.TOperationState_RUNNING_STATE,
		session.Finished: tcli.TOperationState_FINISHED_STATE,
		session.Canceled: tcli.TOperationState_CANCELED_STATE,
		session.TimedOut: tcli.TOperationState_TIMEDOUT_STATE,
		session.Closed:   tcli.TOperationState_CLOSED_STATE,
		session.Failed:   tcli.TOperationState_ERROR_STATE,
	} {
		require.Equal(t, want, stateOf(state, tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V9), string(state))
	}
	require.Equal(t, tcli.TOperationState_ERROR_STATE, stateOf(session.TimedOut, tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V8), "Hive 1 has no such state")
}
