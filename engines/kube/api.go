package kube

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// API is what a Cluster asks of a namespace, and, to know how much room there is, of all of them.
type API interface {
	ListPods(context.Context, metav1.ListOptions) (*corev1.PodList, error)
	WatchPods(context.Context, metav1.ListOptions) (watch.Interface, error)
	CreatePod(context.Context, *corev1.Pod, metav1.CreateOptions) (*corev1.Pod, error)
	DeletePod(ctx context.Context, name string, o metav1.DeleteOptions) error
	// PatchPod merges a document in JSON.
	PatchPod(ctx context.Context, name string, patch []byte) error
	PodLog(ctx context.Context, name string, o *corev1.PodLogOptions) (io.ReadCloser, error)
	CreateSecret(context.Context, *corev1.Secret, metav1.CreateOptions) error
	GetSecret(ctx context.Context, name string) (*corev1.Secret, error)
	ListEvents(context.Context, metav1.ListOptions) (*corev1.EventList, error)
	ListQuotas(context.Context, metav1.ListOptions) (*corev1.ResourceQuotaList, error)

	ListNodes(context.Context, metav1.ListOptions) (*corev1.NodeList, error)
	WatchNodes(context.Context, metav1.ListOptions) (watch.Interface, error)
	ListAllPods(context.Context, metav1.ListOptions) (*corev1.PodList, error)
	WatchAllPods(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// client is an API over client-go's REST client. Its typed clients would do the same; but they know every kind of object that
// Kubernetes has, which costs 25 MB of program and 20 MB of memory.
type client struct {
	rest      rest.Interface
	namespace string
}

var (
	scheme     = runtime.NewScheme()
	codecs     = serializer.NewCodecFactory(scheme)
	parameters = runtime.NewParameterCodec(scheme)
)

func init() {
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err) // two kinds of one name: never, once it has worked
	}
}

// NewAPI makes a client of one namespace. It asks nothing yet.
func NewAPI(cfg *rest.Config, namespace string) (API, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath, cfg.GroupVersion, cfg.NegotiatedSerializer = "/api", &corev1.SchemeGroupVersion, codecs.WithoutConversion()
	r, err := rest.RESTClientFor(cfg)
	return client{r, namespace}, err
}

func (c client) list(ctx context.Context, what string, o metav1.ListOptions, out runtime.Object) error {
	return c.rest.Get().Namespace(c.namespace).Resource(what).VersionedParams(&o, parameters).Do(ctx).Into(out)
}

func (c client) create(ctx context.Context, what string, in runtime.Object, o metav1.CreateOptions, out runtime.Object) error {
	return c.rest.Post().Namespace(c.namespace).Resource(what).VersionedParams(&o, parameters).Body(in).Do(ctx).Into(out)
}

func (c client) patch(ctx context.Context, what, name string, patch []byte) error {
	return c.rest.Patch(types.MergePatchType).Namespace(c.namespace).Resource(what).Name(name).Body(patch).Do(ctx).Error()
}

func (c client) ListPods(ctx context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	out := &corev1.PodList{}
	return out, c.list(ctx, "pods", o, out)
}

func (c client) watch(ctx context.Context, what string, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return c.rest.Get().Namespace(c.namespace).Resource(what).VersionedParams(&o, parameters).Watch(ctx)
}

func (c client) WatchPods(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return c.watch(ctx, "pods", o)
}

func (c client) CreatePod(ctx context.Context, p *corev1.Pod, o metav1.CreateOptions) (*corev1.Pod, error) {
	out := &corev1.Pod{}
	return out, c.create(ctx, "pods", p, o, out)
}

func (c client) DeletePod(ctx context.Context, name string, o metav1.DeleteOptions) error {
	return c.rest.Delete().Namespace(c.namespace).Resource("pods").Name(name).Body(&o).Do(ctx).Error()
}

func (c client) PatchPod(ctx context.Context, name string, patch []byte) error {
	return c.patch(ctx, "pods", name, patch)
}

func (c client) PodLog(ctx context.Context, name string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return c.rest.Get().Namespace(c.namespace).Resource("pods").Name(name).SubResource("log").VersionedParams(o, parameters).Stream(ctx)
}

func (c client) CreateSecret(ctx context.Context, s *corev1.Secret, o metav1.CreateOptions) error {
	return c.create(ctx, "secrets", s, o, &corev1.Secret{})
}

func (c client) GetSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	out := &corev1.Secret{}
	return out, c.rest.Get().Namespace(c.namespace).Resource("secrets").Name(name).Do(ctx).Into(out)
}

func (c client) ListEvents(ctx context.Context, o metav1.ListOptions) (*corev1.EventList, error) {
	out := &corev1.EventList{}
	return out, c.list(ctx, "events", o, out)
}

func (c client) ListQuotas(ctx context.Context, o metav1.ListOptions) (*corev1.ResourceQuotaList, error) {
	out := &corev1.ResourceQuotaList{}
	return out, c.list(ctx, "resourcequotas", o, out)
}

// everywhere is the client of what is in no namespace, and of what is in any.
func (c client) everywhere() client { return client{c.rest, ""} }

func (c client) ListNodes(ctx context.Context, o metav1.ListOptions) (*corev1.NodeList, error) {
	out := &corev1.NodeList{}
	return out, c.everywhere().list(ctx, "nodes", o, out)
}

func (c client) WatchNodes(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return c.everywhere().watch(ctx, "nodes", o)
}

func (c client) ListAllPods(ctx context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	out := &corev1.PodList{}
	return out, c.everywhere().list(ctx, "pods", o, out)
}

func (c client) WatchAllPods(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return c.everywhere().watch(ctx, "pods", o)
}
