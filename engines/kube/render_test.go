package kube

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata, whose difference a reviewer reads.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "if this is meant: go test ./engines/kube -update")
}

func testSite(version string, host bool) Site {
	s := Site{Namespace: "spark", Instance: "sluice-0a1b", Account: "sluice-driver", Image: "registry/spark:" + version, Version: version, HostNetwork: host,
		Evictable: Label{Key: "sluice/evictable"}, MaxExecutors: 20, LeaseUntil: 1795421293,
		Driver:   Pool{PriorityClass: "sluice-driver"},
		Executor: Pool{PriorityClass: "sluice-executor", CPU: "500m", Selector: map[string]string{"pool": "batch"}}}
	if host {
		s.Block, s.ExecutorPorts = 24110, engines.Ports{First: 25000, Last: 25099}
	}
	return s
}

func engineLaunch(t *testing.T, version string) engines.Launch {
	l, err := spark.Driver{}.Plan(engines.Spec{ID: "5a01e0de-41", User: "ann", Name: "sluice ann", Memory: "2g", Token: "s3cret",
		Conf: map[string]string{"spark.sql.shuffle.partitions": "8", "spark.executor.memory": "1g", "spark.kubernetes.driverEnv.TZ": "UTC",
			"spark.kubernetes.executor.volumes.hostPath.root.mount.path": "/host"}},
		engines.Platform{Version: version, Closed: true, Home: "/opt/spark", Conf: map[string]string{"spark.hadoop.hive.metastore.uris": "thrift://ms:9083", imageKey: "registry/spark:" + version}})
	require.NoError(t, err)
	return l
}

// rendered is everything that a launch makes, as text.
func rendered(t *testing.T, l engines.Launch, s Site) string {
	return renderedWith(t, l, s, nil)
}

func renderedWith(t *testing.T, l engines.Launch, s Site, tokens []byte) string {
	t.Helper()
	pod, err := driverPod(l, s)
	require.NoError(t, err)
	text, err := yaml.Marshal(pod)
	require.NoError(t, err)
	owner := pod.DeepCopy()
	owner.UID = "1d-0f-th3-p0d"
	sec, err := yaml.Marshal(secret(l, s, owner, tokens))
	require.NoError(t, err)
	return string(text) + "---\n" + string(sec)
}

// An engine as it is made, to the last byte.
func TestEngine(t *testing.T) {
	for _, version := range []string{"3.5.7", "4.3.0"} {
		for name, host := range map[string]bool{"host": true, "pod": false} {
			t.Run(version+" "+name, func(t *testing.T) {
				golden(t, "engine-"+version+"-"+name, rendered(t, engineLaunch(t, version), testSite(version, host)))
			})
		}
	}
}

// With a shuffle service nothing is kept on executors: they have nothing to move away, and may go at any time.
func TestShuffle(t *testing.T) {
	l, err := spark.Driver{}.Plan(engines.Spec{ID: "5a01e0de-41", User: "ann", Name: "sluice ann", Memory: "2g", Token: "s3cret"},
		engines.Platform{Version: "3.5.7", Closed: true, Home: "/opt/spark", Conf: map[string]string{imageKey: "registry/spark:3.5.7"},
			Shuffle: &engines.Shuffle{Masters: []string{"m1:9097"}, Client: "/opt/celeborn/client.jar", Replicate: true}})
	require.NoError(t, err)
	golden(t, "engine-3.5.7-shuffle", rendered(t, l, testSite("3.5.7", true)))
}

