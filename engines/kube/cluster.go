package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/kept"
)

// Options are what a Kubernetes cluster has to know.
type Options struct {
	Name       string
	Instance   string // a label that all pods of this instance of ours carry, and nobody else's
	API        API
	Site       Site                                  // what all drivers have alike
	Images     map[string]Image                      // by runtime; "" is the default one
	Ports      engines.Ports                         // drivers' ports with host networking
	MaxDrivers int                                   // engines and batches at a time in the namespace; 0 is any number
	Conf       map[string]string                     // settings of the place: metastore, warehouse
	Closed     bool                                  // only gateways reach engines there
	Shuffle    func(runtime string) *engines.Shuffle // the remote shuffle service for a runtime; nil, or what gives nil, is none
	Lease      time.Duration                         // an engine that is not renewed for so long ends
	Logs       kept.Dir                              // for what pods leave
	Files      *FileServer                           // serves batches' files; nil where there is none
	Kerberos   *Kerberos                             // nil where HDFS believes everybody, or there is none
	Log        *slog.Logger
}

// Image is a Spark as an image.
type Image struct{ Name, Version string }

// Cluster implements engines.BatchCluster on Kubernetes.
type Cluster struct {
	opt  Options
	pods cache.SharedIndexInformer
	life context.Context
	end  context.CancelFunc
	wait sync.WaitGroup

	begin    sync.Once
	watchers engines.Watchers

	mu      sync.Mutex
	apps    map[engines.Tag]*app
	blocks  map[Block]engines.Tag // chosen here, perhaps not seen by the informer yet
	orphans map[string]time.Time  // drivers that ended unattended, by uid
	lost    error                 // why the API server cannot be watched; nil while it can
}

// New makes a client of a cluster. It asks nothing yet.
func New(opt Options) *Cluster {
	opt.Site.Instance = opt.Instance
	if k := opt.Kerberos; k != nil {
		opt.Site.Tokens, opt.Site.Realm = true, k.Access.Realm()
	}
	c := &Cluster{opt: opt, apps: map[engines.Tag]*app{}, blocks: map[Block]engines.Tag{}}
	c.life, c.end = context.WithCancel(context.Background())
	c.pods = c.informer()
	return c
}

// Name implements engines.Cluster.
func (c *Cluster) Name() string { return c.opt.Name }

// path is where the cluster stands in the configuration.
func (c *Cluster) path() string { return "clusters." + c.opt.Name + ".kubernetes" }

var versionInTag = regexp.MustCompile(`:[^/]*?(\d+\.\d+\.\d+)[^/]*$`)

// Platform implements engines.Cluster: Spark is in the image.
func (c *Cluster) Platform(_ context.Context, runtime string, _ func(string)) (engines.Platform, error) {
	image := c.opt.Images[runtime]
	if image.Name == "" {
		return engines.Platform{}, fmt.Errorf("%s.images: there is no image for runtime %q: add one", c.path(), runtime)
	}
	version := image.Version
	if m := versionInTag.FindStringSubmatch(image.Name); m != nil {
		version = m[1] // what the image says of itself
	}
	conf := merged(c.opt.Conf, map[string]string{imageKey: image.Name})
	p := engines.Platform{Version: version, Home: "/opt/spark", Closed: c.opt.Closed, Conf: conf}
	if c.opt.Shuffle != nil {
		p.Shuffle = c.opt.Shuffle(runtime) // whose jar is in the image, or in a volume of the templates
	}
	return p, nil
}

// imageKey is Spark's own setting for the image.
const imageKey = "spark.kubernetes.container.image"

// Submit implements engines.Cluster. A driver's name follows from its tag, so a submission whose answer was lost is found.
func (c *Cluster) Submit(ctx context.Context, l engines.Launch) (engines.App, error) {
	if err := c.start(ctx); err != nil {
		return engines.App{}, err
	}
	if l.Program != nil {
		if app, found, err := c.Batch(ctx, l.Tag); err != nil || found { // one that has ended is not run again
			return app, err
		}
	}
	a := c.attend(l.Tag, l.Program != nil)
	if err := c.create(ctx, a, l); err != nil {
		c.forget(a)
		if c.opt.Kerberos != nil {
			c.cancelToken(a)
		}
		err = explain(err, c.path())
		if away(err) {
			err = fmt.Errorf("%w: %w", engines.ErrAway, err)
		}
		return engines.App{}, fmt.Errorf("submit %s to cluster %s: %w", l.Tag, c.opt.Name, err)
	}
	c.tell(a)
	a.mu.Lock()
	a.again = func(ctx context.Context) error { return c.create(ctx, a, l) }
	a.mu.Unlock()
	c.attendTo(a)
	return a.now(), nil
}

