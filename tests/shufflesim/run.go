package shufflesim

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/shuffle/master"
	"github.com/sluicedata/sluice/shuffle/wire"
)

// leaseTime is after how long without a word an application has ended; a real master waits longer.
const leaseTime = 60 * time.Second

// New makes a world of a seed. What can go wrong in it is drawn from the seed, too: nothing, one kind of fault, or all.
func New(seed uint64) *Sim {
	s := &Sim{Seed: seed, r: rand.New(rand.NewPCG(seed, 77)), now: epoch}
	f := &s.Faults
	switch s.r.IntN(8) {
	case 0: // nothing goes wrong
	case 1:
		f.Kill = 60
	case 2:
		f.Disk = 200
	case 3:
		f.Reset, f.Duplicate = 5, 200
	case 4:
		f.Master, f.App = 50, 5
	case 5:
		f.Crash = 3
	default:
		*f = Faults{Kill: 30, Disk: 60, Master: 20, App: 3, Reset: 2, Duplicate: 100, Crash: 1}
	}
	disks := 1 + s.r.IntN(3)
	for i := range 2 + s.r.IntN(4) {
		s.nodes = append(s.nodes, s.newNode(i, disks))
	}
	return s
}

// Run runs the world until all applications have ended and nothing of them is left, and checks that it comes to that.
func (s *Sim) Run() {
	defer s.Close()
	s.startMaster()
	for _, n := range s.nodes {
		n.start()
	}
	s.every(time.Second, func() {
		if s.master != nil {
			s.master.Tick(s.now)
		}
	})
	s.every(time.Second, s.chaos)
	s.run(2*time.Second, func() bool { return false })
	for i := range 1 + s.r.IntN(3) {
		s.drivers = append(s.drivers, s.newDriver(i))
	}
	s.run(2*time.Minute, s.idle)
	s.settle()
	if !s.run(20*time.Minute, s.idle) {
		s.problem("an application neither ends nor fails")
	}
	if !s.run(3*leaseTime+2*time.Minute, s.clean) {
		s.problem("what applications left is not deleted: %s", s.leftovers())
	}
}

func (s *Sim) idle() bool {
	return !slices.ContainsFunc(s.drivers, func(d *driver) bool { return !d.over && !d.dead })
}

func (s *Sim) startMaster() {
	s.master = master.New(s.now, master.Options{ApplicationTimeout: leaseTime, Settle: time.Second, MinFree: 1, Incarnation: fmt.Sprint(s.now.UnixNano()), On: func(e master.Event) {
		s.log("master: %s %s%s", e.Kind, e.Worker, e.App)
	}})
}

// settle ends all faults.
func (s *Sim) settle() {
	s.settling = true
	s.Faults = Faults{}
	for _, n := range s.nodes {
		for _, d := range n.disks {
			d.wrong = ""
		}
		if n.blind { // what it could not read is there still, and is found by its next life
			n.kill()
		}
	}
}

// chaos is what may go wrong in a second.
func (s *Sim) chaos() {
	if s.settling {
		return
	}
	if n := s.nodes[s.r.IntN(len(s.nodes))]; s.chance(s.Faults.Kill) && n.up() && s.mayKill(n) {
		n.kill()
	}
	if s.chance(s.Faults.Disk) {
		n := s.nodes[s.r.IntN(len(s.nodes))]
		i := s.r.IntN(len(n.disks))
		d := n.disks[i]
		d.wrong = []string{"full", "broken", "", "full", "broken", "", "unreadable"}[s.r.IntN(7)]
		if d.wrong != "" {
			n.harms++
		}
		s.log("%s disk %d: %q", n.name, i, d.wrong)
	}
	if s.chance(s.Faults.Master) && s.master != nil {
		s.log("the master ends")
		s.master = nil
		s.in(s.between(0, 5*time.Second), func() {
			s.startMaster()
			s.log("the master starts, empty")
		})
	}
	if len(s.drivers) > 0 && s.chance(s.Faults.App) {
		d := s.drivers[s.r.IntN(len(s.drivers))]
		d.dead = true
		s.log("%s vanishes", d.app)
	}
}

// mayKill keeps two workers alive, so that something goes on.
func (s *Sim) mayKill(n *node) bool {
	up := 0
	for _, o := range s.nodes {
		if o != n && o.up() {
			up++
		}
	}
	return up >= 2
}

// expired checks what a master has a worker delete: nothing that a living application needs.
func (s *Sim) expired(n *node, key string) {
	s.log("%s deletes %s", n.name, key)
	for _, d := range s.drivers {
		for _, sh := range d.shuffles {
			if sh.key == key && sh.needed && !d.dead && s.now.Sub(d.spoke) < leaseTime {
				s.problem("%s was told to delete %s, which is needed", n.name, key)
			}
		}
	}
}

func (s *Sim) clean() bool {
	return s.now.UnixNano()%int64(time.Second) < int64(50*time.Millisecond) && s.leftovers() == ""
}

// leftovers are shuffles that workers hold, files on their disks and memory in use.
func (s *Sim) leftovers() string {
	var out []string
	for _, n := range s.nodes {
		if n.store == nil {
			out = append(out, n.name+" is down")
			continue
		}
		if used := n.store.Memory(wire.Primary).Used() + n.store.Memory(wire.Replica).Used(); used != 0 {
			out = append(out, fmt.Sprintf("%s %d bytes of memory", n.name, used))
		}
		for _, h := range n.store.Held() {
			out = append(out, n.name+" "+wire.ShuffleKey(h.GetAppId(), h.GetShuffleId()))
		}
		for i, d := range n.disks {
			names, _ := d.mem.List(fmt.Sprint("/d", i))
			for _, f := range names {
				if strings.HasPrefix(f, "shuffle-") {
					in, _ := d.mem.List(path.Join("/d", fmt.Sprint(i), f))
					out = append(out, fmt.Sprint(n.name, " ", i, " ", f, in))
				}
			}
		}
	}
	return strings.Join(out, ", ")
}
