package dist

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// javas are the Java versions that a Spark runs on; newest 0 is any.
type javas struct{ oldest, newest int }

func (j javas) String() string {
	if j.newest == 0 {
		return fmt.Sprintf("a JDK %d or newer", j.oldest)
	}
	return fmt.Sprintf("a JDK from %d to %d", j.oldest, j.newest)
}

// javasOf says what a version of Spark runs on. Spark 3.5 names 8, 11 and 17; its Hadoop fails on much newer ones.
func javasOf(spark string) javas {
	if strings.HasPrefix(spark, "3.") {
		return javas{8, 17}
	}
	return javas{oldest: 17}
}

var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

// Java finds a java command for a version of Spark: of the wanted home, of JAVA_HOME, or on the PATH.
func (w Wanted) Java(spark string) (string, error) {
	fit, key := javasOf(spark), w.Key+".java_home"
	java := ""
	for _, h := range []string{w.JavaHome, os.Getenv("JAVA_HOME")} {
		if h != "" && java == "" {
			java = filepath.Join(h, "bin", "java")
		}
	}
	if java == "" {
		path, err := exec.LookPath("java")
		if err != nil {
			return "", fmt.Errorf("there is no java on the PATH: install %s (Debian: apt-get install openjdk-17-jdk-headless), or set %s", fit, key)
		}
		java = path
	}
	out, err := exec.CommandContext(context.Background(), java, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not run (%w): install %s, or set %s", java, err, fit, key)
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s does not tell its version (%s): set %s to %s", java, firstLine(out), key, fit)
	}
	if n, _ := strconv.Atoi(string(m[1])); n < fit.oldest || fit.newest > 0 && n > fit.newest {
		return "", fmt.Errorf("%s is Java %d: Spark %s needs %s; install one, or set %s", java, n, spark, fit, key)
	}
	return java, nil
}
