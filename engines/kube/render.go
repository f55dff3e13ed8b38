// Package kube runs engines and batches on Kubernetes, with no operator and no spark-submit on the gateway's machine: a driver
// is one Pod that this package makes itself, and the executors are the driver's own.
package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/engines"
)

// Site is what a rendered driver has to know about its cluster. It holds no client and no clock.
type Site struct {
	Namespace, Instance, Account, Image, PullPolicy string
	Version                                         string // of Spark
	HostNetwork                                     bool
	Block                                           Block         // the driver's ports on its node; 0 on the pod network
	ExecutorPorts                                   engines.Ports // where executors listen on their nodes; none lets each find a free port
	Evictable                                       Label         // nodes that may be taken away: for executors, not for drivers
	Driver, Executor                                Pool
	Guaranteed                                      bool // the QoS class: requests are limits
	MinExecutors, MaxExecutors                      int
	HadoopConf                                      map[string]string // configuration files by name
	Tokens                                          bool              // the driver finds delegation tokens in its Secret
	Realm                                           string            // of Kerberos, with tokens
	LeaseUntil                                      int64             // seconds since the epoch
	Links                                           map[string]string // where the files of a batch are fetched, by their names
}

// Labels and annotations of ours. Label keys with "spark" are Spark's own, and other tools look for them.
const (
	instanceLabel = "sluice/instance"
	tagLabel      = "sluice/tag"
	kindLabel     = "sluice/kind"
	roleLabel     = "spark-role"
	userNote      = "sluice/user"
	leaseNote     = "sluice/lease"
	fileNote      = "files.sluice/" // and a file's name: its text

	kindEngine, kindBatch = "engine", "batch"
)

// Names and places in a driver's pod.
const (
	driverContainer   = "spark-kubernetes-driver"
	executorContainer = "spark-kubernetes-executor"
	confDir           = "/etc/sluice"
	hadoopDir         = confDir + "/hadoop"
	propertyFile      = "spark.properties"
	templateFile      = "executor.yaml"
	leaseFile         = "lease"
	tokenDir          = "/var/run/secrets/sluice"
	tokenKey          = "hadoop-tokens"
	localDir          = "/var/data/spark"
	sparkUser         = int64(185) // of Spark's images
)

// podName is the name of a driver's pod, and of its Secret.
func podName(tag engines.Tag) string { return "sluice-" + strings.ToLower(string(tag)) }

// appID is what Spark calls the application.
func appID(tag engines.Tag) string {
	return "spark-" + strings.ReplaceAll(strings.ToLower(string(tag)), "-", "")
}

// kindOf is what the label says of a launch.
func kindOf(l engines.Launch) string {
	if l.Program != nil {
		return kindBatch
	}
	return kindEngine
}

// ourLabels are on all pods of a launch.
func ourLabels(l engines.Launch, site Site) map[string]string {
	return map[string]string{instanceLabel: site.Instance, tagLabel: strings.ToLower(string(l.Tag)), kindLabel: kindOf(l)}
}

