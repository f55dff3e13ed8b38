package hs2

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

// This is the one place where errors become Thrift statuses. infoMessages stay unset: Java clients parse them as a
// stack trace and fail where it is none.

func success() *tcli.TStatus { return &tcli.TStatus{StatusCode: tcli.TStatusCode_SUCCESS_STATUS} }

func (h *handler) status(err error) *tcli.TStatus {
	if err == nil {
		return success()
	}
	return h.failed(err)
}

func (h *handler) failed(err error) *tcli.TStatus {
	var f *session.Failure
	if !errors.As(err, &f) {
		f = &session.Failure{SQLState: "HY000", Message: err.Error()}
	}
	return &tcli.TStatus{
		StatusCode: tcli.TStatusCode_ERROR_STATUS, SqlState: ptr(f.SQLState), ErrorCode: ptr(int32(0)), ErrorMessage: ptr(h.text(f)),
	}
}

// text is what the user reads of a failure.
func (h *handler) text(f *session.Failure) string {
	if h.server.opt.StackTraces && f.Stack != "" {
		return f.Message + "\n" + f.Stack
	}
	return f.Message
}

// Hue opens a new session when it reads "Invalid SessionHandle", and Hive JDBC 4 passes over "Invalid OperationHandle"
// when it closes, so the texts are part of the protocol.
func invalidSession(h *tcli.TSessionHandle) error {
	return &session.Failure{Class: "SLUICE_INVALID_HANDLE", SQLState: "HY000",
		Message: fmt.Sprintf("Invalid SessionHandle: SessionHandle [%s]", guid(h.GetSessionId()))}
}

func invalidOperation(h *tcli.TOperationHandle) error {
	return &session.Failure{Class: "SLUICE_INVALID_HANDLE", SQLState: "HY000",
		Message: fmt.Sprintf("Invalid OperationHandle: OperationHandle [opType=%s, getHandleIdentifier()=%s]", h.GetOperationType(), guid(h.GetOperationId()))}
}

func guid(h *tcli.THandleIdentifier) string {
	id, err := uuid.FromBytes(h.GetGUID())
	if err != nil {
		return fmt.Sprintf("%x", h.GetGUID())
	}
	return id.String()
}

// stateOf is an operation's state on the wire. What waits for an engine is RUNNING: Superset takes PENDING for the end.
// Clients of protocols before Hive 2 know no TIMEDOUT, and impyla fails on the number: to them it is an ERROR, whose
// message tells of the time limit.
func stateOf(s session.State, protocol tcli.TProtocolVersion) tcli.TOperationState {
	switch s {
	case session.Pending, session.Running:
		return tcli.TOperationState_RUNNING_STATE
	case session.Finished:
		return tcli.TOperationState_FINISHED_STATE
	case session.Canceled:
		return tcli.TOperationState_CANCELED_STATE
	case session.TimedOut:
		if protocol < tcli.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V9 {
			return tcli.TOperationState_ERROR_STATE
		}
		return tcli.TOperationState_TIMEDOUT_STATE
	case session.Closed:
		return tcli.TOperationState_CLOSED_STATE
	}
	return tcli.TOperationState_ERROR_STATE
}

var operationTypes = map[session.Kind]tcli.TOperationType{
	session.Statement:   tcli.TOperationType_EXECUTE_STATEMENT,
	"GetTypeInfo":       tcli.TOperationType_GET_TYPE_INFO,
	"GetCatalogs":       tcli.TOperationType_GET_CATALOGS,
	"GetSchemas":        tcli.TOperationType_GET_SCHEMAS,
	"GetTables":         tcli.TOperationType_GET_TABLES,
	"GetTableTypes":     tcli.TOperationType_GET_TABLE_TYPES,
	"GetColumns":        tcli.TOperationType_GET_COLUMNS,
	"GetFunctions":      tcli.TOperationType_GET_FUNCTIONS,
	"GetPrimaryKeys":    tcli.TOperationType_GET_FUNCTIONS, // there is no type of their own
	"GetCrossReference": tcli.TOperationType_GET_FUNCTIONS,
}

// operationHandle has a result set always, as Spark's server says: a statement without rows gives an empty one.
func operationHandle(o *session.Operation) *tcli.TOperationHandle {
	return &tcli.TOperationHandle{
		OperationId:   &tcli.THandleIdentifier{GUID: o.ID[:], Secret: o.Secret[:]},
		OperationType: operationTypes[o.Kind], HasResultSet: true,
	}
}

// progressHeaders are the columns of Beeline's progress bar: nine, or its formatting fails.
var progressHeaders = []string{"STAGES", "ATTEMPT", "STATUS", "TOTAL", "COMPLETED", "RUNNING", "PENDING", "FAILED", ""}

func progress(snap session.Snapshot) *tcli.TProgressUpdateResp {
	out := &tcli.TProgressUpdateResp{HeaderNames: progressHeaders, Rows: [][]string{}, StartTime: snap.Created.UnixMilli(),
		Status: tcli.TJobExecutionStatus_IN_PROGRESS}
	if snap.State.Terminal() {
		out.Status = tcli.TJobExecutionStatus_COMPLETE
	}
	var total, done, finished int64
	running := snap.Progress.Running
	for _, st := range snap.Progress.Stages {
		total, done = total+st.Tasks, done+st.Done
		now := int64(0)
		state := "PENDING"
		switch {
		case st.Finished:
			state = "FINISHED"
			finished++
		case st.Done > 0 || running > 0:
			state = "RUNNING"
			now = min(running, st.Tasks-st.Done) // Connect tells the tasks of all stages together
			running -= now
		}
		num := func(n int64) string { return strconv.FormatInt(n, 10) }
		out.Rows = append(out.Rows, []string{"Stage-" + num(st.ID), "0", state, num(st.Tasks), num(st.Done), num(now),
			num(max(st.Tasks-st.Done-now, 0)), "0", ""})
	}
	if total > 0 {
		out.ProgressedPercentage = float64(done) / float64(total)
	}
	out.FooterSummary = fmt.Sprintf("STAGES: %02d/%02d", finished, len(snap.Progress.Stages))
	if len(out.Rows) == 0 && out.Status == tcli.TJobExecutionStatus_IN_PROGRESS {
		out.Status = tcli.TJobExecutionStatus_NOT_AVAILABLE // nothing to draw yet
	}
	return out
}