// A template may bring the client's jar from an image, to drivers and executors alike.
func TestTemplateBringsTheShuffleClient(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`spec:
  initContainers:
  - name: shuffle-client
    image: celeborn-client:0.7.0
    command: [cp, /client.jar, /opt/celeborn/client.jar]
    volumeMounts: [{name: celeborn, mountPath: /opt/celeborn}]
  containers:
  - volumeMounts: [{name: celeborn, mountPath: /opt/celeborn}]
  volumes: [{name: celeborn, emptyDir: {}}]
`), 0o600))
	tmpl, err := ReadTemplate(file)
	require.NoError(t, err)
	s := testSite("4.3.0", true)
	s.Driver.Template, s.Executor.Template = tmpl, tmpl
	driver, err := driverPod(engineLaunch(t, "4.3.0"), s)
	require.NoError(t, err)
	text, err := executorTemplate(engineLaunch(t, "4.3.0"), s)
	require.NoError(t, err)
	var executor corev1.Pod
	require.NoError(t, yaml.Unmarshal([]byte(text), &executor))
	for name, spec := range map[string]corev1.PodSpec{driverContainer: driver.Spec, executorContainer: executor.Spec} {
		require.Equal(t, name, spec.Containers[0].Name)
		require.Len(t, spec.InitContainers, 1)
		require.Equal(t, restricted(), spec.InitContainers[0].SecurityContext, "or a namespace that asks for it lets nothing in")
		require.Contains(t, spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "celeborn", MountPath: "/opt/celeborn"})
		require.Equal(t, "celeborn", spec.Volumes[0].Name)
	}
}

// With Kerberos the token is in the Secret alone, and every JVM knows a realm.
func TestKerberos(t *testing.T) {
	s := testSite("4.3.0", true)
	s.Tokens, s.Realm, s.HadoopConf = true, "EXAMPLE.COM", map[string]string{"core-site.xml": "<configuration/>\n"}
	l := engineLaunch(t, "4.3.0")
	golden(t, "engine-4.3.0-kerberos", renderedWith(t, l, s, []byte("HDTS-t0k3n")))
	conf, err := sparkConf(l, s)
	require.NoError(t, err)
	require.Contains(t, conf["spark.driver.extraJavaOptions"], "-Djava.security.krb5.realm=EXAMPLE.COM")
	require.Equal(t, "-Djava.security.krb5.realm=EXAMPLE.COM -Djava.security.krb5.kdc=none", conf["spark.executor.extraJavaOptions"])

	l.Conf["spark.executor.extraJavaOptions"] = "-Djava.security.krb5.conf=/mine"
	conf, err = sparkConf(l, s)
	require.NoError(t, err)
	require.Equal(t, "-Djava.security.krb5.conf=/mine", conf["spark.executor.extraJavaOptions"])
}

// Batches, one of each kind.
func TestBatch(t *testing.T) {
	b := engines.Batch{ID: "b-7", User: "bob", Name: "nightly", Memory: "1g", Files: []string{"/etl/a.csv#in.csv"}, Archives: []string{"hdfs://nn:8020/apps/env.zip#env"}}
	jar, python, sql := b, b, b
	jar.Jar, jar.Class, jar.Args, jar.Jars = "/etl/job.jar", "org.example.Main", []string{"one two", "$(HOME)"}, []string{"/etl/lib.jar"}
	python.Python, python.PyFiles = "/etl/job.py", []string{"/etl/util.py"}
	sql.SQL = "/etl/job.sql"
	for name, b := range map[string]engines.Batch{"jar": jar, "python": python, "sql": sql} {
		for _, version := range []string{"3.5.7", "4.3.0"} {
			t.Run(name+" "+version, func(t *testing.T) {
				l, err := spark.Driver{}.PlanBatch(b, engines.Platform{Version: version, Closed: true, Home: "/opt/spark", Conf: map[string]string{imageKey: "registry/spark:" + version}})
				require.NoError(t, err)
				s := testSite(version, true)
				s.Links = map[string]string{}
				for _, f := range l.Program.Bring {
					s.Links[f.Link] = "http://gw:10099/files/k/b-7/0/s1gn3d/" + f.Link
					if strings.HasPrefix(f.From, "hdfs") {
						s.Links[f.Link] = f.From
					}
				}
				golden(t, "batch-"+name+"-"+version, rendered(t, l, s))
			})
		}
	}
}

// What a template says stays, unless it is ours to say.
func TestTemplates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "driver.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`metadata:
  labels: {team: bi, spark-role: executor}
