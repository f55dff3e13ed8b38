package session

import (
	"fmt"
	"net"
)

// Limits are what nobody may exceed on this gateway; 0 is no limit.
type Limits struct {
	Sessions, SessionsPerUser, SessionsPerAddress int
	OperationsPerSession                          int // whose handles are open
	Waiting                                       int // statements that wait for an engine
}

// limitError says which limit is reached, by the key that sets it.
func limitError(key string, limit int, what string) error {
	return &Failure{Class: "SLUICE_LIMIT", SQLState: "53400", Message: fmt.Sprintf("%s: limits.%s (%d) is reached", what, key, limit)}
}

// count is how many sessions there are, in all and of whom. It is guarded by the manager's lock.
type count struct {
	all       int
	byUser    map[string]int
	byAddress map[string]int
}

func newCount() count { return count{byUser: map[string]int{}, byAddress: map[string]int{}} }

// enter counts a session in, or says which limit forbids it. The host is empty for a client without an address.
func (c *count) enter(l Limits, user, host string) error {
	switch {
	case l.Sessions > 0 && c.all >= l.Sessions:
		return limitError("sessions", l.Sessions, "no session can be opened: there are too many; try again when others are closed")
	case l.SessionsPerUser > 0 && c.byUser[user] >= l.SessionsPerUser:
		return limitError("sessions_per_user", l.SessionsPerUser, fmt.Sprintf("no session can be opened: %s has too many; close some", user))
	case l.SessionsPerAddress > 0 && host != "" && c.byAddress[host] >= l.SessionsPerAddress:
		return limitError("sessions_per_address", l.SessionsPerAddress, fmt.Sprintf("no session can be opened: there are too many from %s; close some", host))
	}
	c.add(user, host, 1)
	return nil
}

func (c *count) add(user, host string, n int) {
	c.all += n
	add(c.byUser, user, n)
	add(c.byAddress, host, n)
}

func add(m map[string]int, key string, n int) {
	if m[key] += n; m[key] <= 0 {
		delete(m, key)
	}
}

// hostOf is the address of a client without its port.
func hostOf(client string) string {
	if host, _, err := net.SplitHostPort(client); err == nil {
		return host
	}
	return client
}
