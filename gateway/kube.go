package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
	"github.com/sluicedata/sluice/engines/kept"
	"github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/gateway/config"
)

func newKube(cfg config.Config, name string, c config.Cluster, instance string, secret []byte, log *slog.Logger) (*kube.Cluster, error) {
	k := c.Kubernetes
	site, ports, err := siteOf(name, k)
	if err != nil {
		return nil, err
	}
	access, namespace, err := kube.Access{Kubeconfig: k.Kubeconfig, Context: k.Context}.Connect()
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.kubernetes.kubeconfig: %w", name, err)
	}
	site.Namespace = cmp.Or(k.Namespace, namespace)
	api, err := kube.NewAPI(access, site.Namespace)
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.kubernetes.kubeconfig: %w", name, err)
	}
	files, kerberos, err := hadoopOf("clusters."+name+".kubernetes", k)
	if err != nil {
		return nil, err
	}
	site.HadoopConf = files
	images := map[string]kube.Image{"": {Name: k.Image, Version: cfg.Spark.Version}}
	for runtime, image := range k.Images {
		images[runtime] = kube.Image{Name: image, Version: cfg.Runtimes[runtime].Version}
	}
	return kube.New(kube.Options{
		Name: name, Instance: instance, API: api, Site: site, Images: images, Ports: ports, MaxDrivers: k.MaxDrivers, Conf: k.Conf, Closed: c.ClosedNetwork, Shuffle: shuffleOf(name, c),
		Lease: k.Lease, Logs: kept.Dir(filepath.Join(cfg.DataDir, "logs", name)), Log: log,
		Kerberos: kerberos, Files: &kube.FileServer{Base: filesURL(cfg, name, access), Secret: secret},
	}), nil
}

// hadoopOf is what drivers get of a Hadoop: its files, and how they are let into an HDFS that asks for proof.
func hadoopOf(section string, k config.Kubernetes) (files map[string]string, _ *kube.Kerberos, err error) {
	if k.HadoopConf == "" {
		return nil, nil, nil
	}
	h, err := hadoop.ReadConf(k.HadoopConf)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.hadoop_conf: %w", section, err)
	}
	delete(h.Files, "yarn-site.xml") // nobody there speaks with YARN, and a pod has no room for much
	login, err := loginOf(section, k.HadoopConf, h, k.Principal, k.Keytab, k.Krb5Conf)
	if err != nil || login == nil {
		return h.Files, nil, err
	}
	if err := h.NeedHDFS(k.HadoopConf); err != nil {
		return nil, nil, fmt.Errorf("%s.hadoop_conf: %w", section, err)
	}
	access, err := hadoop.NewAccess(login.Short(), login)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.kerberos_principal: %w", section, err)
	}
	return h.Files, &kube.Kerberos{Access: access, Hadoop: h}, nil
}

// filesPath is where the files of a cluster's batches are served.
func filesPath(cluster string) string { return "/files/" + cluster }

// filesURL is the address under which drivers fetch files; empty if they cannot reach the gateway.
func filesURL(cfg config.Config, name string, access *rest.Config) string {
	base := strings.TrimSuffix(cfg.Clusters[name].Kubernetes.FilesURL, "/")
	if base == "" {
		host, port, err := net.SplitHostPort(cfg.Listen.HTTP)
		ip := net.ParseIP(host)
		switch {
		case err != nil || host == "localhost" || ip.IsLoopback() || port == "0":
			return ""
		case ip.IsUnspecified():
			if host = addressTowards(access.Host); host == "" {
				return ""
			}
		}
		scheme := "http"
		if cfg.TLS.Cert != "" {
			scheme = "https"
		}
		base = scheme + "://" + net.JoinHostPort(host, port)
	}
	return base + filesPath(name)
}

// addressTowards is the address of ours that a server sees. Nothing is sent.
func addressTowards(server string) string {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	conn, err := new(net.Dialer).DialContext(context.Background(), "udp", net.JoinHostPort(u.Hostname(), "9"))
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	return host
}

// siteOf reads what a configuration says of a cluster's pods.
func siteOf(name string, k config.Kubernetes) (site kube.Site, ports engines.Ports, err error) {
	read := func(key string, err2 error) {
		if err2 != nil && err == nil {
			err = fmt.Errorf("clusters.%s.kubernetes.%s: %w", name, key, err2)
		}
	}
	var e error
	site = kube.Site{Account: k.ServiceAccount, PullPolicy: k.PullPolicy, HostNetwork: k.HostNetwork, Guaranteed: k.QoS == "guaranteed",
		MinExecutors: k.MinExecutors, MaxExecutors: k.MaxExecutors}
	ports, e = engines.ReadPorts(k.Ports)
	if e == nil && k.HostNetwork && ports.Len() < kube.BlockSize {
		e = fmt.Errorf("%q has no room for a driver, which needs %d ports", k.Ports, kube.BlockSize)
	}
	read("ports", e)
	site.ExecutorPorts, e = engines.ReadPorts(k.ExecutorPorts)
	read("executor_ports", e)
	site.Evictable, e = kube.ReadLabel(k.Evictable)
	read("evictable", e)
	site.Driver, e = readPool(k.DriverSelector, k.DriverTolerations, k.DriverPriorityClass, k.DriverTemplate, k.DriverCPU, "driver", read)
	read("driver_template", e)
	site.Executor, e = readPool(k.ExecutorSelector, k.ExecutorTolerations, k.ExecutorPriorityClass, k.ExecutorTemplate, k.ExecutorCPU, "executor", read)
	read("executor_template", e)
	return site, ports, err
}

func readPool(selector, tolerations, class, template, cpu, role string, read func(string, error)) (p kube.Pool, err error) {
	p.PriorityClass = class
	p.Selector, err = kube.ReadSelector(selector)
	read(role+"_selector", err)
	p.Tolerations, err = kube.ReadTolerations(tolerations)
	read(role+"_tolerations", err)
	p.CPU, err = kube.ReadCPU(cpu)
	read(role+"_cpu", err)
	p.Template, err = kube.ReadTemplate(template)
	return p, err
}