// driverPod renders a driver. Its files travel in its own annotations, which a volume shows to it: so one request makes it
// all, and nothing is left of a driver when its pod is gone.
func driverPod(l engines.Launch, site Site) (*corev1.Pod, error) {
	memory, cpu, err := driverSize(l, site)
	if err != nil {
		return nil, err
	}
	conf, err := sparkConf(l, site)
	if err != nil {
		return nil, err
	}
	template, err := executorTemplate(l, site)
	if err != nil {
		return nil, err
	}
	files := maps.Clone(l.Files)
	if files == nil {
		files = map[string]string{}
	}
	files[propertyFile], files[templateFile] = engines.Properties(conf), template
	for name, text := range site.HadoopConf {
		files["hadoop/"+name] = text
	}

	meta, spec, c := under(site.Driver.Template, driverContainer)
	pod := &corev1.Pod{ObjectMeta: meta, Spec: spec}
	pod.Namespace, pod.Name = site.Namespace, podName(l.Tag)
	pod.Labels = merged(meta.Labels, ourLabels(l, site), map[string]string{roleLabel: "driver", "spark-app-selector": appID(l.Tag), "spark-version": site.Version})
	pod.Annotations = merged(meta.Annotations, map[string]string{userNote: l.User, leaseNote: strconv.FormatInt(site.LeaseUntil, 10)})
	size := 0
	for name, text := range files {
		pod.Annotations[noteOf(name)] = text
		size += len(text)
	}
	if size > maxFiles {
		return nil, fmt.Errorf("the driver's configuration, with the Hadoop files, is %d KiB long, and Kubernetes takes %d KiB with a pod: leave out what drivers do not need", size>>10, maxFiles>>10)
	}

	pod.Spec.ServiceAccountName = site.Account
	pod.Spec.TerminationGracePeriodSeconds = new(int64(driverGrace)) // a driver that stops takes its executors with it
	common(&pod.Spec, site)
	c.SecurityContext = pod.Spec.Containers[0].SecurityContext
	site.Evictable.stayOff(&pod.Spec)
	site.Driver.place(&pod.Spec, driverPatience)
	pod.Spec.Volumes = append(pod.Spec.Volumes, confVolume(files, l), corev1.Volume{Name: "sluice-local", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "sluice-conf", MountPath: confDir, ReadOnly: true}, corev1.VolumeMount{Name: "sluice-local", MountPath: localDir})
	if site.Tokens {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "sluice-tokens", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: pod.Name, Items: []corev1.KeyToPath{{Key: tokenKey, Path: tokenKey}}}}})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "sluice-tokens", MountPath: tokenDir, ReadOnly: true})
	}
	c.Image = site.Image
	if site.PullPolicy != "" {
		c.ImagePullPolicy = corev1.PullPolicy(site.PullPolicy)
	}
	c.Args = driverArgs(l, site)
	c.Env = driverEnv(c.Env, l, site)
	c.Ports = append(c.Ports, containerPorts(l, site)...)
	request(c, memory, cpu, site.Guaranteed)
	if l.Program == nil {
		c.LivenessProbe = leaseProbe()
	}
	pod.Spec.Containers[0] = *c
	return pod, nil
}

// driverGrace is for how long a driver may stop, in seconds.
const driverGrace = 15

// maxFiles is how much text goes with a pod: Kubernetes takes 256 KiB of annotations.
const maxFiles = 240 << 10

// noteOf is the annotation that holds a file.
func noteOf(name string) string { return fileNote + strings.ReplaceAll(name, "/", ".") }

// under begins with a template, or with nothing. c is a copy of the container that is ours to fill, and belongs in the first
// place of the spec.
func under(t *corev1.PodTemplateSpec, container string) (meta metav1.ObjectMeta, spec corev1.PodSpec, c *corev1.Container) {
	if t != nil {
		t = t.DeepCopy()
		meta, spec = metav1.ObjectMeta{Labels: t.Labels, Annotations: t.Annotations}, t.Spec
	}
	c = &corev1.Container{}
	at := slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == container })
	if at < 0 && len(spec.Containers) > 0 {
		at = 0
	}
	if at >= 0 {
		*c = spec.Containers[at]
		spec.Containers = slices.Delete(spec.Containers, at, at+1)
	}
	c.Name = container
	spec.Containers = slices.Insert(spec.Containers, 0, *c)
	return meta, spec, c
}

func merged(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// common is what drivers and executors have alike.
func common(spec *corev1.PodSpec, site Site) {
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.EnableServiceLinks = new(false) // one variable for each port of each Service there is
	spec.HostNetwork = site.HostNetwork
	if site.HostNetwork {
		spec.DNSPolicy = corev1.DNSClusterFirstWithHostNet
	}
	if spec.SecurityContext == nil {
		spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(sparkUser), RunAsNonRoot: new(true), FSGroup: new(sparkUser),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			if c := &containers[i]; c.SecurityContext == nil {
				c.SecurityContext = restricted()
			}
		}
	}
}

func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
}

