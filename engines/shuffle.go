package engines

// Shuffle is a remote shuffle service, as engines of a place are to use it through Apache Celeborn's client.
type Shuffle struct {
	Masters   []string // host:port
	Jar       string   // the client's jar as it was configured: a path, hdfs://… or local:///…
	Client    string   // where drivers and executors find that jar, as their class paths name it
	Key       string   // who named the jar, such as clusters.big.shuffle.client, to be said in errors
	Replicate bool     // what is written lies on two workers
	Fallback  bool     // without the service executors keep shuffle files themselves, in place of failing
}
