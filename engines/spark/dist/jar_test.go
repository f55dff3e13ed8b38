package dist

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// needsJar makes 9.9.9 a version whose Connect server is a jar of its own.
func needsJar(t *testing.T, data, jarData []byte) (cache string) {
	t.Helper()
	cache = known(t, data)
	src := sources["9.9.9"]
	src.connect = jar{"org.apache.spark:spark-connect_2.12:9.9.9", hashOf(jarData)}
	sources["9.9.9"] = src
	return cache
}

// fakeMaven puts an mvn on the PATH that gives the jar, or fails as Maven does.
func fakeMaven(t *testing.T, jarData string) {
	t.Helper()
	dir := t.TempDir()
	script(t, filepath.Join(dir, "mvn"), `
[ -z "`+jarData+`" ] && { echo "[ERROR] Could not find the artifact"; echo "[ERROR] To see the full stack trace"; exit 1; }
for a in "$@"; do case "$a" in
  -Dartifact=org.apache.spark:spark-connect_2.12:9.9.9) named=yes;;
  -DoutputDirectory=*) out="${a#-DoutputDirectory=}";;
esac; done
[ "$named" ] && printf %s "`+jarData+`" > "$out/spark-connect_2.12-9.9.9.jar"`)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

var withoutConnect = append(append([]entry{}, spark[:4]...), entry{"pyspark-9.9.9/deps/jars/spark-core.jar", "core", 0o644, '0'})

func TestInstallWithAJarOfMaven(t *testing.T) {
	data := archive(t, withoutConnect...)
	needsJar(t, data, []byte("the jar"))
	fakePip(t, data)
	fakeMaven(t, "the jar")
	home, err := Install(t.Context(), "9.9.9", func(string) {})
	require.NoError(t, err)
	got := files(t, home)
	require.Equal(t, "the jar", got["jars/spark-connect_2.12-9.9.9.jar"])
	require.Equal(t, "core", got["jars/spark-core.jar"])
}

// Who has no Maven may lay the jar into the cache.
func TestInstallWithAJarOfTheCache(t *testing.T) {
	data := archive(t, withoutConnect...)
	cache := needsJar(t, data, []byte("the jar"))
	fakePip(t, data)
	laid := filepath.Join(cache, "spark-connect_2.12-9.9.9.jar")
	require.NoError(t, os.MkdirAll(cache, 0o755))
	require.NoError(t, os.WriteFile(laid, []byte("another jar"), 0o644))
	_, err := Install(t.Context(), "9.9.9", func(string) {})
	require.ErrorContains(t, err, "fetch the Connect server of Spark 9.9.9: spark-connect_2.12-9.9.9.jar has the hash ")
	require.ErrorContains(t, err, "; take "+laid+" away, or put the jar of org.apache.spark:spark-connect_2.12:9.9.9 there")

	require.NoError(t, os.WriteFile(laid, []byte("the jar"), 0o644))
	home, err := Install(t.Context(), "9.9.9", func(string) {})
	require.NoError(t, err)
	require.Equal(t, "the jar", files(t, home)["jars/spark-connect_2.12-9.9.9.jar"])
}

func TestInstallWithoutTheJar(t *testing.T) {
	cache := needsJar(t, nil, []byte("the jar"))
	asked := fakePip(t, nil)
	fakeMaven(t, "")
	_, err := Install(t.Context(), "9.9.9", func(string) {})
	require.EqualError(t, err, "fetch the Connect server of Spark 9.9.9: mvn dependency:copy: exit status 1: Could not find the artifact; or put spark-connect_2.12-9.9.9.jar into "+cache)
	fakeMaven(t, "altered")
	_, err = Install(t.Context(), "9.9.9", func(string) {})
	require.ErrorContains(t, err, "spark-connect_2.12-9.9.9.jar has the hash ")

	t.Setenv("PATH", t.TempDir())
	_, err = Install(t.Context(), "9.9.9", silent(t))
	require.EqualError(t, err, "fetch the Connect server of Spark 9.9.9: mvn, which fetches org.apache.spark:spark-connect_2.12:9.9.9, is not on the PATH: install Maven (Debian: apt-get install maven), or put spark-connect_2.12-9.9.9.jar into "+cache)
	require.NoFileExists(t, asked, "the large download is not begun in vain")
}
