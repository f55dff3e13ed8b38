package testbed

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// KubernetesVersion is the Kubernetes that the tests run on; tests/testbed/kube/servers names it, too.
const KubernetesVersion = "1.33.13"

// kubeControl is the address of the control plane. Node i is 10.90.0.i, its pods are 10.91.i.0/24, services 10.96.0.0/16.
const kubeControl = "10.90.0.254"

// kubeEnv tells a test process inside a cluster's network the directory of the cluster.
const kubeEnv = "SLUICE_TEST_KUBERNETES"

//go:embed kube/*.sh
var kubeScripts embed.FS

// KubernetesOptions say what cluster InKubernetes starts. The zero value has three nodes, which are all alike.
type KubernetesOptions struct {
	Nodes     int            // 0 means 3
	Evictable []string       // nodes with the label and the taint sluice/evictable=true; then the others are sluice/stable=true
	Images    func() []Image // what every node has; asked once prepare is done
}

// Kubernetes is a running cluster: etcd, the API server, the controller manager and the scheduler in a network namespace that
// the tests share, and nodes with containerd, kubelet and kube-proxy, each in namespaces of its own. What tests start reaches
// nodes and pods, and is reached by them at Control. Nothing in there reaches the world.
//
// A hostPath under /etc, /opt, /srv and /var/lib is the node's own; all others are this machine's, on every node.
//
// Components are named etcd, apiserver, kcm, scheduler and dns; those of a node are node1/kubelet, node1/containerd and
// node1/proxy.
type Kubernetes struct {
	Dir        string // all of its state; logs are in log and node1/log
	Kubeconfig string // of somebody who may do everything
	Control    string
	Nodes      []string // node1, ...
	Init       int      // the first process of the control plane

	config *rest.Config
	client kubernetes.Interface
	mu     sync.Mutex
	hosts  map[string]string
	t      T
}

// InKubernetes runs a whole package of tests beside a cluster of its own, as InNamespace does in a network namespace: it is
// called first in TestMain, prepare fetches what the tests need, and then this process only waits for one of its kind
// that shares the network of the control plane. All of it goes with this process, whatever ends it.
func InKubernetes(area string, o KubernetesOptions, prepare func()) *Kubernetes {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if dir := os.Getenv(kubeEnv); dir != "" {
		_ = os.Unsetenv(kubeEnv) // it is no setting of a gateway
		return joinKubernetes(dir, o)
	}
	NeedKubernetes(area)
	s := &Suite{}
	FetchKubernetes(s)
	prepare()
	k := &Kubernetes{Control: kubeControl, t: s}
	end := k.start(s, o)
	code, err := k.inside()
	end(code == 0)
	if err != nil {
		fmt.Println("FAIL:", err)
	}
	if code != 0 {
		fmt.Println("the logs of the cluster are in", k.Dir)
	}
	s.End()
	os.Exit(code)
	return nil
}

// start starts the cluster, which goes with this thread. What it returns ends it, and leaves the logs unless all is well.
func (k *Kubernetes) start(s *Suite, o KubernetesOptions) (end func(well bool)) {
	var images []Image
	if o.Images != nil {
		images = o.Images()
	}
	dir, err := os.MkdirTemp("", "sluice-kube-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	k.Dir, k.Kubeconfig = dir, filepath.Join(dir, "admin.kubeconfig")
	group := "sluice-kube-" + strconv.Itoa(os.Getpid())
	k.configure(o, group)
	later := k.stock(s, images)
	runtime.LockOSThread() // its children die with the thread that started them
	cmd := exec.CommandContext(context.Background(), "unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc",
		"bash", filepath.Join(dir, "control.sh"))
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "RUN=" + dir, "BIN=" + kubeServers(s),
		"CGROUP=" + group, "CONTROL=" + kubeControl, "NODES=" + strconv.Itoa(o.Nodes)}
	log, err := os.Create(filepath.Join(dir, "log", "control.log"))
	if err != nil {
		s.Fatalf("%v", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.Fatalf("start the control plane: %v", err)
	}
	children := fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", cmd.Process.Pid)
	Until(s, 10*time.Second, "the namespaces of the control plane are there", func() bool {
		data, _ := os.ReadFile(children)
		k.Init, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return k.Init != 0
	})
	end = k.watch(s, cmd, group)
	data, err := json.Marshal(k)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "kube.json"), data, 0o600)
	}
	if err != nil {
		s.Fatalf("%v", err)
	}
	data, err = json.Marshal(later)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "images.json"), data, 0o600)
	}
	if err != nil {
		s.Fatalf("%v", err)
	}
	return end
}

// watch starts the process that removes all that is left of the cluster once this one has ended it, or has died.
func (k *Kubernetes) watch(s *Suite, cluster *exec.Cmd, group string) (end func(well bool)) {
	net, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", k.Init))
	if err != nil {
		s.Fatalf("%v", err)
	}
	cmd := exec.CommandContext(context.Background(), "sh", filepath.Join(k.Dir, "end.sh"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "RUN=" + k.Dir, "NET=" + net, "CGROUP=" + group}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is not for it
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatalf("watch over the cluster: %v", err)
	}
	return func(well bool) {
		if well {
			_, _ = io.WriteString(in, "done\n")
		}
		_ = in.Close()
		_ = cluster.Wait()
		_ = cmd.Wait()
	}
}

// inside runs this program again where the control plane's network is, and says how it ended.
func (k *Kubernetes) inside() (code int, err error) {
	args := append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", k.Init), os.Args[0]}, os.Args[1:]...)
	cmd := exec.CommandContext(context.Background(), "nsenter", args...)
	cmd.Env = append(os.Environ(), kubeEnv+"="+k.Dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if code = cmd.ProcessState.ExitCode(); code < 0 {
		return 1, err
	}
	return code, nil
}

// joinKubernetes waits, inside, until the cluster is complete.
func joinKubernetes(dir string, o KubernetesOptions) *Kubernetes {
	s := &Suite{}
	k := &Kubernetes{t: s, hosts: map[string]string{}}
	data, err := os.ReadFile(filepath.Join(dir, "kube.json"))
	if err == nil {
		err = json.Unmarshal(data, k)
	}
	if err == nil {
		k.config, err = clientcmd.BuildConfigFromFlags("", k.Kubeconfig)
	}
	if err != nil {
		s.Fatalf("%v", err)
	}
	k.config.QPS, k.config.Burst = 1000, 2000 // tests make thousands of pods
	if k.client, err = kubernetes.NewForConfig(k.config); err != nil {
		s.Fatalf("%v", err)
	}
	k.awaitAPI()
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o644); err != nil {
		s.Fatalf("%v", err)
	}
	var images []Image
	if data, err = os.ReadFile(filepath.Join(dir, "images.json")); err == nil {
		err = json.Unmarshal(data, &images)
	}
	if err != nil {
		s.Fatalf("%v", err)
	}
	for _, node := range k.Nodes {
		k.awaitNode(node, "")
	}
	for _, i := range images {
		k.Load(s, i)
	}
	k.mark(o.Evictable)
	Until(s, time.Minute, "pods can be made", func() bool {
		_, err := k.client.CoreV1().ServiceAccounts("default").Get(context.Background(), "default", metav1.GetOptions{})
		return err == nil
	})
	return k
}

// Client may do everything.
func (k *Kubernetes) Client() kubernetes.Interface { return k.client }
