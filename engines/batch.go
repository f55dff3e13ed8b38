package engines

import "context"

// Batch says what is to run once, from its beginning to its end. Its program is one of Jar, Python and SQL.
//
// Files are named by URIs: a path on the gateway's own machine (/etl/job.jar, or file:///etl/job.jar), which the gateway
// reads with its own rights, or hdfs://…, which the cluster reads with the user's. Behind a # may stand the name that the
// file has in the application's working directory; without it that is the file's own.
type Batch struct {
	ID       string            // unique for ever, among engines too
	User     string            // on whose behalf it runs
	Name     string            // what people see in the cluster's lists
	Memory   string            // heap of the driver in Java's form, such as "1g"
	Conf     map[string]string // settings that its user wishes; the platform's win over them
	Jar      string            // a jar with the class Class, whose main method is the program
	Class    string            // only with Jar
	Python   string            // a .py file
	PyFiles  []string          // only with Python: modules (.py) and packages (.zip, .egg) that it imports
	SQL      string            // a script of statements, each ended by a semicolon
	Args     []string          // of the program; a script of SQL takes none
	Jars     []string          // more jars on the class path, of driver and executors
	Files    []string
	Archives []string // unpacked, each into a directory of its name
}

// BatchDriver is a Driver that knows batches, too.
type BatchDriver interface {
	Driver
	// PlanBatch renders what to stage and run. It is pure: whether the files are there is for the cluster to see.
	PlanBatch(Batch, Platform) (Launch, error)
}

// Program is what a Launch of a batch runs. Its names are those of files in the application's working directory.
type Program struct {
	Python   bool     // Main is a Python file, which the launch's MainClass runs; otherwise Main is the jar with MainClass
	Main     string   // one of Bring, or of the launch's own Files
	Jars     []string // of Bring: on the class path, behind Main
	Packages []string // of Bring: Python finds them
	Bring    []File   // no two have one Link
}

// File is one that an application finds in its working directory.
type File struct {
	Field   string // who named it, such as "files[0]" of a Batch, to be said in errors
	From    string // a path on the gateway's machine, or hdfs://…
	Link    string // its name in the working directory
	Archive bool   // unpacked, into a directory of that name
}

// Outcome is how an application ended.
type Outcome string

// How applications end.
const (
	Succeeded Outcome = "SUCCEEDED"
	Failed    Outcome = "FAILED"
	Killed    Outcome = "KILLED"
)

// BatchCluster is a Cluster whose Submit takes a Launch with a Program, too. What Kill, Watch and Log do for an engine they
// do for a batch; List has engines alone, and nobody need Renew a batch.
type BatchCluster interface {
	Cluster
	// Batch returns a batch that was submitted, as long as its cluster remembers it, whether it has ended or not. found is
	// false if the cluster knows none of that tag.
	Batch(ctx context.Context, tag Tag) (app App, found bool, err error)
	// Output returns the end of what an application has written to its standard output, at most n bytes. Like the Log it
	// can be read for some minutes after the application's end.
	Output(ctx context.Context, tag Tag, n int) (string, error)
}
