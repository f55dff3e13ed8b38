package spark

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

// Connect reports nearly every failure as gRPC INTERNAL; the class and SQLSTATE lie in a google.rpc.ErrorInfo (4.0 and
// later) or only in the text (3.5), which starts with "[CLASS]" and often ends with "SQLSTATE: xxxxx". What failed in a
// task comes in 3.5 as "Job aborted …: java.lang.SomeException: [CLASS] …", with the stack of the task behind it.
var (
	classInText = regexp.MustCompile(`(?:^|^Job aborted [^\n]*?(?:Exception|Error): )\[([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)\]`)
	stateInText = regexp.MustCompile(`SQLSTATE: ([0-9A-Z]{5})`)
)

// failure is a gRPC error taken apart.
type failure struct {
	engines.Error
	code    codes.Code
	errorID string // key for FetchErrorDetails, which tells the rest once
}

func parseFailure(err error) failure {
	st := status.Convert(err)
	f := failure{code: st.Code()}
	f.Message = strings.TrimSpace(st.Message())
	if text, _, more := strings.Cut(f.Message, "\n\tat "); more {
		f.Message, f.Stack = text, f.Message
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			f.Class, f.SQLState, f.errorID = info.Metadata["errorClass"], info.Metadata["sqlState"], info.Metadata["errorId"]
		}
	}
	f.complete()
	return f
}

func (f *failure) complete() {
	if m := classInText.FindStringSubmatch(f.Message); f.Class == "" && m != nil {
		f.Class = m[1]
	}
	if m := stateInText.FindStringSubmatch(f.Message); f.SQLState == "" && m != nil {
		f.SQLState = m[1]
	}
	f.Canceled = f.Class == "OPERATION_CANCELED" || strings.Contains(f.Message, "OPERATION_CANCELED")
}

// lostClasses say that the session, or the whole engine behind an address, is no longer the one we spoke with.
func lostClass(class string) bool {
	switch class {
	case "INVALID_HANDLE.SESSION_NOT_FOUND", "INVALID_HANDLE.SESSION_CLOSED", "INVALID_HANDLE.SESSION_CHANGED":
		return true
	}
	return false
}

// cut says that the stream broke and the execution may still be there: a new reader took over, or the transport failed.
func (f failure) cut() bool {
	return f.code == codes.Unavailable || f.Class == "INVALID_CURSOR.DISCONNECTED"
}

// stopped says that the engine's Spark has ended while its server still answers, as it does for a while when its cluster
// kills it. Spark gives this no error class.
func (f failure) stopped() bool {
	return strings.Contains(f.Message, "Cannot call methods on a stopped SparkContext") || strings.Contains(f.Message, "SparkContext was shut down")
}

// translate turns a gRPC error of a session's call into what the seams promise.
func (s *session) translate(err error) error {
	if err == nil {
		return nil
	}
	if ctx := ctxError(err); ctx != nil {
		return ctx
	}
	f := parseFailure(err)
	switch {
	case f.code == codes.Unauthenticated:
		return fmt.Errorf("%w: %s", engines.ErrDenied, f.Message)
	case f.code == codes.Unavailable || lostClass(f.Class) || f.stopped():
		return fmt.Errorf("%w: %s", engines.ErrLost, f.Message)
	case f.errorID != "":
		s.enrich(&f)
	}
	e := f.Error
	return &e
}

func ctxError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch status.Code(err) {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	return nil
}

// enrich asks for what did not fit into the trailer: the whole message, class, state and stack. It can be asked once.
func (s *session) enrich(f *failure) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	resp, err := s.rpc.FetchErrorDetails(ctx, &connectpb.FetchErrorDetailsRequest{
		SessionId: s.id, UserContext: s.user, ErrorId: f.errorID, ClientType: clientType,
	})
	if err != nil || resp.RootErrorIdx == nil || int(*resp.RootErrorIdx) >= len(resp.Errors) {
		return // the trailer's text has to do
	}
	root := resp.Errors[*resp.RootErrorIdx]
	if root.Message != "" {
		f.Message = strings.TrimSpace(root.Message)
	}
	if t := root.SparkThrowable; t != nil {
		if t.ErrorClass != nil {
			f.Class = *t.ErrorClass
		}
		if t.SqlState != nil {
			f.SQLState = *t.SqlState
		}
	}
	f.Stack = stackText(resp.Errors, root)
	f.complete()
}

func stackText(all []*connectpb.FetchErrorDetailsResponse_Error, e *connectpb.FetchErrorDetailsResponse_Error) string {
	var b strings.Builder
	for depth := 0; e != nil && depth < len(all); depth++ {
		if depth > 0 {
			b.WriteString("Caused by: ")
		}
		if len(e.ErrorTypeHierarchy) > 0 {
			b.WriteString(e.ErrorTypeHierarchy[0] + ": ")
		}
		b.WriteString(e.Message + "\n")
		for _, t := range e.StackTrace {
			fmt.Fprintf(&b, "\tat %s.%s(%s:%d)\n", t.DeclaringClass, t.MethodName, t.GetFileName(), t.LineNumber)
		}
		if e.CauseIdx == nil || int(*e.CauseIdx) >= len(all) {
			break
		}
		e = all[*e.CauseIdx]
	}
	return b.String()
}