// create makes a driver's pod, and its Secret. The pod comes first, so that the Secret has an owner from its beginning; until
// it is there the kubelet waits with the driver's process.
func (c *Cluster) create(ctx context.Context, a *app, l engines.Launch) error {
	for {
		if err := c.room(ctx, a); err != nil {
			return err
		}
		site, err := c.site(l)
		if err != nil {
			return err
		}
		pod, err := driverPod(l, site)
		if err != nil {
			return err
		}
		tokens, err := c.token(ctx, a, l)
		if err != nil {
			return err
		}
		began := time.Now()
		made, err := c.createPod(ctx, a, pod)
		if err != nil {
			return err
		}
		a.created(made, began)
		if over, err := c.oneTooMany(ctx, made); err != nil {
			return err
		} else if over {
			if err := c.replace(ctx, a); err != nil {
				return err
			}
			continue
		}
		return c.createSecret(ctx, a, secret(l, site, made, tokens))
	}
}

// site is the cluster as one launch sees it.
func (c *Cluster) site(l engines.Launch) (Site, error) {
	s := c.opt.Site
	s.Image = l.Conf[imageKey]
	s.LeaseUntil = time.Now().Add(c.opt.Lease).Unix()
	if m := versionInTag.FindStringSubmatch(s.Image); m != nil {
		s.Version = m[1]
	}
	var err error
	if s.HostNetwork {
		if s.Block, err = c.chooseBlock(l.Tag); err != nil {
			return s, fmt.Errorf("%w: give %s.ports more of them", err, c.path())
		}
	}
	s.Links, err = c.links(l)
	return s, err
}

