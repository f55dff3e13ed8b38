package engines

import "errors"

// Sentinels for what front ends tell apart.
var (
	// ErrLost says that the engine is gone or has forgotten the session: the statement failed, the next one may work.
	ErrLost = errors.New("the engine is gone")
	// ErrDenied says that an engine refused our token or named another application: nothing was sent.
	ErrDenied = errors.New("the engine is not ours")
	// ErrAway says that a cluster does not answer: what was asked of it may work elsewhere, or later.
	ErrAway = errors.New("the cluster does not answer")
)

// Error is a failure that the engine reports about a user's statement.
type Error struct {
	Class    string // the engine's error class, such as "TABLE_OR_VIEW_NOT_FOUND"
	SQLState string // five characters, or empty
	Message  string // the engine's text, without a stack trace
	Stack    string // the engine's stack trace, if it told one
	Canceled bool   // somebody interrupted the execution
}

func (e *Error) Error() string { return e.Message }