spec:
  restartPolicy: Always
  serviceAccountName: admin
  nodeSelector: {zone: a}
  securityContext: {runAsUser: 1000}
  containers:
  - name: logger
    image: logger:1
  - name: spark-kubernetes-driver
    image: other
    env: [{name: SPARK_USER, value: root}, {name: MINE, value: "1"}]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
`), 0o600))
	tmpl, err := ReadTemplate(file)
	require.NoError(t, err)
	s := testSite("4.3.0", true)
	s.Driver.Template, s.Driver.Selector, s.Guaranteed = tmpl, map[string]string{"pool": "stable"}, true
	pod, err := driverPod(engineLaunch(t, "4.3.0"), s)
	require.NoError(t, err)
	require.Equal(t, "bi", pod.Labels["team"])
	require.Equal(t, "driver", pod.Labels[roleLabel])
	require.Equal(t, corev1.RestartPolicyNever, pod.Spec.RestartPolicy)
	require.Equal(t, "sluice-driver", pod.Spec.ServiceAccountName)
	require.Equal(t, map[string]string{"zone": "a", "pool": "stable"}, pod.Spec.NodeSelector)
	require.Equal(t, int64(1000), *pod.Spec.SecurityContext.RunAsUser)
	require.Len(t, pod.Spec.Containers, 2)
	c := pod.Spec.Containers[0]
	require.Equal(t, driverContainer, c.Name)
	require.Equal(t, "registry/spark:4.3.0", c.Image)
	require.Equal(t, "data", c.VolumeMounts[0].Name)
	env := map[string]corev1.EnvVar{}
	for _, e := range c.Env {
		require.NotContains(t, env, e.Name)
		env[e.Name] = e
	}
	require.Equal(t, "1", env["MINE"].Value)
	require.Equal(t, "ann", env["SPARK_USER"].Value)
	require.Equal(t, c.Resources.Requests, c.Resources.Limits)
	require.Equal(t, "logger", pod.Spec.Containers[1].Name)

	for text, want := range map[string]string{
		"spec: {containers: [], restartPolcy: Never}": `unknown field "restartPolcy"`,
		"kind: Deployment":                            "is a Deployment: write a PodTemplateSpec",
		"spec: 7":                                     "is no PodTemplateSpec",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := ReadTemplate(file)
		require.ErrorContains(t, err, want)
	}
}

// No secret is in an object that whoever reads pods can read.
func TestSecretsAreInSecrets(t *testing.T) {
	pod, err := driverPod(engineLaunch(t, "4.3.0"), testSite("4.3.0", true))
	require.NoError(t, err)
	text, err := yaml.Marshal(pod)
	require.NoError(t, err)
	require.NotContains(t, string(text), "s3cret")
	require.NotContains(t, string(text), "hostPath", "a user's own volumes are not for him to mount")
}

func TestReadPlaces(t *testing.T) {
	tol, err := ReadTolerations("spot=true:NoSchedule, gpu:NoExecute,dedicated, *")
	require.NoError(t, err)
	require.Equal(t, []corev1.Toleration{
		{Key: "spot", Operator: "Equal", Value: "true", Effect: "NoSchedule"}, {Key: "gpu", Operator: "Exists", Effect: "NoExecute"},
		{Key: "dedicated", Operator: "Exists"}, {Operator: "Exists"}}, tol)
	_, err = ReadTolerations("spot:Never")
	require.ErrorContains(t, err, "write it like spot=true:NoSchedule")
	sel, err := ReadSelector("a=b, c.d/e=f")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b", "c.d/e": "f"}, sel)
	_, err = ReadSelector("pool")
	require.ErrorContains(t, err, "pool=true")
	_, err = ReadLabel("a b")
	require.ErrorContains(t, err, "no label of nodes")
	_, err = ReadCPU("-1")
	require.ErrorContains(t, err, "write it like")
	cpu, err := ReadCPU("0.5")
	require.NoError(t, err)
	require.Equal(t, "500m", cpu)
}

// Users choose how many executors they have, within the limits of the cluster.
func TestExecutorsAreLimited(t *testing.T) {
	s := Site{MinExecutors: 1, MaxExecutors: 4}
	for _, c := range []struct{ in, want map[string]string }{
		{nil, map[string]string{"minExecutors": "1", "maxExecutors": "4"}},
		{map[string]string{"spark.dynamicAllocation.maxExecutors": "100", "spark.dynamicAllocation.minExecutors": "0"}, map[string]string{"minExecutors": "1", "maxExecutors": "4"}},
		{map[string]string{"spark.dynamicAllocation.maxExecutors": "2", "spark.dynamicAllocation.minExecutors": "2"}, map[string]string{"minExecutors": "2", "maxExecutors": "2"}},
	} {
		conf := merged(c.in)
		require.NoError(t, limitExecutors(conf, s))
		for k, v := range c.want {
			require.Equal(t, v, conf["spark.dynamicAllocation."+k], c.in)
		}
	}
	conf := map[string]string{"spark.executor.instances": "9"}
	require.NoError(t, limitExecutors(conf, s))
	require.Equal(t, "4", conf["spark.executor.instances"])
	require.ErrorContains(t, limitExecutors(map[string]string{"spark.executor.instances": "many"}, s), "spark.executor.instances")
}

func TestBlocks(t *testing.T) {
	ports := engines.Ports{First: 24000, Last: 24010} // two and a rest
	taken := map[Block]bool{}
	for range 2 {
		b, err := freeBlock(ports, "x", func(b Block) bool { return taken[b] })
		require.NoError(t, err)
		require.False(t, taken[b])
		require.Zero(t, (int(b)-24000)%BlockSize)
		taken[b] = true
	}
	_, err := freeBlock(ports, "x", func(b Block) bool { return taken[b] })
	require.ErrorContains(t, err, "all 2 blocks")
}

// A quota that has no room now will have it; one that is too small never.
func TestQuotas(t *testing.T) {
	quota := func(text string) error {
		return apierrors.NewForbidden(corev1.Resource("pods"), "sluice-1", errors.New("exceeded quota: q, "+text))
	}
	require.True(t, waitsForQuota(quota("requested: pods=1,requests.memory=1Gi, used: pods=1,requests.memory=2Gi, limited: pods=1,requests.memory=2Gi")))
	require.False(t, waitsForQuota(quota("requested: requests.memory=3Gi, used: requests.memory=0, limited: requests.memory=2Gi")))
	require.False(t, waitsForQuota(apierrors.NewForbidden(corev1.Resource("pods"), "sluice-1", errors.New("failed quota: q: must specify limits.cpu"))))
}

func TestWords(t *testing.T) {
	a := &app{tag: "5a01", pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "sluice-5a01"}}}
	p := a.pod
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient memory."}}
	require.Equal(t, "pod sluice-5a01 in namespace ns has no node yet: 0/3 nodes are available: 3 Insufficient memory.", a.describe("ns").Reason)
	p.Spec.NodeName, p.Status.Conditions = "node1", nil
	a.news = `Pulling image "spark"`
	require.Equal(t, `pod sluice-5a01 in namespace ns is on node1: Pulling image "spark"`, a.describe("ns").Reason)
	wait := func(reason, message string) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: driverContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	}
	wait("ErrImagePull", "no such host")
	require.Equal(t, engines.Pending, a.describe("ns").State)
	wait("ImagePullBackOff", `Back-off pulling image "spark": ErrImagePull: not found`)
	require.Equal(t, engines.Ended, a.describe("ns").State)
	require.Contains(t, a.describe("ns").Reason, "its image cannot be pulled")
	wait("ImagePullBackOff", `ErrImagePull: dial tcp: i/o timeout`)
	require.Equal(t, engines.Pending, a.describe("ns").State, "that may pass")
	p.Status = corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{Name: driverContainer, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}}}}
	require.Contains(t, a.describe("ns").Reason, "code 137 (OOMKilled)")
	require.Equal(t, engines.Failed, a.describe("ns").Outcome)
	p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}
	require.Contains(t, a.describe("ns").Reason, "failed: Evicted: The node was low on resource")
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}}}
	p.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	require.Contains(t, a.describe("ns").Reason, "has to leave node1: its node is being drained")
	require.Equal(t, engines.Ended, a.describe("ns").State)
}
