package config

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Shuffle is the remote shuffle service that a cluster's engines exchange rows through.
type Shuffle struct {
	Masters   string            `koanf:"masters" help:"Masters of the remote shuffle service that engines there use, host:port with commas between them. Empty: executors keep their shuffle files themselves."`
	Client    string            `koanf:"client" help:"Jar of Apache Celeborn's client for Spark, as it is published, for the line of Spark that runs there (celeborn-client-spark-3-shaded_2.12-….jar is for Spark 3). A file of this machine; or local:///PATH, which is there on every node or in the image; or, on YARN, hdfs://…. On Kubernetes it is local:///PATH. none: only the runtimes in clients use the service."`
	Clients   map[string]string `koanf:"clients" help:"The same for other runtimes, by their names. A runtime without one has client; none keeps it off the service."`
	Replicate bool              `koanf:"replicate" help:"What is written lies on two workers, so that losing one costs seconds; false: half the disk and network, and what a lost worker held is computed again. With a single worker it must be false."`
	Fallback  string            `koanf:"fallback" help:"never: without the service a query waits, and then fails; auto: its executors keep shuffle files themselves then, without a word to anybody, and cannot be taken away without loss." oneof:"never,auto"`
}

// NoClient keeps a runtime off a cluster's shuffle service.
const NoClient = "none"

// MasterList are the masters, one by one.
func (s Shuffle) MasterList() (out []string) {
	for _, at := range strings.Split(s.Masters, ",") {
		if at = strings.TrimSpace(at); at != "" {
			out = append(out, at)
		}
	}
	return out
}

// ClientOf is the jar of a runtime, and the key that names it.
func (s Shuffle) ClientOf(runtime string) (jar, key string) {
	if jar, ok := s.Clients[runtime]; ok && runtime != "" {
		return jar, "clients." + runtime
	}
	return s.Client, "client"
}

// expand makes paths on this machine absolute.
func (s Shuffle) expand() (Shuffle, error) {
	onDisk := func(jar string) (string, error) {
		if jar == NoClient || strings.Contains(jar, "://") {
			return jar, nil
		}
		return expand(jar)
	}
	var err error
	if s.Client, err = onDisk(s.Client); err != nil {
		return s, err
	}
	s.Clients = maps.Clone(s.Clients)
	for name, jar := range s.Clients {
		if s.Clients[name], err = onDisk(jar); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s Shuffle) validate(path, kind string, runtimes map[string]Runtime, wrong complaint) {
	masters := s.MasterList()
	if len(masters) == 0 && (s.Masters != "" || s.Client != "" || len(s.Clients) > 0) {
		wrong(path+".masters", "must name the masters of the shuffle service, such as shuffle-1:9097; without one there is nothing to use the client for")
	}
	for _, at := range masters {
		if host, port, err := net.SplitHostPort(at); err != nil || host == "" || !isPort(port) {
			wrong(path+".masters", "%q is no host:port; write it like shuffle-1:9097", at)
		}
	}
	if len(masters) > 0 && s.Client == "" {
		wrong(path+".client", "must name the client's jar, such as /opt/celeborn/celeborn-client-spark-3-shaded_2.12-0.5.4.jar; or none, if only runtimes in clients use the service")
	}
	if s.Client != "" {
		checkClient(path+".client", kind, s.Client, wrong)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		if _, ok := runtimes[name]; !ok {
			wrong(path+".clients."+name, "there is no runtime of that name; add it to runtimes")
		}
		checkClient(path+".clients."+name, kind, s.Clients[name], wrong)
	}
}

// checkClient says whether a cluster of a kind can reach a jar that is named like this.
func checkClient(path, kind, jar string, wrong complaint) {
	scheme, rest, remote := strings.Cut(jar, "://")
	switch {
	case jar == NoClient:
	case !strings.HasSuffix(jar, ".jar"):
		wrong(path, "%q is no jar; name the client's, or none", jar)
	case strings.ContainsAny(jar, ":,*") && !remote || strings.ContainsAny(rest, ":,*") && scheme != "hdfs":
		wrong(path, "%q cannot stand in a class path; name one file, without : , and *", jar)
	case kind == "kubernetes" && scheme != "local":
		wrong(path, "%q cannot be reached by pods, whose executors come and go without the gateway; put it into the image, or into a volume of driver_template and executor_template, and name it as local:///PATH", jar)
	case remote && scheme != "local" && (scheme != "hdfs" || kind != "yarn"):
		wrong(path, "%q: the jar is not fetched from there; name a file of this machine, local:///PATH or, on YARN, hdfs://…", jar)
	case scheme == "local" && !strings.HasPrefix(rest, "/"):
		wrong(path, "%q must be local:///PATH, with three slashes", jar)
	}
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n > 0 && n < 1<<16
}
