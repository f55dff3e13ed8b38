package kube

import (
	"context"
	"errors"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// logEnd is how much of a driver's log is kept past its pod's end.
const logEnd = 64 << 10

// logLines are how many lines of it are asked for: the API gives lines of the end, or bytes of the beginning.
const logLines = 10_000

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - logEnd; over > logEnd { // seldom, so that little is moved
		t.text = append([]byte(nil), t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte { return t.text[max(0, len(t.text)-logEnd):] }

// readLog reads the end of a driver's log, which is there as long as its pod.
func (c *Cluster) readLog(ctx context.Context, pod string) (string, error) {
	o := &corev1.PodLogOptions{Container: driverContainer, TailLines: new(int64(logLines))}
	r, err := c.opt.API.PodLog(ctx, pod, o)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	var end tail
	if _, err = io.Copy(&end, r); err != nil {
		return "", err
	}
	text := string(end.bytes())
	for _, sorry := range []string{"failed to try resolving symlinks in path ", "unable to retrieve container logs for "} {
		if strings.HasPrefix(text, sorry) { // a kubelet that has deleted the log says so with 200 OK
			return "", errors.New(strings.TrimSpace(text))
		}
	}
	return text, nil
}
