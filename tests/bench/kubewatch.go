//go:build e2e

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"github.com/sluicedata/sluice/engines/kube"
	"github.com/sluicedata/sluice/tests/testbed"
)

const watchedDrivers, watchedExecutors = 50, 4950

// watch is what the gateway's watch of 5,000 pods costs, drivers and their executors, in a process that does nothing else,
// against an informer that keeps pods as they are. The drivers are ours, and executors are rendered as Spark renders them; no
// scheduler looks at them. Drivers are made to look as if they ran, and somebody listens where they would.
func (p *place) watch() []Figure {
	const span, perSecond = 60 * time.Second, 50
	names := p.populate()
	sides := []*watching{p.startWatching("plain"), p.startWatching("ours")}
	var out []Figure
	for _, what := range []struct {
		name, unit string
		of         func(report) float64
	}{{"first sync", "s", func(r report) float64 { return r.Sync }}, {"CPU of it", "s", func(r report) float64 { return r.CPU }},
		{"heap that it keeps", "MiB", func(r report) float64 { return r.Heap }}, {"memory that it keeps", "MiB", func(r report) float64 { return r.RSS }},
		{"most memory", "MiB", func(r report) float64 { return r.Peak }}} {
		title := fmt.Sprintf("watch of %d pods, %s", watchedDrivers+watchedExecutors, what.name)
		plain := series{what.of(sides[0].report)}.figure(title+", a plain informer", what.unit)
		out = append(out, plain, series{what.of(sides[1].report)}.figure(title+", gateway's cluster", what.unit).against(plain))
	}
	var before [2]float64
	for i, w := range sides {
		before[i] = testbed.CPUSeconds(w.cmd.Process.Pid)
	}
	n := p.stir(names, span, perSecond)
	title := fmt.Sprintf("watch of %d pods, CPU of %.0f updates a second for %.0f s", len(names), float64(n)/span.Seconds(), span.Seconds())
	plain := series{testbed.CPUSeconds(sides[0].cmd.Process.Pid) - before[0]}.figure(title+", a plain informer", "s")
	ours := series{testbed.CPUSeconds(sides[1].cmd.Process.Pid) - before[1]}.figure(title+", gateway's cluster", "s").against(plain)
	for _, w := range sides {
		_ = w.in.Close()
		_ = w.cmd.Wait()
	}
	return append(out, plain, ours)
}

// populate makes the pods, and returns their names.
func (p *place) populate() []string {
	sample := p.sample(false)
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:15002") // of a driver on the pod network
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	p.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	began := time.Now()
	drivers, names := make([]driver, watchedDrivers), make([]string, watchedDrivers+watchedExecutors)
	together(8, watchedDrivers, func(i int) {
		d := sample.another(p.t)
		made, err := p.pods().Create(context.Background(), d.pod, metav1.CreateOptions{})
		if err == nil {
			made.Status = status("spark-kubernetes-driver", "127.0.0.1")
			d.pod, err = p.pods().UpdateStatus(context.Background(), made, metav1.UpdateOptions{})
		}
		if err != nil {
			p.t.Fatalf("%v", err)
		}
		drivers[i], names[i] = d, d.pod.Name
	})
	template := p.executorTemplate(drivers[0])
	together(8, watchedExecutors, func(i int) {
		e := executor(template, drivers[i%watchedDrivers], i/watchedDrivers+1)
		made, err := p.pods().Create(context.Background(), e, metav1.CreateOptions{})
		if err == nil {
			made.Status = status("spark-kubernetes-executor", fmt.Sprintf("10.91.%d.%d", 1+i%3, 2+i/3%250))
			_, err = p.pods().UpdateStatus(context.Background(), made, metav1.UpdateOptions{})
		}
		if err != nil {
			p.t.Fatalf("%v", err)
		}
		names[watchedDrivers+i] = e.Name
	})
	p.t.Logf("%d pods made in %.0f s; an executor has %d bytes of JSON, a driver %d", len(names), time.Since(began).Seconds(), p.size(names[watchedDrivers]), p.size(names[0]))
	return names
}

// size is how long a pod is.
func (p *place) size(name string) int {
	pod, err := p.pods().Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	text, _ := json.Marshal(pod)
	return len(text)
}

