package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/engines/spark/dist"
)

// stock gives every node the images of the cache, and returns the others, which are to be loaded. Those of the cache are
// unpacked once, and nodes have links to the same files: nobody changes them, and the machine holds them in memory once.
func (k *Kubernetes) stock(t T, images []Image) (others []Image) {
	t.Helper()
	cache, err := dist.Cache()
	if err != nil {
		t.Fatalf("%v", err)
	}
	ours, err := filepath.Glob(filepath.Join(kubeImages(t), "*.tar"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, i := range images {
		if strings.HasPrefix(i.Tar, cache+"/") {
			ours = append(ours, i.Tar)
		} else {
			others = append(others, i)
		}
	}
	store := unpacked(t, ours)
	for _, node := range k.Nodes {
		to := filepath.Join(k.Dir, node, "containerd")
		if run("cp", "-al", store+"/.", to) != nil { // on another file system
			_ = os.RemoveAll(to)
			if err := run("cp", "-a", store, to); err != nil {
				t.Fatalf("%v", err)
			}
		}
		databases, _ := filepath.Glob(to + "/*/*.db")
		for _, file := range databases { // these do change
			if err := run("cp", "--remove-destination", filepath.Join(store, strings.TrimPrefix(file, to)), file); err != nil {
				t.Fatalf("%v", err)
			}
		}
	}
	return others
}

// unpacked is the root directory of a containerd that has images, made once.
func unpacked(t T, archives []string) string {
	t.Helper()
	sum := sha256.New()
	for _, file := range archives {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatalf("%v", err)
		}
		fmt.Fprintln(sum, file, info.Size(), info.ModTime())
	}
	dir := cached(t, "kube-stock-"+hex.EncodeToString(sum.Sum(nil)[:6]), func(dir string) error {
		socket := filepath.Join(dir, "socket")
		config := filepath.Join(dir, "containerd.toml")
		if err := os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o644); err != nil {
			return err
		}
		cmd := exec.CommandContext(context.Background(), "unshare", "--mount", "containerd", "-c", config, "--root", filepath.Join(dir, "root"),
			"--state", filepath.Join(dir, "state"), "-a", socket)
		cmd.Dir = "/"
		log := &Log{}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended }()
		Until(t, time.Minute, "containerd answers", func() bool {
			select {
			case <-ended:
				t.Fatalf("containerd ended: %s", log.String())
			default:
			}
			return run("ctr", "-a", socket, "version") == nil
		})
		for _, file := range archives {
			if err := run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", file); err != nil {
				return err
			}
		}
		return nil
	})
	return filepath.Join(dir, "root")
}
