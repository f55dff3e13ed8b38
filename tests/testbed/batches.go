package testbed

import (
	"archive/zip"
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/dist"
)

// BatchJars compiles the program of batch/Job.java against a Spark that was fetched, into a jar of its own and one with what
// it uses.
func BatchJars(t T, version string) (job, extra string) {
	t.Helper()
	home, ok := dist.Installed(version)
	if !ok {
		t.Fatalf("Spark %s was not fetched", version)
	}
	java, err := filepath.EvalSymlinks(Java(t))
	if err != nil {
		t.Fatalf("%v", err)
	}
	bin, dir, source := filepath.Dir(java), tempDir(t), filepath.Join(Root(), "tests", "testbed", "batch")
	job, extra = filepath.Join(dir, "job.jar"), filepath.Join(dir, "extra.jar")
	for _, line := range [][]string{
		{"javac", "-cp", home + "/jars/*", "-d", dir, filepath.Join(source, "Job.java"), filepath.Join(source, "extra", "Extra.java")},
		{"jar", "--create", "--file", job, "-C", dir, "Job.class"},
		{"jar", "--create", "--file", extra, "-C", dir, "extra"},
	} {
		if err := run(filepath.Join(bin, line[0]), line[1:]...); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return job, extra
}

// BatchProgram is the program in Python that does the same.
func BatchProgram() string { return filepath.Join(Root(), "tests", "testbed", "batch", "main.py") }

// Write makes a file that goes with the test.
func Write(t T, name, text string) string {
	t.Helper()
	name = filepath.Join(tempDir(t), name)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	return name
}

// Pack makes an archive with one file in it.
func Pack(t T, name, entry, text string) string {
	t.Helper()
	name = filepath.Join(tempDir(t), name)
	f, err := os.Create(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	z := zip.NewWriter(f)
	e, err := z.Create(entry)
	if err == nil {
		_, err = e.Write([]byte(text))
	}
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return name
}

func tempDir(t T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-batch-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// EndOfBatch waits until a batch has ended, and returns it with what it has printed.
func EndOfBatch(t T, c engines.BatchCluster, tag engines.Tag) (app engines.App, out string) {
	t.Helper()
	ctx := context.Background()
	Until(t, 3*time.Minute, "the batch has ended", func() bool {
		a, found, err := c.Batch(ctx, tag)
		if err != nil || !found {
			t.Fatalf("the batch is not to be found: %v", err)
		}
		app = a
		return app.State == engines.Ended
	})
	out, err := c.Output(ctx, tag, 64<<10)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return app, out
}
