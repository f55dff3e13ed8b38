package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Access is how a cluster is reached.
type Access struct {
	Kubeconfig string // a file; empty is the pod's own account, or else what kubectl would use
	Context    string // of that file; empty is its current one
}

// Connect reads how a cluster is reached, and in which namespace. It asks nothing yet.
func (a Access) Connect() (cfg *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.Context})
	if cfg, err = loader.ClientConfig(); err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, "", errors.New("there is no kubeconfig file, and this is no pod with a service account: name a file")
		}
		return nil, "", err
	}
	if namespace, _, err = loader.Namespace(); err != nil {
		return nil, "", err
	}
	cfg.QPS = -1 // the API server itself keeps its clients apart (priority and fairness)
	cfg.UserAgent = "sluice"
	cfg.ContentType, cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	return cfg, namespace, nil
}

// apiPatience is for how long an API server that is away is waited for.
const apiPatience = 2 * time.Minute

// requestTimeout is for how long one request may take.
const requestTimeout = 20 * time.Second

// patiently asks again as long as the API server is away.
func patiently[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 2*time.Second
	return backoff.Retry(ctx, func() (T, error) {
		soon, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		out, err := ask(soon)
		if err != nil && (!away(err) || ctx.Err() != nil) {
			return out, backoff.Permanent(err)
		}
		return out, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(apiPatience))
}

// away says that an error is of the way to the API server, or of one that starts or has too much to do: what was asked may have
// been done or not.
func away(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsInternalError(err) || errors.Is(err, context.DeadlineExceeded) || utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) ||
		utilnet.IsHTTP2ConnectionLost(err) || utilnet.IsProbableEOF(err) || errors.Is(err, syscall.EPIPE) || errors.As(err, &dns) || errors.As(err, &op) ||
		etcdAway(err)
}

// etcdAway says that the API server has lost its own store.
func etcdAway(err error) bool {
	return apierrors.IsUnexpectedServerError(err) || strings.Contains(err.Error(), "etcdserver: ")
}

// explain adds the next step to what an API server refuses.
func explain(err error, site string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w: it does not know who we are: renew the credentials in %s.kubeconfig", err, site)
	case strings.Contains(text, "no PriorityClass with name"):
		return fmt.Errorf("%w: make it, or correct %s.driver_priority_class", err, site)
	case strings.Contains(text, "error looking up service account"):
		return fmt.Errorf("%w: make the account (docs/kubernetes.md has the manifest), or correct %s.service_account", err, site)
	case strings.Contains(text, "violates PodSecurity"):
		return fmt.Errorf("%w: host networking needs a namespace that enforces \"privileged\"; set %s.host_network: false for the pod network, or label the namespace pod-security.kubernetes.io/enforce=privileged", err, site)
	case strings.Contains(text, "exceeded quota"):
		return fmt.Errorf("%w: ask for a larger quota, or for less memory", err)
	case strings.Contains(text, "not found") && strings.Contains(text, "namespaces"):
		return fmt.Errorf("%w: make the namespace, or correct %s.namespace", err, site)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: give the gateway's account that right (docs/kubernetes.md has the manifest)", err)
	}
	return err
}