// driverSize is what a driver's container requests. Spark's factor for memory beside the heap is larger where the work is not
// done in the JVM.
func driverSize(l engines.Launch, site Site) (memory, cpu resource.Quantity, err error) {
	heap, err := engines.Mebibytes(l.Memory)
	if err != nil {
		return memory, cpu, err
	}
	factor := 0.1
	if l.Program != nil && l.Program.Python {
		factor = 0.4
	}
	memory = resource.MustParse(fmt.Sprintf("%dMi", heap+engines.DriverOverhead(heap, l.Conf, factor)))
	if site.Driver.CPU != "" {
		cpu, err = resource.ParseQuantity(site.Driver.CPU)
		return memory, cpu, err
	}
	cores, err := engines.DriverCores(l.Conf)
	return memory, *resource.NewQuantity(int64(cores), resource.DecimalSI), err
}

// request sets what a container gets. Memory is a limit, too, as in Spark's own pods: what is beyond it was never promised.
func request(c *corev1.Container, memory, cpu resource.Quantity, guaranteed bool) {
	r := &c.Resources
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	if r.Limits == nil {
		r.Limits = corev1.ResourceList{}
	}
	r.Requests[corev1.ResourceMemory], r.Limits[corev1.ResourceMemory] = memory, memory
	r.Requests[corev1.ResourceCPU] = cpu
	if guaranteed {
		r.Limits[corev1.ResourceCPU] = cpu
	}
}

// containerPorts declares what a driver listens on: with host networking that keeps the scheduler from putting two drivers
// with the same ports on one node.
func containerPorts(l engines.Launch, site Site) []corev1.ContainerPort {
	names := []string{"driver-rpc", "blockmanager", "connect", "ui"}
	if shuffles(l) {
		names = append(names, "shuffle")
	}
	var out []corev1.ContainerPort
	for i, name := range names {
		p := corev1.ContainerPort{Name: name, ContainerPort: int32(site.Block.at(i)), Protocol: corev1.ProtocolTCP}
		if site.HostNetwork {
			p.HostPort = p.ContainerPort
		}
		out = append(out, p)
	}
	return out
}

// leaseProbe lets the kubelet end an engine whose lease nobody has renewed: a stock engine never ends itself, and there may be
// no gateway any more. The kubelet brings a changed annotation to the file within a minute or two.
func leaseProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:        corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", `test "$(date +%s)" -lt "$(cat ` + path.Join(confDir, leaseFile) + `)"`}}},
		InitialDelaySeconds: 60, PeriodSeconds: 60, FailureThreshold: 2, TimeoutSeconds: 10,
	}
}

// confVolume shows the annotations with files as files.
func confVolume(files map[string]string, l engines.Launch) corev1.Volume {
	var items []corev1.DownwardAPIVolumeFile
	show := func(file, note string) {
		items = append(items, corev1.DownwardAPIVolumeFile{Path: file, FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['" + note + "']"}})
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		show(name, noteOf(name))
	}
	if l.Program == nil {
		show(leaseFile, leaseNote)
	}
	return corev1.Volume{Name: "sluice-conf", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: items}}}
}

// secret renders what nobody may read who reads pods. It belongs to the pod, and goes with it.
func secret(l engines.Launch, site Site, owner *corev1.Pod, tokens []byte) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: site.Namespace, Name: podName(l.Tag), Labels: ourLabels(l, site),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: owner.Name, UID: owner.UID}},
	}, Type: corev1.SecretTypeOpaque, Data: map[string][]byte{}}
	for name, value := range secrets(l) {
		s.Data[name] = []byte(value)
	}
	if len(tokens) > 0 {
		s.Data[tokenKey] = tokens
	}
	return s
}

// userEnv is the one variable of a launch that is no secret.
const userEnv = "SPARK_USER"

func secrets(l engines.Launch) map[string]string {
	out := maps.Clone(l.Env)
	delete(out, userEnv)
	return out
}

