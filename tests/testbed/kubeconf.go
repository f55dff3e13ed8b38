package testbed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// configure writes all that the cluster is started with.
func (k *Kubernetes) configure(o KubernetesOptions, group string) {
	k.t.Helper()
	for _, dir := range []string{"pki", "log", "pids", "etcd"} {
		k.mkdir(dir)
	}
	scripts, err := kubeScripts.ReadDir("kube")
	if err != nil {
		k.t.Fatalf("%v", err)
	}
	for _, e := range scripts {
		data, err := kubeScripts.ReadFile("kube/" + e.Name())
		if err != nil {
			k.t.Fatalf("%v", err)
		}
		k.write(e.Name(), string(data))
	}
	ca := NewAuthority(k.t, filepath.Join(k.Dir, "pki"))
	ca.issueAs("apiserver", "", "kube-apiserver", "127.0.0.1", kubeControl, "10.96.0.1", "localhost", "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	k.writeConfig("admin", ca.issueAs("admin", "system:masters", "admin"), "127.0.0.1")
	k.writeConfig("kcm", ca.issueAs("kcm", "", "system:kube-controller-manager"), "127.0.0.1")
	k.writeConfig("scheduler", ca.issueAs("scheduler", "", "system:kube-scheduler"), "127.0.0.1")
	k.writeConfig("proxy", ca.issueAs("proxy", "", "system:kube-proxy"), kubeControl)
	ca.issueAs("sa", "", "service accounts") // its key signs their tokens
	k.cgroup(group)
	for i := 1; i <= o.Nodes; i++ {
		k.configureNode(ca, i, group)
	}
	k.hosts = map[string]string{}
	k.writeHosts()
}

// configureNode writes what containerd, its network plugins and kubelet of a node read.
func (k *Kubernetes) configureNode(ca *Authority, i int, group string) {
	k.t.Helper()
	name := fmt.Sprintf("node%d", i)
	k.Nodes = append(k.Nodes, name)
	k.cgroup(filepath.Join(group, name))
	for _, dir := range []string{"containerd", "kubelet", "cni", "cni-state", "varlog", "overlay", "sys", "pids", "log"} {
		k.mkdir(name + "/" + dir)
	}
	dir := filepath.Join(k.Dir, name)
	k.writeConfig(name+"/kubelet", ca.issueAs(name, "system:nodes", "system:node:"+name, fmt.Sprintf("10.90.0.%d", i), name), kubeControl)
	k.write(name+"/resolv.conf", "")
	// runc may lower no oom_score_adj where root lacks the right to, as in a container.
	k.write(name+"/containerd.toml", fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "sluice.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`, dir))
	k.write(name+"/cni/10-pods.conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "10.91.%d.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
`, i))
	k.write(name+"/kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/pki/ca.pem}}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/pki/%[2]s.pem
tlsPrivateKeyFile: %[1]s/pki/%[2]s.key
cgroupDriver: cgroupfs
cgroupRoot: /%[3]s/%[2]s
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: %[1]s/%[2]s/resolv.conf
clusterDomain: cluster.local
clusterDNS: [%[4]s]
maxPods: 250
imageGCHighThresholdPercent: 100 # never: there is no registry to fetch an image from again
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
`, k.Dir, name, group, kubeControl))
}

// cgroup makes a control group, relative to the root of each hierarchy.
func (k *Kubernetes) cgroup(group string) {
	k.t.Helper()
	all, _ := filepath.Glob("/sys/fs/cgroup/*/tasks") // not in the hierarchy of version 2
	for _, file := range all {
		dir := filepath.Join(filepath.Dir(file), group)
		if err := os.Mkdir(dir, 0o755); err != nil {
			k.t.Fatalf("%v", err)
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // a new one has no processor
			data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, f), data, 0o644)
			}
			if err != nil {
				k.t.Fatalf("%v", err)
			}
		}
	}
}

func (k *Kubernetes) mkdir(name string) {
	k.t.Helper()
	if err := os.MkdirAll(filepath.Join(k.Dir, name), 0o755); err != nil {
		k.t.Fatalf("%v", err)
	}
}

func (k *Kubernetes) write(name, content string) string {
	k.t.Helper()
	path := filepath.Join(k.Dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		k.t.Fatalf("%v", err)
	}
	return path
}

// writeConfig writes NAME.kubeconfig for whoever has the certificate.
func (k *Kubernetes) writeConfig(name string, p Pair, host string) {
	k.t.Helper()
	k.write(name+".kubeconfig", kubeconfig(k.Dir, host, fmt.Sprintf("client-certificate: %q, client-key: %q", p.Cert, p.Key)))
}

func kubeconfig(dir, host, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://%s:6443", certificate-authority: %q}}]
users: [{name: me, user: {%s}}]
contexts: [{name: test, context: {cluster: test, user: me}}]
current-context: test
`, host, filepath.Join(dir, "pki", "ca.pem"), user)
}

// KubeconfigFor writes a kubeconfig with a token of a service account, good for a day.
func (k *Kubernetes) KubeconfigFor(t T, namespace, serviceAccount string) string {
	t.Helper()
	seconds := int64(24 * 60 * 60)
	token, err := k.client.CoreV1().ServiceAccounts(namespace).CreateToken(context.Background(), serviceAccount,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("a token of %s in %s: %v", serviceAccount, namespace, err)
	}
	return k.write(namespace+"."+serviceAccount+".kubeconfig", kubeconfig(k.Dir, kubeControl, fmt.Sprintf("token: %q", token.Status.Token)))
}

// Names makes the cluster's DNS answer more names; those of nodes and kubernetes.default.svc.cluster.local it knows. It
// knows no other service.
func (k *Kubernetes) Names(hosts map[string]string) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.hosts, hosts)
	k.writeHosts()
	k.signal("dns", "-HUP")
	if len(hosts) == 0 {
		return
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, kubeControl+":53")
	}}
	Until(k.t, 10*time.Second, "the DNS knows the names", func() bool {
		for name, address := range hosts {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			got, err := resolver.LookupHost(ctx, name+".")
			cancel()
			if err != nil || !slices.Contains(got, address) {
				return false
			}
		}
		return true
	})
}

func (k *Kubernetes) writeHosts() {
	k.t.Helper()
	all := map[string]string{"kubernetes.default.svc.cluster.local": "10.96.0.1"}
	for i, node := range k.Nodes {
		all[node] = fmt.Sprintf("10.90.0.%d", i+1)
	}
	maps.Copy(all, k.hosts)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s %s\n", all[name], name)
	}
	k.write("hosts", b.String())
}