// status is that of a pod that runs.
func status(container, address string) corev1.PodStatus {
	now, yes := metav1.Now(), true
	s := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}, HostIP: "10.90.0.2", HostIPs: []corev1.HostIP{{IP: "10.90.0.2"}},
		StartTime: &now, QOSClass: corev1.PodQOSBurstable,
		ContainerStatuses: []corev1.ContainerStatus{{Name: container, Ready: true, Started: &yes, Image: sparkImage,
			ImageID:     "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b",
			ContainerID: "containerd://0a1c2d8bb6e4cb5b2b0f2b1b4f5a9c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}}
	for _, c := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return s
}

// executorTemplate is what Spark would read in a driver's pod.
func (p *place) executorTemplate(d driver) *corev1.Pod {
	t := &corev1.Pod{}
	if err := yaml.Unmarshal([]byte(d.pod.Annotations["files.sluice/executor.yaml"]), t); err != nil || len(t.Spec.Containers) == 0 {
		p.t.Fatalf("the template of executors: %v", err)
	}
	return t
}

// executor is a pod as Spark makes it from the template.
func executor(template *corev1.Pod, d driver, n int) *corev1.Pod {
	e, id := template.DeepCopy(), strconv.Itoa(n)
	e.Namespace, e.Name = d.pod.Namespace, d.pod.Name+"-exec-"+id
	for k, v := range d.pod.Labels {
		e.Labels[k] = v
	}
	for k, v := range map[string]string{"spark-role": "executor", "spark-exec-id": id, "spark-exec-resourceprofile-id": "0", "spark-exec-inactive": "false", "spark-app-name": "sluice-ann"} {
		e.Labels[k] = v
	}
	e.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: d.pod.Name, UID: d.pod.UID, Controller: new(true)}}
	e.Spec.SchedulerName = nobody
	c := &e.Spec.Containers[0]
	c.Image, c.Args = sparkImage, []string{"executor"}
	env := map[string]string{"SPARK_USER": "ann", "HADOOP_USER_NAME": "ann", "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@10.91.1.17:7078", "SPARK_EXECUTOR_CORES": "2",
		"SPARK_EXECUTOR_MEMORY": "512m", "SPARK_APPLICATION_ID": d.pod.Labels["spark-app-selector"], "SPARK_CONF_DIR": "/opt/spark/conf", "SPARK_EXECUTOR_ID": id,
		"SPARK_RESOURCE_PROFILE_ID": "0", "SPARK_LOCAL_DIRS": "/var/data/spark-7a2c4f0e-5d57-4f0b-9f1c-2f2f8d1c9f33"}
	for i := range 12 { // the settings that executors get on the command line
		env["SPARK_JAVA_OPT_"+strconv.Itoa(i)] = "-Dspark.kubernetes.some.setting" + strconv.Itoa(i) + "=value"
	}
	for k, v := range env {
		c.Env = append(c.Env, corev1.EnvVar{Name: k, Value: v})
	}
	for k, field := range map[string]string{"SPARK_EXECUTOR_POD_IP": "status.podIP", "SPARK_EXECUTOR_POD_NAME": "metadata.name"} {
		c.Env = append(c.Env, corev1.EnvVar{Name: k, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field}}})
	}
	c.Resources = d.pod.Spec.Containers[0].Resources
	e.Spec.Volumes = append(e.Spec.Volumes, corev1.Volume{Name: "spark-local-dir-1", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "spark-local-dir-1", MountPath: env["SPARK_LOCAL_DIRS"]})
	return e
}

// stir changes pods, as the kubelets do: so many a second.
func (p *place) stir(names []string, span time.Duration, perSecond int) (done int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	work := make(chan string)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		together(4, 4, func(int) {
			for name := range work {
				patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":"True","lastProbeTime":%q}]}}`, time.Now().UTC().Format(time.RFC3339))
				if _, err := p.pods().Patch(context.Background(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
					p.t.Fatalf("%v", err)
				}
			}
		})
	}()
	for began := time.Now(); time.Since(began) < span; done++ {
		<-tick.C
		work <- names[done*37%len(names)]
	}
	close(work)
	<-ended
	return done
}

// report is what a watching process has needed until it knew all pods, in seconds and MiB.
type report struct{ Sync, CPU, Heap, RSS, Peak float64 }

// watching is such a process.
type watching struct {
	report
	cmd *exec.Cmd
	in  io.Closer
}

func (p *place) startWatching(how string) *watching {
	self, err := os.Executable()
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	w := &watching{cmd: exec.CommandContext(context.Background(), self, "-watching", how, p.kubeconfig, p.namespace)}
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		p.t.Fatalf("%v", err)
	}
	said, err := w.cmd.StdoutPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	line, err := bufio.NewReader(said).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &w.report)
	}
	if err != nil {
		p.t.Fatalf("a process that watches: %v", err)
	}
	return w
}

// watchPods is that process: it says what it needed, and goes on until its input ends.
func watchPods(how, kubeconfig, namespace string) error {
	cfg, _, err := kube.Access{Kubeconfig: kubeconfig}.Connect()
	if err != nil {
		return err
	}
	api, err := kube.NewAPI(cfg, namespace)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	if _, err := api.ListPods(ctx, metav1.ListOptions{Limit: 1}); err != nil { // the connection is there
		return err
	}
	heap, rss, cpu, began := liveHeap(), testbed.Memory(os.Getpid()), ownCPU(), time.Now()
	var keep any
	if how == "ours" {
		c := kube.New(kube.Options{Name: "k", Instance: instance, API: api, Lease: 24 * time.Hour, Log: slog.New(slog.DiscardHandler), Site: kube.Site{Namespace: namespace}})
		apps, err := c.List(ctx)
		if err != nil || len(apps) != watchedDrivers {
			return fmt.Errorf("%d drivers: %w", len(apps), err)
		}
		keep = c
	} else {
		keep, err = plainInformer(ctx, api)
		if err != nil {
			return err
		}
	}
	r := report{Sync: time.Since(began).Seconds(), CPU: ownCPU() - cpu, Peak: mib(testbed.PeakMemory(os.Getpid()) - rss)}
	r.Heap, r.RSS = mib(liveHeap()-heap), mib(testbed.Memory(os.Getpid())-rss)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(keep)
	return err
}

// liveHeap is what is in use; what is not goes back to the system.
func liveHeap() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// plainInformer keeps pods as they come.
func plainInformer(ctx context.Context, api kube.API) (cache.SharedIndexInformer, error) {
	mine := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector = "sluice/instance=" + instance
		return o
	}
	inf := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (kruntime.Object, error) {
			return api.ListPods(ctx, mine(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return api.WatchPods(ctx, mine(o))
		},
	}, &corev1.Pod{}, 0, cache.Indexers{})
	go inf.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) || len(inf.GetStore().List()) != watchedDrivers+watchedExecutors {
		return nil, fmt.Errorf("%d pods", len(inf.GetStore().List()))
	}
	return inf, nil
}
