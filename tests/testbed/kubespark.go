package testbed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines/spark/dist"
)

const jdkInImage = "/usr/lib/jvm/java-17-openjdk-" + runtime.GOARCH // as Debian has it

// SparkImage makes, once, an image of a stock Spark that has the layout and the entry point of the official one with
// Python: /opt/spark, /opt/entrypoint.sh, user 185, Java 17. All below it is what Debian's packages have put on this
// machine. PyPI's Spark, from which it is made, has the examples in Python only.
func SparkImage(t T, version string) Image {
	t.Helper()
	home := ""
	if version == SparkVersion {
		home = SparkHome(t)
	} else {
		FetchSpark(t, version)
		home, _ = dist.Installed(version)
	}
	i := Image{Name: "sluice.test/spark:" + version}
	scripts := sha256.Sum256([]byte(sparkScript(t, "entrypoint.sh") + sparkScript(t, "decom.sh")))
	dir := cached(t, "kube-spark-"+version+"-"+hex.EncodeToString(scripts[:3]), func(dir string) error {
		l, err := newLayer(dir)
		if err != nil {
			return err
		}
		if err := debianRoot(l); err != nil {
			return err
		}
		putSpark(l, home)
		l.text("opt/entrypoint.sh", sparkScript(t, "entrypoint.sh"), 0o755)
		l.text("opt/decom.sh", sparkScript(t, "decom.sh"), 0o755)
		return l.image(filepath.Join(dir, "spark.tar"), imageConfig{Name: i.Name, User: "185", Dir: "opt/spark/work-dir", Entrypoint: []string{"/opt/entrypoint.sh"},
			Env: []string{"SPARK_HOME=/opt/spark", "JAVA_HOME=/opt/java/openjdk"}})
	})
	i.Tar = filepath.Join(dir, "spark.tar")
	return i
}

// putSpark adds Spark where the official image has it.
func putSpark(l *layer, home string) {
	l.tree(filepath.Join(home, "bin"), "opt/spark/bin", func(name string) bool { return strings.HasSuffix(name, ".cmd") })
	l.tree(filepath.Join(home, "sbin"), "opt/spark/sbin", nil)
	l.tree(filepath.Join(home, "jars"), "opt/spark/jars", func(name string) bool { return strings.HasPrefix(name, "connect-repl/") })
	l.tree(filepath.Join(home, "lib"), "opt/spark/python/lib", nil)
	l.tree(filepath.Join(home, "pyspark"), "opt/spark/python/pyspark", func(name string) bool {
		return strings.Contains("/"+name, "/tests/") || strings.HasPrefix(name, "python/") || strings.Contains(name, "__pycache__")
	})
	l.tree(filepath.Join(home, "examples"), "opt/spark/examples/src/main/python", nil)
	l.tree(filepath.Join(home, "data"), "opt/spark/data", nil)
	l.text("opt/spark/RELEASE", "Spark, from PyPI\n", 0o644)
	l.dir("opt/spark/conf", 0o755, 0)
	l.dir("opt/spark/work-dir", 0o1777, 185)
}

func sparkScript(t T, name string) string {
	t.Helper()
	data, err := kubeScripts.ReadFile("kube/" + name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return string(data)
}

// debianRoot adds a root file system with a shell, Java and Python.
func debianRoot(l *layer) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		l.link(name, "usr/"+name)
	}
	l.dir("tmp", 0o1777, 0)
	l.dir("var/tmp", 0o1777, 0)
	l.dir("home/spark", 0o755, 185)
	for _, name := range []string{"proc", "sys", "dev", "run", "root", "etc"} {
		l.dir(name, 0o755, 0)
	}
	l.link("opt/java/openjdk", jdkInImage)
	l.link("usr/bin/java", "/opt/java/openjdk/bin/java")
	l.link("usr/bin/sh", "bash")
	l.link("usr/bin/awk", "mawk")
	l.users("root:x:0:0:root:/root:/bin/bash", "spark:x:185:185::/home/spark:/bin/sh")
	l.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
	files, err := packageFiles("bash", "coreutils", "grep", "sed", "mawk", "procps", "findutils", "hostname", "libc-bin", "tini", "openjdk-17-jre-headless",
		"tzdata", "libnss3", "netbase", "python3")
	if err != nil {
		return err
	}
	for _, file := range files {
		if !exists(file) { // what was diverted, or removed
			continue
		}
		name := file[1:]
		if top, _, _ := strings.Cut(name, "/"); slices.Contains([]string{"bin", "sbin", "lib", "lib64"}, top) {
			name = "usr/" + name
		}
		l.copy(file, name)
		if strings.HasSuffix(file, ".py") { // compiled when the package was installed
			dir, base := filepath.Split(file)
			compiled, _ := filepath.Glob(dir + "__pycache__/" + strings.TrimSuffix(base, ".py") + ".cpython-3??.pyc")
			for _, c := range compiled {
				l.copy(c, c[1:])
			}
		}
	}
	for _, made := range []string{jdkInImage + "/lib/server", "/etc/java-17-openjdk", "/etc/ssl/certs/java"} { // when packages were installed
		l.tree(made, made[1:], nil)
	}
	l.copy("/etc/ssl/certs/ca-certificates.crt", "etc/ssl/certs/ca-certificates.crt")
	return l.err
}

// needless is what programs run without.
var needless = regexp.MustCompile(`^/usr/share/(doc|man|info|locale|lintian|bug|bash-completion|python3/|zoneinfo/(right|posix))|^/usr/lib/python3\.\d+/(test|idlelib|lib2to3)/`)

// packageFiles lists what Debian's packages, and those that they depend on, have installed here.
func packageFiles(packages ...string) ([]string, error) {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package}\t${Pre-Depends},${Depends}\n").Output()
	if err != nil {
		return nil, fmt.Errorf("ask for Debian's packages: %w", err)
	}
	depends := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		name, list, _ := strings.Cut(strings.TrimSpace(line), "\t")
		depends[name] = strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' })
	}
	// These only serve to install packages.
	seen := map[string]bool{"dpkg": true, "debconf": true, "perl": true, "perl-base": true, "install-info": true, "adduser": true, "passwd": true}
	var wanted []string
	for queue := packages; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		list, installed := depends[name]
		if seen[name] || !installed {
			continue
		}
		seen[name] = true
		wanted = append(wanted, name)
		for _, d := range list {
			if f := strings.FieldsFunc(d, func(r rune) bool { return strings.ContainsRune(" :(", r) }); len(f) > 0 {
				queue = append(queue, f[0])
			}
		}
	}
	if !slices.Contains(wanted, "python3") {
		return nil, errors.New("python3 is not installed")
	}
	out, err = exec.Command("dpkg-query", append([]string{"-L"}, wanted...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of Debian's packages: %w", err)
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		file := strings.TrimSpace(line)
		info, err := os.Lstat(file)
		if err == nil && !info.IsDir() && !needless.MatchString(file) {
			files = append(files, file)
		}
	}
	return files, nil
}
