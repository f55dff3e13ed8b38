// Package engines is the vocabulary of what runs users' work: an engine is a running Spark (or Flink) application,
// a cluster is a place that runs applications, and a driver knows one kind of engine. Nothing here does I/O.
//
// The seams keep two promises. Adding a kind of cluster or engine touches no front end, and nothing above this
// package knows where an engine runs. The ids of sessions and operations are the caller's, stored before an engine
// hears of them, so that another process can go on with them.
package engines

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"
)

// Kind names a kind of engine, such as "spark".
type Kind string

// Tag marks an application on its cluster; it is the engine's id, so that a gateway that starts anew can find it.
type Tag string

// AppID is what a cluster or an engine calls an application, such as Spark's spark.app.id.
type AppID string

// OperationID is the caller's id of one execution.
type OperationID = uuid.UUID

// Spec says what engine is wanted.
type Spec struct {
	ID     string            // the engine's id, unique for ever
	User   string            // on whose behalf it runs
	Name   string            // what people see in the cluster's lists
	Memory string            // heap of the driver in Java's form, such as "1g"
	Conf   map[string]string // settings that its user wishes; the platform's win over them
	Token  string            // the secret that its clients must show
}

// Platform is what a Plan has to know about a cluster.
type Platform struct {
	Home string            // the engine's distribution, as a path on the machines where drivers run
	Java string            // the java command there
	Conf map[string]string // settings that belong to the place: master, addresses, warehouse, catalogue
	// Version is the version of the distribution, such as "4.3.0"; empty if the place cannot tell.
	Version string
	// Closed says that only gateways reach engines there: an engine that asks nobody who they are may run.
	Closed bool
	// Shuffle is where engines there exchange rows; nil where executors keep shuffle files themselves.
	Shuffle *Shuffle
}

// Launch is what a cluster is to stage and run for one engine or batch, rendered purely from a Spec or Batch: no I/O, no clock.
type Launch struct {
	Tag        Tag
	User       string
	Name       string
	Memory     string // heap of the driver in Java's form; JVMOptions say it too
	Java       string
	JVMOptions []string
	ClassPath  []string
	MainClass  string
	Args       []string
	Conf       map[string]string // the engine's settings; a cluster says how they reach the process
	Env        map[string]string // secrets travel here and never in arguments
	Files      map[string]string // name to content, put into the working directory
	Ready      string            // regular expression of the log line that tells the address; group 1 is host:port
	Program    *Program          `json:",omitempty"` // what a batch runs; nil for an engine
}

// State is where an application stands.
type State string

// The states of an application, in order. An engine is Running once its address is known, a batch once its driver runs.
const (
	Pending  State = "PENDING"  // accepted, not yet running
	Starting State = "STARTING" // its process runs, its address is not known yet
	Running  State = "RUNNING"
	Ended    State = "ENDED"
)

// Endpoint is where an engine listens, and the secret it asks for.
type Endpoint struct {
	Address string // host:port
	Token   string
}

// App is one application as its cluster sees it.
type App struct {
	Tag     Tag
	ID      AppID // empty where the cluster gives none
	State   State
	Address string  // host:port once Running
	Reason  string  // why it stands where it stands, in words for its user
	Log     string  // where its log can be read
	URL     string  // its own page, or its cluster's about it; empty where there is none
	Outcome Outcome // once it has ended; empty as long as it has not, or if the cluster cannot tell
	Steps   Steps
}

// Steps is how long the parts of a start took; a part that has not ended, or that the cluster cannot tell, is 0.
type Steps struct {
	Staging    time.Duration // files written, until the cluster has accepted the application
	Scheduling time.Duration // until it has a place
	Container  time.Duration // files fetched there, until the process is started
	Process    time.Duration // until it has registered with the cluster
	Listening  time.Duration // until it listens
}

// Each calls f for every step that is known, in order.
func (s Steps) Each(f func(name string, took time.Duration)) {
	for _, step := range []struct {
		name string
		took time.Duration
	}{{"staging", s.Staging}, {"scheduling", s.Scheduling}, {"container", s.Container}, {"process", s.Process}, {"listening", s.Listening}} {
		if step.took > 0 {
			f(step.name, step.took)
		}
	}
}

// Event tells that an application changed, or News of it: what has happened to it that its users should read.
type Event struct {
	App  App
	News string // empty if App has changed
}

// Driver knows one kind of engine.
type Driver interface {
	Kind() Kind
	// Plan renders what to stage and run. It is pure.
	Plan(Spec, Platform) (Launch, error)
	// Dial makes a client of a running engine. It does not wait for the engine.
	Dial(context.Context, Endpoint) (Engine, error)
	// RootCause finds in an engine's log why it did not start; empty if the log does not tell.
	RootCause(log string) string
}

