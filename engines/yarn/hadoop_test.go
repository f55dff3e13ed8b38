package yarn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func hadoopDir(t *testing.T, sites map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, values := range sites {
		var b strings.Builder
		b.WriteString("<?xml version=\"1.0\"?>\n<configuration>\n")
		for line := range strings.Lines(values) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				b.WriteString("<property><name>" + k + "</name><value> " + v + " </value><final>true</final></property>\n")
			}
		}
		b.WriteString("</configuration>\n")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(b.String()), 0o600))
	}
	return dir
}

func TestReadHadoop(t *testing.T) {
	for name, tc := range map[string]struct {
		core, hdfs, yarn string
		rms, nns         []string
	}{
		"one of each": {"fs.defaultFS=hdfs://nn:9000/", "", "yarn.resourcemanager.webapp.address=rm:8089",
			[]string{"http://rm:8089"}, []string{"nn:9000"}},
		"by host names": {"fs.defaultFS=hdfs://nn", "", "yarn.resourcemanager.hostname=rm",
			[]string{"http://rm:8088"}, []string{"nn:8020"}},
		"two of each, and a foreign name service": {"fs.defaultFS=hdfs://ns1",
			"dfs.nameservices=ns1,other\ndfs.ha.namenodes.ns1=a, b\ndfs.namenode.rpc-address.ns1.a=n1:8020\ndfs.namenode.rpc-address.ns1.b=n2:8020\ndfs.ha.namenodes.other=c\ndfs.namenode.rpc-address.other.c=n3:8020",
			"yarn.resourcemanager.ha.enabled=true\nyarn.resourcemanager.ha.rm-ids=r1,r2\nyarn.resourcemanager.webapp.address.r1=m1:8088\nyarn.resourcemanager.hostname.r2=m2",
			[]string{"http://m1:8088", "http://m2:8088"}, []string{"n1:8020", "n2:8020"}},
		"with TLS": {"fs.defaultFS=hdfs://nn:9000", "", "yarn.http.policy=HTTPS_ONLY\nyarn.resourcemanager.hostname=rm\nyarn.resourcemanager.webapp.https.address=${yarn.resourcemanager.hostname}:9443",
			[]string{"https://rm:9443"}, []string{"nn:9000"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := ReadHadoop(hadoopDir(t, map[string]string{"core-site.xml": tc.core, "hdfs-site.xml": tc.hdfs, "yarn-site.xml": tc.yarn}))
			require.NoError(t, err)
			require.Equal(t, tc.rms, h.ResourceManagers)
			require.Equal(t, tc.nns, h.NameNodes)
			require.Len(t, h.Files, 3)
		})
	}
}

func TestReadHadoopSaysWhatIsMissing(t *testing.T) {
	for want, sites := range map[string]map[string]string{
		"there is no core-site.xml":            {},
		"fs.defaultFS is":                      {"core-site.xml": "fs.defaultFS=file:///", "yarn-site.xml": "yarn.resourcemanager.hostname=rm"},
		"yarn-site.xml names no ResourceManag": {"core-site.xml": "fs.defaultFS=hdfs://nn"},
	} {
		_, err := ReadHadoop(hadoopDir(t, sites))
		require.ErrorContains(t, err, want)
	}
	dir := hadoopDir(t, nil)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "core-site.xml"), []byte("<configuration>"), 0o600))
	_, err := ReadHadoop(dir)
	require.ErrorContains(t, err, "core-site.xml: ")
}