// createPod creates a pod, or finds the one that an earlier request has made. It waits where a quota has no room now.
func (c *Cluster) createPod(ctx context.Context, a *app, pod *corev1.Pod) (*corev1.Pod, error) {
	for {
		made, err := patiently(ctx, func(ctx context.Context) (*corev1.Pod, error) {
			return c.opt.API.CreatePod(ctx, pod, metav1.CreateOptions{})
		})
		switch {
		case apierrors.IsAlreadyExists(err):
			return c.existing(ctx, pod)
		case err == nil || !waitsForQuota(err):
			return made, err
		}
		a.waits("the namespace's quota has no room: " + quotaIn(err))
		c.tell(a)
		select {
		case <-time.After(quotaPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// quotaPause is between two tries to get into a quota.
const quotaPause = 2 * time.Second

// existing is the pod that has a launch's name already.
func (c *Cluster) existing(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	list, err := c.list(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pod.Name})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 { // it has gone meanwhile
		return nil, fmt.Errorf("pod %s was deleted while it was being made", pod.Name)
	}
	there := &list.Items[0]
	if there.Labels[instanceLabel] != pod.Labels[instanceLabel] || there.Labels[tagLabel] != pod.Labels[tagLabel] {
		return nil, fmt.Errorf("pod %s is there already, and it is not ours", pod.Name)
	}
	return there, nil
}

func (c *Cluster) createSecret(ctx context.Context, a *app, s *corev1.Secret) error {
	if len(s.Data) == 0 {
		return nil
	}
	for {
		_, err := patiently(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, c.opt.API.CreateSecret(ctx, s, metav1.CreateOptions{})
		})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		there, err := patiently(ctx, func(ctx context.Context) (*corev1.Secret, error) { return c.opt.API.GetSecret(ctx, s.Name) })
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return err
		case len(there.OwnerReferences) == 1 && there.OwnerReferences[0].UID == s.OwnerReferences[0].UID: // of a request whose answer was lost
			return c.useStored(ctx, a)
		}
		select { // it is of the pod that this one replaces, and goes with that
		case <-time.After(killPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// list asks the API server for pods of ours.
func (c *Cluster) list(ctx context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	return patiently(ctx, func(ctx context.Context) (*corev1.PodList, error) {
		return c.opt.API.ListPods(ctx, o)
	})
}

// List implements engines.Cluster. It asks what is watched, which is whole as long as the watch stands.
func (c *Cluster) List(ctx context.Context) ([]engines.App, error) {
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	if err := c.away(); err != nil { // what is known may be old
		return nil, fmt.Errorf("list cluster %s: %w", c.opt.Name, explain(err, c.path()))
	}
	var out []engines.App
	for _, o := range c.pods.GetStore().List() {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Labels[kindLabel] != kindEngine || p.Labels[roleLabel] != "driver" {
			continue
		}
		if app := c.adopt(p).now(); app.State != engines.Ended && live(p) { // one that has ended is followed until its pod is gone
			out = append(out, app)
		}
	}
	return out, nil
}

// selector selects pods of this instance.
func (c *Cluster) selector(more string) string {
	return instanceLabel + "=" + c.opt.Instance + "," + more
}

// adopt follows a driver that is there already.
func (c *Cluster) adopt(pod *corev1.Pod) *app {
	tag := engines.Tag(pod.Labels[tagLabel])
	if a := c.find(tag); a != nil {
		return a
	}
	a := c.attend(tag, pod.Labels[kindLabel] == kindBatch)
	c.seen(trimmed(pod))
	c.attendTo(a)
	return a
}

// attendTo does what an application needs as long as it lives.
func (c *Cluster) attendTo(a *app) {
	c.wait.Go(func() { c.bring(c.life, a) })
	c.wait.Go(func() { c.keepToken(c.life, a) })
}

// Watch implements engines.Cluster.
func (c *Cluster) Watch(ctx context.Context) (<-chan engines.Event, error) {
	c.startInformer()
	return c.watchers.Watch(ctx), nil
}

// Kill implements engines.Cluster. What belongs to a driver goes with its pod.
func (c *Cluster) Kill(ctx context.Context, tag engines.Tag) error {
	a := c.find(tag)
	if a != nil {
		a.kill()
	}
	if err := c.deletePod(ctx, podName(tag), "", nil); err != nil {
		return fmt.Errorf("end %s: %w", tag, err)
	}
	look := time.NewTicker(killPause)
	defer look.Stop()
	for {
		list, err := c.list(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + podName(tag)})
		if err == nil && len(list.Items) == 0 {
			if a != nil {
				c.vanished(a, "", "it was ended")
			}
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("end %s: %w", tag, context.Cause(ctx))
		}
	}
}

// killPause is between two looks whether a pod has gone.
const killPause = 300 * time.Millisecond

// deletePod deletes a pod, if it is the one of that uid, unless that is empty. One that is not there is no error.
func (c *Cluster) deletePod(ctx context.Context, name string, uid types.UID, grace *int64) error {
	o := metav1.DeleteOptions{GracePeriodSeconds: grace}
	if uid != "" {
		o.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	_, err := patiently(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.opt.API.DeletePod(ctx, name, o)
	})
	if apierrors.IsNotFound(err) || uid != "" && apierrors.IsConflict(err) { // another one has the name
		return nil
	}
	return err
}

// Renew implements engines.Cluster: it moves the time until which the kubelet lets the engine live. That is written when a
// third of the lease has passed, not each time.
func (c *Cluster) Renew(ctx context.Context, tag engines.Tag) error {
	until := time.Now().Add(c.opt.Lease)
	if p := c.cached(tag); p != nil {
		c.adopt(p) // who has started it may be gone
		if leaseOf(p).After(until.Add(-c.opt.Lease / 3)) {
			return nil
		}
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, leaseNote, strconv.FormatInt(until.Unix(), 10))
	err := c.opt.API.PatchPod(ctx, podName(tag), []byte(patch))
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// leaseOf is until when an engine lives.
func leaseOf(p *corev1.Pod) time.Time {
	n, err := strconv.ParseInt(p.Annotations[leaseNote], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

// Log implements engines.Cluster.
func (c *Cluster) Log(ctx context.Context, tag engines.Tag, n int) (string, error) {
	a := c.find(tag)
	text, err := c.readLog(ctx, podName(tag))
	switch {
	case a != nil && err == nil:
		a.keepLog(text)
	case a != nil:
		text = a.keptLog()
	}
	if err != nil && text == "" {
		text = c.opt.Logs.Read(string(tag))
	}
	if err != nil && text == "" {
		return "", fmt.Errorf("cluster %s has no log of %s: %w", c.opt.Name, tag, err)
	}
	return text[max(0, len(text)-n):], nil
}

// Files serves the files of batches to their drivers.
func (c *Cluster) Files() http.Handler { return c.opt.Files }

// Close implements engines.Cluster.
func (c *Cluster) Close() error {
	c.end()
	c.wait.Wait()
	if c.opt.Kerberos != nil {
		c.opt.Kerberos.Access.Close()
	}
	return nil
}

// start begins to watch, and waits until what is there is known.
func (c *Cluster) start(ctx context.Context) error {
	c.startInformer()
	if cache.WaitForCacheSync(ctx.Done(), c.pods.HasSynced) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := context.Cause(ctx)
	if c.lost != nil {
		err = fmt.Errorf("%w: %w", err, explain(c.lost, c.path()))
	}
	return fmt.Errorf("cluster %s does not answer: %w", c.opt.Name, err)
}

// away is why the API server cannot be watched.
func (c *Cluster) away() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

var errQuota = errors.New("exceeded quota")

// waitsForQuota says that there will be room when others have gone: what is asked for alone is not more than the quota.
func waitsForQuota(err error) bool {
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), errQuota.Error()) {
		return false
	}
	asked, limit := amounts(err.Error(), "requested: "), amounts(err.Error(), "limited: ")
	for name, most := range limit {
		if want, ok := asked[name]; ok && want.Cmp(most) > 0 {
			return false
		}
	}
	return len(limit) > 0
}

func quotaIn(err error) string {
	_, text, _ := strings.Cut(err.Error(), errQuota.Error()+": ")
	return text
}
