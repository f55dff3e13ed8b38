package dist

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// javaHome makes a JDK whose java says something, on standard error as the real one.
func javaHome(t *testing.T, says string) string {
	t.Helper()
	home := t.TempDir()
	script(t, filepath.Join(home, "bin", "java"), "[ \"$1\" = -version ] || exit 3\ncat >&2 <<'EOF'\n"+says+"\nEOF")
	return home
}

func TestJava(t *testing.T) {
	for name, tc := range map[string]struct {
		spark, says string
		err         string // JAVA stands for the command; empty: it is good
	}{
		"17":                {"4.3.0", `openjdk version "17.0.9" 2023-10-17`, ""},
		"21, early access":  {"4.3.0", `openjdk version "21-ea" 2023-09-19`, ""},
		"25":                {"4.3.0", `java version "25" 2025-09-16 LTS`, ""},
		"options picked up": {"4.3.0", "Picked up JAVA_TOOL_OPTIONS: -Xmx1g\n" + `openjdk version "17.0.9"`, ""},
		"11":                {"4.3.0", `openjdk version "11.0.21" 2023-10-17`, "JAVA is Java 11: Spark 4.3.0 needs a JDK 17 or newer; install one, or set spark.java_home"},
		"8":                 {"4.3.0", `java version "1.8.0_392"`, "JAVA is Java 8: Spark 4.3.0 needs a JDK 17 or newer; install one, or set spark.java_home"},
		"no version":        {"4.3.0", "hello\nworld", "JAVA does not tell its version (hello): set spark.java_home to a JDK 17 or newer"},
		"nothing":           {"4.3.0", "", "JAVA does not tell its version (): set spark.java_home to a JDK 17 or newer"},
		"8 for 3.5":         {"3.5.7", `java version "1.8.0_392"`, ""},
		"17 for 3.5":        {"3.5.7", `openjdk version "17.0.9" 2023-10-17`, ""},
		"25 for 3.5":        {"3.5.7", `openjdk version "25" 2025-09-16`, "JAVA is Java 25: Spark 3.5.7 needs a JDK from 8 to 17; install one, or set spark.java_home"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("JAVA_HOME", "")
			home := javaHome(t, tc.says)
			want := filepath.Join(home, "bin", "java")
			got, err := Wanted{Key: "spark", JavaHome: home}.Java(tc.spark)
			if tc.err != "" {
				require.EqualError(t, err, strings.ReplaceAll(tc.err, "JAVA", want))
				return
			}
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// A home of ours comes before JAVA_HOME, and that before the PATH; a wrong one is told of, not passed over.
func TestJavaIsFound(t *testing.T) {
	given, env, path := javaHome(t, `version "17"`), javaHome(t, `version "18"`), javaHome(t, `version "19"`)
	t.Setenv("PATH", filepath.Join(path, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("JAVA_HOME", env)
	for home, want := range map[string]string{given: given, "": env} {
		got, err := Wanted{Key: "spark", JavaHome: home}.Java("4.3.0")
		require.NoError(t, err)
		require.Equal(t, filepath.Join(want, "bin", "java"), got)
	}
	missing := t.TempDir()
	_, err := Wanted{Key: "runtimes.old", JavaHome: missing}.Java("4.3.0")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, filepath.Join(missing, "bin", "java")+" does not run (")
	require.ErrorContains(t, err, "): install a JDK 17 or newer, or set runtimes.old.java_home")

	t.Setenv("JAVA_HOME", "")
	got, err := Wanted{}.Java("4.3.0")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(path, "bin", "java"), got)

	t.Setenv("PATH", t.TempDir())
	_, err = Wanted{Key: "spark"}.Java("4.3.0")
	require.EqualError(t, err, "there is no java on the PATH: install a JDK 17 or newer (Debian: apt-get install openjdk-17-jdk-headless), or set spark.java_home")
}

func TestJavaThatFails(t *testing.T) {
	home := t.TempDir()
	script(t, filepath.Join(home, "bin", "java"), `echo 'version "21"' >&2; exit 1`)
	_, err := Wanted{JavaHome: home}.Java("4.3.0")
	require.ErrorContains(t, err, "does not run (exit status 1)")
}
