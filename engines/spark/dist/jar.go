package dist

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// jar is one that a distribution lacks, known by its hash. The zero jar is none.
type jar struct {
	coordinates string // group:artifact:version
	sha256      string
}

func (j jar) file() string {
	parts := strings.Split(j.coordinates, ":")
	return parts[1] + "-" + parts[2] + ".jar"
}

// fetch puts the jar into a directory: the one that somebody has laid into the cache, or Maven's, which knows the user's
// mirrors, proxy and certificates.
func (j jar) fetch(ctx context.Context, cache, dir string, report func(string)) error {
	if j.coordinates == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	wanted := filepath.Join(dir, j.file())
	laid := filepath.Join(cache, j.file())
	if data, err := os.ReadFile(laid); err == nil {
		if err := os.WriteFile(wanted, data, 0o644); err != nil {
			return err
		}
		if err := verify(wanted, j.sha256); err != nil {
			return fmt.Errorf("%w; take %s away, or put the jar of %s there", err, laid, j.coordinates)
		}
		return nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("mvn, which fetches %s, is not on the PATH: install Maven (Debian: apt-get install maven), or put %s into %s", j.coordinates, j.file(), cache)
	}
	report("Fetching " + j.coordinates + " with Maven")
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
		"-Dartifact="+j.coordinates, "-DoutputDirectory="+dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mvn dependency:copy: %w: %s; or put %s into %s", err, firstError(out.Bytes()), j.file(), cache)
	}
	return verify(wanted, j.sha256)
}

// firstError is the line of Maven's output that says what went wrong; the ones after it are advice.
func firstError(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "[ERROR] "); ok {
			return text
		}
	}
	return firstLine(out)
}
