package local

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/sluicedata/sluice/engines"
)

// dial reaches the supervisor of a directory. Socket paths may not be longer than about a hundred bytes, so the
// directory is named by a descriptor of ours.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile))
}

// follow attaches to a running application, once.
func (c *Cluster) follow(ctx context.Context, dir string) (engines.App, error) {
	tag := engines.Tag(filepath.Base(dir))
	c.mu.Lock()
	known := c.apps[tag]
	c.mu.Unlock()
	if known != nil {
		return c.current(known), nil
	}
	conn, err := dial(ctx, dir)
	if err != nil {
		return engines.App{}, err
	}
	lines := bufio.NewReader(conn)
	first, err := readStatus(lines)
	if err != nil {
		_ = conn.Close()
		return engines.App{}, err
	}
	now := c.describe(first)
	a := &app{conn: conn, last: now, ended: make(chan struct{})}
	c.mu.Lock()
	if other := c.apps[tag]; other != nil {
		c.mu.Unlock()
		_ = conn.Close()
		return c.current(other), nil
	}
	c.apps[tag] = a
	c.wait.Add(1)
	c.mu.Unlock()
	c.watchers.Tell(engines.Event{App: now})
	go c.listen(a, lines, dir)
	return now, nil
}

func (c *Cluster) current(a *app) engines.App {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.last
}

func readStatus(r *bufio.Reader) (status, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return status{}, err
	}
	var st status
	return st, json.Unmarshal(line, &st)
}

// listen passes on what the supervisor tells until it is gone.
func (c *Cluster) listen(a *app, lines *bufio.Reader, dir string) {
	defer c.wait.Done()
	for {
		st, err := readStatus(lines)
		if err != nil {
			break
		}
		c.update(a, c.describe(st))
	}
	_ = a.conn.Close()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed { // it was us who stopped listening
		return
	}
	end, err := c.ended(dir)
	if err != nil || end.State != engines.Ended {
		end = c.current(a)
		end.State, end.Address, end.Reason = engines.Ended, "", "its supervisor was killed"
	}
	c.mu.Lock()
	if c.apps[end.Tag] == a {
		delete(c.apps, end.Tag)
	}
	c.mu.Unlock()
	c.update(a, end)
	close(a.ended)
}

func (c *Cluster) update(a *app, now engines.App) {
	c.mu.Lock()
	same := a.last == now
	a.last = now
	c.mu.Unlock()
	if !same {
		c.watchers.Tell(engines.Event{App: now})
	}
}

func (c *Cluster) describe(st status) engines.App {
	return engines.App{Tag: st.Tag, State: st.State, Address: st.Address, Reason: st.Reason,
		Log: filepath.Join(c.appDir(st.Tag), logFile)}
}

// ended reads the last word of an application whose supervisor is gone.
func (c *Cluster) ended(dir string) (engines.App, error) {
	data, err := os.ReadFile(filepath.Join(dir, statusFile))
	if err != nil {
		return engines.App{}, err
	}
	var st status
	if err := json.Unmarshal(data, &st); err != nil {
		return engines.App{}, err
	}
	return c.describe(st), nil
}
