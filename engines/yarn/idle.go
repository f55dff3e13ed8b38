package yarn

import (
	"slices"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// idleClients are clients of HDFS that nobody uses at the moment. To connect costs as much as to write a small file; but each
// client also speaks up every second, so none is kept for long.
type idleClients struct {
	mu     sync.Mutex
	byUser map[string][]*hdfs.Client
	closed bool
}

// How many clients of a user are kept, and for how long.
const (
	idleMost = 8
	idleFor  = 5 * time.Second
)

// take returns a client, or nil if there is none.
func (i *idleClients) take(user string) *hdfs.Client {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := i.byUser[user]
	if len(all) == 0 {
		return nil
	}
	last := all[len(all)-1]
	i.byUser[user] = all[:len(all)-1]
	return last
}

// give keeps a client for the next one who wants it, or closes it.
func (i *idleClients) give(user string, c *hdfs.Client) error {
	i.mu.Lock()
	if i.closed || len(i.byUser[user]) >= idleMost {
		i.mu.Unlock()
		return c.Close()
	}
	if i.byUser == nil {
		i.byUser = map[string][]*hdfs.Client{}
	}
	i.byUser[user] = append(i.byUser[user], c)
	i.mu.Unlock()
	time.AfterFunc(idleFor, func() { i.drop(user, c) })
	return nil
}

// drop closes a client that is still idle, or idle again.
func (i *idleClients) drop(user string, c *hdfs.Client) {
	i.mu.Lock()
	at := slices.Index(i.byUser[user], c)
	if at >= 0 {
		i.byUser[user] = slices.Delete(i.byUser[user], at, at+1)
	}
	if len(i.byUser[user]) == 0 {
		delete(i.byUser, user)
	}
	i.mu.Unlock()
	if at >= 0 {
		_ = c.Close()
	}
}

// forget closes all, as when HDFS was away and their connections are broken; last says that none is to be kept any more.
func (i *idleClients) forget(last bool) {
	i.mu.Lock()
	all := i.byUser
	i.byUser, i.closed = nil, i.closed || last
	i.mu.Unlock()
	for _, clients := range all {
		for _, c := range clients {
			_ = c.Close()
		}
	}
}
