package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lock keeps other gateways on this machine out of what two of them must not do to one cluster's directory at once:
// starting the same application, choosing the catalogue's port.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(c.opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.opt.Name, err)
	}
	f, err := os.OpenFile(filepath.Join(c.opt.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.opt.Name, err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-time.After(20 * time.Millisecond): // the kernel tells nobody that waits that the lock is free, but who blocks
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("cluster %s: another gateway works on it: %w", c.opt.Name, context.Cause(ctx))
		}
	}
}