// driverEnv is a driver's environment: the template's, the user's, ours.
func driverEnv(env []corev1.EnvVar, l engines.Launch, site Site) []corev1.EnvVar {
	set := map[string]corev1.EnvVar{}
	plain := func(name, value string) { set[name] = corev1.EnvVar{Name: name, Value: value} }
	ofField := func(name, field string) {
		set[name] = corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field}}}
	}
	for k, v := range l.Conf {
		if name, ok := strings.CutPrefix(k, "spark.kubernetes.driverEnv."); ok {
			plain(name, literal(v))
		}
	}
	ofField("SPARK_DRIVER_BIND_ADDRESS", "status.podIP")
	if site.HostNetwork { // the pod's name is its node's, and that need not be one that resolves
		for _, name := range localIPs(l) {
			ofField(name, "status.podIP")
		}
	}
	plain("SPARK_APPLICATION_ID", appID(l.Tag))
	plain("SPARK_LOCAL_DIRS", localDir)
	if l.User != "" {
		plain(userEnv, l.User)
	}
	switch {
	case site.Tokens:
		plain("HADOOP_TOKEN_FILE_LOCATION", path.Join(tokenDir, tokenKey))
		if l.User != "" {
			plain("HADOOP_PROXY_USER", l.User) // whose name the driver goes by; HDFS knows it by its token
		}
	case l.User != "":
		plain("HADOOP_USER_NAME", l.User)
	}
	if len(site.HadoopConf) > 0 {
		plain("HADOOP_CONF_DIR", hadoopDir)
	}
	for name := range secrets(l) {
		set[name] = corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: podName(l.Tag)}, Key: name}}}
	}
	env = slices.DeleteFunc(env, func(e corev1.EnvVar) bool { _, ours := set[e.Name]; return ours })
	for _, name := range slices.Sorted(maps.Keys(set)) {
		env = append(env, set[name])
	}
	return env
}

// localIPs are the variables that tell Spark, and the client of a shuffle service, which address is theirs.
func localIPs(l engines.Launch) []string {
	names := []string{"SPARK_LOCAL_IP"}
	if shuffles(l) {
		names = append(names, "CELEBORN_LOCAL_IP")
	}
	return names
}

// shuffles says that a launch uses a shuffle service.
func shuffles(l engines.Launch) bool { return l.Conf["spark.celeborn.master.endpoints"] != "" }

// literal keeps the kubelet from expanding $(NAME) in an argument or a value.
func literal(text string) string { return strings.ReplaceAll(text, "$(", "$$(") }

// driverArgs are those of the image's entry point. A properties file is not expanded by the kubelet, so what only it knows is
// here; and the API server is named by its address, which needs no DNS.
func driverArgs(l engines.Launch, site Site) []string {
	args := []string{"driver", "--properties-file", path.Join(confDir, propertyFile)}
	for _, kv := range []string{
		"spark.kubernetes.driver.master=https://$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)",
		"spark.driver.host=$(SPARK_DRIVER_BIND_ADDRESS)",
		"spark.connect.grpc.binding.address=$(SPARK_DRIVER_BIND_ADDRESS)",
	} {
		args = append(args, "--conf", kv)
	}
	return append(args, programArgs(l, site)...)
}

// executorTemplate renders the file from which Spark makes executors' pods: JSON, which is YAML as well. What Spark sets wins
// over it.
func executorTemplate(l engines.Launch, site Site) (string, error) {
	meta, spec, c := under(site.Executor.Template, executorContainer)
	common(&spec, site)
	c.SecurityContext = spec.Containers[0].SecurityContext
	site.Evictable.prefer(&spec)
	site.Executor.place(&spec, executorPatience)
	if site.HostNetwork {
		for _, name := range localIPs(l) {
			c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}})
		}
		c.Env = append(c.Env, executorPortEnv(site.ExecutorPorts)...)
	}
	if site.PullPolicy != "" {
		c.ImagePullPolicy = corev1.PullPolicy(site.PullPolicy)
	}
	spec.Containers[0] = *c
	meta.Labels = merged(meta.Labels, ourLabels(l, site))
	text, err := json.Marshal(corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: meta, Spec: spec})
	return string(text), err
}

// executorPortEnv lets each executor take the first free port of a range. Executors get their settings for ports on the
// command line, in variables that the image's entry point sorts by their names, and the last of two equal ones wins. A port
// in Spark's own settings would be declared, and then only one executor ran on a node.
func executorPortEnv(p engines.Ports) []corev1.EnvVar {
	if p.Len() == 0 {
		return nil
	}
	return []corev1.EnvVar{
		{Name: "SPARK_JAVA_OPT_99998", Value: "-Dspark.blockManager.port=" + strconv.Itoa(p.First)},
		{Name: "SPARK_JAVA_OPT_99999", Value: "-Dspark.port.maxRetries=" + strconv.Itoa(p.Len()-1)},
	}
}