// Cluster is a place that runs applications.
type Cluster interface {
	Name() string
	// Platform prepares what launches of a runtime need here (a distribution, a catalogue) and describes it; an empty
	// runtime is the default one. report tells a waiting user what takes time.
	Platform(ctx context.Context, runtime string, report func(string)) (Platform, error)
	// Submit is idempotent per tag: a second call with a live tag returns the application that runs.
	Submit(context.Context, Launch) (App, error)
	// List returns all of this instance's live applications, or an error: never a part.
	List(context.Context) ([]App, error)
	// Watch sends every change of this instance's applications until ctx ends, then closes the channel.
	Watch(context.Context) (<-chan Event, error)
	// Kill ends an application and returns once it is gone. An unknown tag is no error.
	Kill(context.Context, Tag) error
	// Renew keeps an application alive for another lease.
	Renew(context.Context, Tag) error
	// Log returns the end of an application's log, at most n bytes.
	Log(ctx context.Context, tag Tag, n int) (string, error)
	// Close lets go of what the cluster itself keeps running. It does not end engines.
	io.Closer
}

// Identity is what an engine says it is.
type Identity struct {
	Tag     Tag
	AppID   AppID
	Version string // of the engine's software, such as "4.3.0"
	// MaxSessions is how many sessions the engine may have open at a time, with all its clients together; 0 means any
	// number. With one more it would silently forget one of them.
	MaxSessions int
}

// SessionSpec says what a session on an engine starts with.
type SessionSpec struct {
	ID       uuid.UUID // ours; stored before the engine hears of it
	User     string
	Conf     map[string]string // settings, in the engine's own keys
	Catalog  string            // current catalogue, empty for the engine's default
	Database string            // current database, empty for the engine's default
	// Known says that the engine has this session already: if it has forgotten it, opening it is an ErrLost. Without it
	// an engine that cannot tell would begin an empty one.
	Known bool
}

// Engine is a client of one running engine. It is safe for concurrent use.
type Engine interface {
	// Identify asks the engine who it is. Until it has named our application no user's statement may be sent.
	Identify(context.Context) (Identity, error)
	OpenSession(context.Context, SessionSpec) (Session, error)
	Close() error
}

// Session is one conversation with an engine. It is safe for concurrent use.
type Session interface {
	// Start begins a query under an id that the caller has stored. The execution outlives ctx.
	Start(ctx context.Context, id OperationID, q Query) (Execution, error)
	// Attach goes on with an execution after a cut, or after our own restart, behind the given position.
	Attach(ctx context.Context, id OperationID, at Position) (Execution, error)
	// Set changes settings of the session and returns what the given keys held before.
	Set(ctx context.Context, conf map[string]*string) (before map[string]*string, err error)
	// TableSchema returns the columns of a table or view without running anything.
	TableSchema(ctx context.Context, parts ...string) ([]TableColumn, error)
	Close(context.Context) error
}

// QuoteName writes a name of several parts as SQL does.
func QuoteName(parts ...string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		quoted[i] = "`" + strings.ReplaceAll(p, "`", "``") + "`"
	}
	return strings.Join(quoted, ".")
}

// TableColumn is one column of a table, with its type in the engine's words.
type TableColumn struct {
	Name     string
	Type     string // such as "DECIMAL(10,2)"
	Nullable bool
	Comment  string
}

// Query is a statement to run, or a question that no statement asks.
type Query struct {
	SQL        string
	Functions  []string       // in place of SQL: list the functions of the schema with these parts
	ReturnRows bool           // the text is known to be a query, not a command: saves a round trip
	Tags       []string       // put on the engine's jobs; no commas
	Progress   func(Progress) // called from Next, may be nil
}

// The columns that a Query for functions gives, by their places; others stand between them.
const (
	FunctionName  = 0
	FunctionUsage = 3
	FunctionClass = 4
)

// Progress is how far an execution has come.
type Progress struct {
	Stages    []Stage
	Running   int64 // tasks that run now
	BytesRead int64
}

// Stage is a part of an execution.
type Stage struct {
	ID, Tasks, Done int64
	Finished        bool
}

// Position is how far a reader has come in an execution. Token is the driver's own; Rows counts the rows before it.
type Position struct {
	Token string
	Rows  int64
}

// Execution is one running query. A context's end detaches from it and the next call goes on where it was cut; only
// Cancel interrupts. It has one reader, which also calls Durable; Cancel and Release may be called from elsewhere.
type Execution interface {
	// Schema is nil until the first Next has returned without an error, and set from then on.
	Schema() *arrow.Schema
	// Next returns the next batch, which the caller releases, and the position behind it. It returns io.EOF at the end.
	Next(context.Context) (arrow.RecordBatch, Position, error)
	// Durable says that the rows before a position, one that Next has returned, will never be asked for again: the
	// engine may forget them. An Attach behind that position, or a later one, still works. Durable does not wait, and
	// the engine need not hear of every position.
	Durable(Position)
	Cancel(context.Context) error
	// Release lets the engine forget the execution. It must be called once, whatever happened.
	Release(context.Context) error
}
