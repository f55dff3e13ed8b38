package shufflesim

import (
	"errors"
	"time"
)

var (
	errConnect = errors.New("cannot be reached")
	errReset   = errors.New("the connection was reset")
)

// conn is a connection to a node: messages on it keep their order, and when it breaks, nobody knows which of those on their way
// were taken. It is made anew when it is used again.
type conn struct {
	s       *Sim
	to      *node
	life    int // of the node
	gen     int // how often it was made
	open    bool
	arrived time.Time // of the last request
	replied time.Time // of the last answer
	inbox   []func() bool
	pending []*pending
}

type pending struct {
	done bool
	then func(any, error)
}

// handler answers a request; false means that it could not be taken yet, and nothing behind it is.
type handler func(n *node, answer func(any)) bool

// send sends a request, whose answer or failure goes to then.
func (c *conn) send(h handler, then func(any, error)) {
	if !c.open {
		if !c.to.up() {
			c.s.in(c.s.between(time.Millisecond, 200*time.Millisecond), func() { then(nil, errConnect) })
			return
		}
		c.open, c.life, c.inbox = true, c.to.life, nil
		c.gen++
		c.to.conns = append(c.to.conns, c)
	}
	p := &pending{then: then}
	c.pending = append(c.pending, p)
	gen := c.gen
	c.arrived = later(c.arrived, c.s.now.Add(c.delay()))
	c.s.in(c.arrived.Sub(c.s.now), func() {
		if c.gen == gen && c.open {
			c.inbox = append(c.inbox, func() bool { return h(c.to, c.answerer(gen, p)) })
			if len(c.inbox) == 1 {
				c.take(gen)
			}
		}
	})
	if c.s.chance(c.s.Faults.Reset) {
		c.s.in(c.s.between(0, 20*time.Millisecond), func() {
			if c.gen == gen {
				c.reset()
			}
		})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (c *conn) delay() time.Duration {
	if c.s.chance(20) {
		return c.s.between(0, 300*time.Millisecond)
	}
	return c.s.between(100*time.Microsecond, 3*time.Millisecond)
}

// take has the node take requests in their order.
func (c *conn) take(gen int) {
	for c.gen == gen && c.open && len(c.inbox) > 0 {
		if !c.inbox[0]() {
			c.s.in(5*time.Millisecond, func() { c.take(gen) })
			return
		}
		if c.gen == gen && len(c.inbox) > 0 {
			c.inbox = c.inbox[1:]
		}
		c.to.kick()
	}
}

func (c *conn) answerer(gen int, p *pending) func(any) {
	return func(out any) {
		if c.gen != gen || !c.open || !c.to.up() {
			return
		}
		c.replied = later(c.replied, c.s.now.Add(c.delay()))
		c.s.in(c.replied.Sub(c.s.now), func() {
			if c.gen == gen && c.open && !p.done {
				p.done = true
				p.then(out, nil)
			}
		})
	}
}

// reset breaks the connection.
func (c *conn) reset() {
	if !c.open {
		return
	}
	c.open = false
	c.gen++
	all := c.pending
	c.pending, c.inbox = nil, nil
	for _, p := range all {
		if !p.done {
			p.done = true
			c.s.in(c.s.between(0, 10*time.Millisecond), func() { p.then(nil, errReset) })
		}
	}
}

// call is send that waits.
func (p *proc) call(c *conn, h handler) (out any, err error) {
	p.wait(func(wake func()) {
		c.send(h, func(a any, e error) {
			out, err = a, e
			wake()
		})
	})
	return out, err
}
