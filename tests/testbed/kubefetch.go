package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kubePackages are Debian's, and what shows that they are there.
var kubePackages = map[string]string{
	"etcd-server": "/usr/bin/etcd", "containerd": "/usr/bin/containerd", "runc": "/usr/sbin/runc", "containernetworking-plugins": "/usr/lib/cni/bridge",
	"iptables": "/usr/sbin/iptables", "nftables": "/usr/sbin/nft", "conntrack": "/usr/sbin/conntrack", "ethtool": "/sbin/ethtool", "socat": "/usr/bin/socat",
	"iproute2": "/bin/ip", "busybox-static": "/bin/busybox", "dnsmasq-base": "/usr/sbin/dnsmasq", "tini": "/usr/bin/tini", "util-linux": "/usr/bin/nsenter",
	"openjdk-17-jre-headless": jdkInImage + "/bin/java", "python3": "/usr/bin/python3",
}

// NeedKubernetes skips a whole package of tests where no cluster can be started. It installs what is missing of Debian's.
func NeedKubernetes(area string) {
	if os.Getenv(kubeEnv) != "" {
		return
	}
	if os.Geteuid() != 0 {
		SkipAll(area, errors.New("a Kubernetes of several nodes needs root"))
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory/cgroup.procs"); err != nil {
		SkipAll(area, fmt.Errorf("a Kubernetes of several nodes needs control groups of version 1: %w", err))
	}
	if err := run("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "true"); err != nil {
		SkipAll(area, fmt.Errorf("no namespaces can be made here: %w", err))
	}
	if err := installKubePackages(); err != nil {
		SkipAll(area, fmt.Errorf("what Kubernetes needs is missing, and cannot be installed: %w", err))
	}
}

func installKubePackages() error {
	var missing []string
	for name, file := range kubePackages {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...)} {
		// Without a runlevel the packages do not start servers of their own.
		args = append([]string{"RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get"}, args...)
		if err := run("env", args...); err != nil {
			return err
		}
	}
	return nil
}

// FetchKubernetes fetches and builds, once, all that a cluster is made of.
func FetchKubernetes(t T) {
	t.Helper()
	if err := installKubePackages(); err != nil {
		t.Fatalf("%v", err)
	}
	kubeServers(t)
	kubeImages(t)
}

// kubeServers is the directory of Kubernetes' commands, which are built from its Go modules.
func kubeServers(t T) string {
	t.Helper()
	return cached(t, "kubernetes-"+KubernetesVersion, func(dir string) error {
		t.Logf("building Kubernetes %s: this takes minutes, once", KubernetesVersion)
		minor := strings.Split(KubernetesVersion, ".")[1]
		flags := "-s -w"
		for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
			flags += fmt.Sprintf(" -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[3]s", pkg, KubernetesVersion, minor)
		}
		args := []string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "go", "build", "-C", filepath.Join(Root(), "tests", "testbed", "kube", "servers"),
			"-trimpath", "-tags", "grpcnotrace", "-ldflags", flags, "-o", dir + "/"}
		for _, command := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"} {
			args = append(args, "k8s.io/kubernetes/cmd/"+command)
		}
		return run("env", args...)
	})
}

// kubeImages is the directory of the images that every node has: pause and busybox.
func kubeImages(t T) string {
	t.Helper()
	return cached(t, "kube-images-1", func(dir string) error {
		pause := filepath.Join(dir, "pause")
		if err := run("env", "CGO_ENABLED=0", "go", "build", "-C", Root(), "-trimpath", "-ldflags", "-s -w", "-o", pause, "./tests/testbed/kube/pause"); err != nil {
			return err
		}
		l, err := newLayer(dir)
		if err != nil {
			return err
		}
		l.copy(pause, "pause")
		if err := l.image(filepath.Join(dir, "pause.tar"), imageConfig{Name: "sluice.test/pause:1", Entrypoint: []string{"/pause"}}); err != nil {
			return err
		}
		if err := os.Remove(pause); err != nil {
			return err
		}
		return busyboxImage(dir)
	})
}

// Busybox is the image that every node has, Debian's busybox with a link for each of its commands.
const Busybox = "sluice.test/busybox:1"

func busyboxImage(dir string) error {
	out, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return err
	}
	l, err := newLayer(dir)
	if err != nil {
		return err
	}
	l.copy("/bin/busybox", "bin/busybox")
	for _, applet := range strings.Fields(string(out)) {
		if applet != "busybox" {
			l.link("bin/"+applet, "busybox")
		}
	}
	l.users("root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/:/bin/false")
	l.dir("tmp", 0o1777, 0)
	l.dir("root", 0o700, 0)
	return l.image(filepath.Join(dir, "busybox.tar"), imageConfig{Name: Busybox, Entrypoint: []string{"/bin/sh"}})
}
