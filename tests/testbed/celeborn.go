package testbed

import (
	"os"
	"path/filepath"
	"regexp"

	"github.com/sluicedata/sluice/engines/spark/dist"
)

// stockClient is the one client of Apache Celeborn that can be fetched everywhere.
const stockClient = "org.apache.celeborn:celeborn-client-spark-3-shaded_2.12:0.5.4:jar"

// Celeborn is a shuffle client's jar, unmodified, and the Spark that it is for.
type Celeborn struct{ Jar, Spark string }

var clientFor = regexp.MustCompile(`^celeborn-client-spark-(\d)-shaded_2\.\d+-`)

// CelebornClient is the stock client: that of CELEBORN_CLIENT_JAR, whose name says which Spark it is for, or else the one that
// is fetched once.
func CelebornClient(t T) Celeborn {
	t.Helper()
	jar := os.Getenv("CELEBORN_CLIENT_JAR")
	if jar == "" {
		return Celeborn{Jar: Jar(t, stockClient), Spark: OldSpark}
	}
	m := clientFor.FindStringSubmatch(filepath.Base(jar))
	versions := map[string]string{"3": OldSpark, "4": SparkVersion}
	if m == nil || versions[m[1]] == "" {
		t.Fatalf("CELEBORN_CLIENT_JAR: %s does not say which Spark it is for; name it as it is published, celeborn-client-spark-4-shaded_2.13-0.7.0.jar", jar)
	}
	if _, err := os.Stat(jar); err != nil {
		t.Fatalf("CELEBORN_CLIENT_JAR: %v", err)
	}
	return Celeborn{Jar: jar, Spark: versions[m[1]]}
}

// sparkOf is the home of a stock Spark, fetched into the cache once.
func sparkOf(t T, version string) string {
	t.Helper()
	FetchSpark(t, version)
	home, ok := dist.Installed(version)
	if !ok {
		t.Fatalf("Spark %s was not fetched", version)
	}
	return home
}
