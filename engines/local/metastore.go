package local

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/sluicedata/sluice/engines"
)

// metastoreTag is the directory of the catalogue among the applications. It is no engine: List leaves it out.
const metastoreTag = "metastore"

// metastoreSource starts the Hive metastore that lies among Spark's jars. Its own main class listens on every
// interface, without asking anybody who they are; this one listens on loopback. A JDK runs it from source, so no jar
// of ours is needed.
//
//go:embed Metastore.java
var metastoreSource string

// metastore is the catalogue of all local engines: a stock Hive metastore with an embedded Derby database on disk.
type metastore struct {
	mu     sync.Mutex
	port   int
	launch engines.Launch
}

// metastoreURI says where the catalogue listens, or will listen once an engine is submitted. The port is kept, so that
// engines that outlived a gateway find the catalogue again where it was.
//
// There is one catalogue for engines of all runtimes. It is always started from the default one, whichever session comes
// first: a Derby cannot open what a newer Derby has made, so it must not depend on chance. Hive 2.3's clients in
// Spark 3.5 and 4 both speak with the metastore of either.
func (c *Cluster) metastoreURI(ctx context.Context, rt Runtime) (string, error) {
	m := &c.meta
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := filepath.Join(c.opt.Dir, "catalogue")
	if m.port == 0 {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("cluster %s: %w", c.opt.Name, err)
		}
		unlock, err := c.lock(ctx)
		if err != nil {
			return "", err
		}
		defer unlock()
		if err := checkMaker(dir, rt.Version); err != nil {
			return "", fmt.Errorf("cluster %s: %w", c.opt.Name, err)
		}
		running := false
		if conn, err := dial(ctx, c.appDir(metastoreTag)); err == nil {
			running = true
			_ = conn.Close()
		}
		port, err := keptPort(ctx, filepath.Join(dir, "port.json"), running)
		if err != nil {
			return "", fmt.Errorf("cluster %s: a port for the catalogue: %w", c.opt.Name, err)
		}
		m.port = port
	}
	m.launch = engines.Launch{
		Tag: metastoreTag, Name: "catalogue", Java: rt.Java,
		// It is small and short: the first compiler tier is enough, and starts in half the time.
		JVMOptions: []string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=log4j2.properties"},
		ClassPath:  []string{filepath.Join(rt.Home, "jars", "*")},
		MainClass:  "Metastore.java",
		Args:       []string{strconv.Itoa(m.port)},
		Conf: map[string]string{
			"javax.jdo.option.ConnectionURL":   "jdbc:derby:" + filepath.Join(dir, "derby") + ";create=true",
			"datanucleus.schema.autoCreateAll": "true",
			// Dropping a database needs a pool of connections, or none: the pool that is Hive's default is not among Spark's jars.
			"datanucleus.connectionPoolingType":  "NONE",
			"hive.metastore.schema.verification": "false",
			"hive.metastore.warehouse.dir":       "file://" + c.warehouse(),
			"derby.stream.error.file":            filepath.Join(dir, "derby.log"),
		},
		Files: map[string]string{
			"Metastore.java":    metastoreSource,
			"log4j2.properties": "rootLogger.level = error\nrootLogger.appenderRef.out.ref = out\nappender.out.type = Console\nappender.out.name = out\nappender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d %p %c{1}: %m%n%ex\n",
		},
		Ready: `metastore listens on (\S+:\d+)`,
	}
	return fmt.Sprintf("thrift://127.0.0.1:%d", m.port), nil
}

// startMetastore sees to it that the catalogue runs; it does not wait until it listens. An engine starts more slowly,
// and its Hive client tries again.
func (c *Cluster) startMetastore(ctx context.Context) error {
	m := &c.meta
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.launch.Java == "" {
		return nil // nobody asked for the platform: a cluster without a catalogue
	}
	if _, err := c.submit(ctx, m.launch); err != nil {
		return fmt.Errorf("start the catalogue: %w", err)
	}
	return nil
}

// checkMaker writes down which Spark makes the catalogue, or refuses one that cannot open what is there: the engines
// would only see a catalogue that does not answer.
func checkMaker(dir, version string) error {
	file := filepath.Join(dir, "made_by")
	if _, err := os.Stat(filepath.Join(dir, "derby")); errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(file, []byte(version), 0o600)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody wrote it down; Derby itself will say what it cannot open
	}
	if err != nil {
		return err
	}
	maker := string(data)
	major := func(v string) string { m, _, _ := strings.Cut(v, "."); return m }
	if major(version) == "3" && major(maker) != "3" {
		return fmt.Errorf("the catalogue in %s was made by Spark %s, and the Derby of Spark %s cannot open it: make Spark %s the default runtime (spark.version or spark.home), and Spark %s one of the runtimes beside it",
			dir, maker, version, maker, version)
	}
	return nil
}

// keptPort returns the port in the file if the catalogue runs there or could, and otherwise a free one that it keeps.
func keptPort(ctx context.Context, file string, running bool) (int, error) {
	var kept struct {
		Port int `json:"port"`
	}
	if data, err := os.ReadFile(file); err == nil {
		_ = json.Unmarshal(data, &kept) // unreadable is like none
	}
	if running && kept.Port > 0 {
		return kept.Port, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", kept.Port))
	if err != nil {
		l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return 0, err
	}
	kept.Port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	data, err := json.Marshal(kept)
	if err != nil {
		return 0, err
	}
	return kept.Port, os.WriteFile(file, data, 0o600)
}
