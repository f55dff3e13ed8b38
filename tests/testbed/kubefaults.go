package testbed

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Off pulls the plug of a node. The cluster needs 16 s to notice.
func (k *Kubernetes) Off(node string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.Dir, node, "off"), nil, 0o644); err != nil {
		k.t.Fatalf("%v", err)
	}
	k.crash(node)
}

// On gives a node power again and waits until it is ready. Its disk is as it was.
func (k *Kubernetes) On(node string) {
	k.t.Helper()
	before := k.bootID(node)
	if err := os.Remove(filepath.Join(k.Dir, node, "off")); err != nil {
		k.t.Fatalf("%v", err)
	}
	k.awaitNode(node, before)
}

// Reboot pulls the plug of a node, gives it power at once, and waits until it is ready.
func (k *Kubernetes) Reboot(node string) {
	k.t.Helper()
	before := k.bootID(node)
	k.crash(node)
	k.awaitNode(node, before)
}

func (k *Kubernetes) crash(node string) {
	k.t.Helper()
	k.within("kill", "-KILL", k.pid(filepath.Join(node, "pid")))
}

// Freeze stops a component where it stands, until Thaw: connections to it stay, and nothing answers.
func (k *Kubernetes) Freeze(component string) { k.t.Helper(); k.signal(component, "-STOP") }

// Thaw lets a frozen component go on.
func (k *Kubernetes) Thaw(component string) { k.t.Helper(); k.signal(component, "-CONT") }

// Kill ends a component without a chance to tidy up. It is started again at once.
func (k *Kubernetes) Kill(component string) { k.t.Helper(); k.signal(component, "-KILL") }

// Stop ends a component without a chance to tidy up, and keeps it away until Start.
func (k *Kubernetes) Stop(component string) {
	k.t.Helper()
	if err := os.WriteFile(k.pidFile(component)+".off", nil, 0o644); err != nil {
		k.t.Fatalf("%v", err)
	}
	if exists(k.pidFile(component)) {
		k.signal(component, "-KILL")
	}
}

// Start starts a component that was stopped, and waits until it answers if it is the API server.
func (k *Kubernetes) Start(component string) {
	k.t.Helper()
	if err := os.Remove(k.pidFile(component) + ".off"); err != nil {
		k.t.Fatalf("%v", err)
	}
	if component == "apiserver" {
		k.awaitAPI()
	}
}

// pidFile holds the pid of a component as its own namespace counts.
func (k *Kubernetes) pidFile(component string) string {
	if node, name, ok := strings.Cut(component, "/"); ok {
		return filepath.Join(k.Dir, node, "pids", name)
	}
	return filepath.Join(k.Dir, "pids", component)
}

// signal reaches a component; one that is about to be started again is waited for.
func (k *Kubernetes) signal(component, signal string) {
	k.t.Helper()
	file := k.pidFile(component)
	Until(k.t, 10*time.Second, component+" runs", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	at, err := filepath.Rel(k.Dir, file)
	if err != nil {
		k.t.Fatalf("%v", err)
	}
	pid := k.pid(at)
	if node, _, ok := strings.Cut(component, "/"); ok {
		k.Exec(node, "kill", signal, pid)
	} else {
		k.within("kill", signal, pid)
	}
	if signal == "-KILL" { // whoever is next to ask must not meet the dead
		Until(k.t, 10*time.Second, component+" has ended", func() bool {
			data, err := os.ReadFile(file)
			return err != nil || strings.TrimSpace(string(data)) != pid
		})
	}
}

func (k *Kubernetes) pid(file string) string {
	k.t.Helper()
	data, err := os.ReadFile(filepath.Join(k.Dir, file))
	if err != nil {
		k.t.Fatalf("%v", err)
	}
	return strings.TrimSpace(string(data))
}

// within runs a command among the processes of the control plane.
func (k *Kubernetes) within(command ...string) {
	k.t.Helper()
	k.enter(nil, command)
}

// Exec runs a command of this machine's as a node sees it, and returns what it says.
func (k *Kubernetes) Exec(node string, command ...string) string {
	k.t.Helper()
	return k.enter([]string{"nsenter", "-t", k.pid(filepath.Join(node, "pid")), "-m", "-n", "-u", "-p", "--"}, command)
}

func (k *Kubernetes) enter(node, command []string) string {
	k.t.Helper()
	args := append([]string{"-t", strconv.Itoa(k.Init), "-m", "-n", "-p", "-u", "-i", "--"}, append(node, command...)...)
	out, err := exec.CommandContext(context.Background(), "nsenter", args...).CombinedOutput()
	if err != nil {
		k.t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// awaitAPI waits until the API server is ready.
func (k *Kubernetes) awaitAPI() {
	k.t.Helper()
	Until(k.t, 2*time.Minute, "the API server is ready", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return k.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil
	})
}

// awaitNode waits until a node is ready, in another life than that of the boot id.
func (k *Kubernetes) awaitNode(name, before string) {
	k.t.Helper()
	Until(k.t, 2*time.Minute, name+" is ready", func() bool { return k.bootID(name) != before && k.Ready(name) })
}

// Ready says whether a node is ready, as far as the cluster knows.
func (k *Kubernetes) Ready(name string) bool {
	n, err := k.client.CoreV1().Nodes().Get(context.Background(), name, metav1.GetOptions{})
	return err == nil && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func (k *Kubernetes) bootID(name string) string {
	n, err := k.client.CoreV1().Nodes().Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return n.Status.NodeInfo.BootID
}

// mark tells evictable nodes, where there are some, from stable ones.
func (k *Kubernetes) mark(evictable []string) {
	k.t.Helper()
	if len(evictable) == 0 {
		return
	}
	for _, name := range k.Nodes {
		patch := `{"metadata": {"labels": {"sluice/stable": "true"}}}`
		if slices.Contains(evictable, name) {
			patch = `{"metadata": {"labels": {"sluice/evictable": "true"}}, "spec": {"taints": [{"key": "sluice/evictable", "value": "true", "effect": "NoSchedule"}]}}`
		}
		if _, err := k.client.CoreV1().Nodes().Patch(context.Background(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			k.t.Fatalf("mark %s: %v", name, err)
		}
	}
}
