package engines

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Ports is a range of ports, both ends included; the zero value is none.
type Ports struct{ First, Last int }

// ReadPorts reads a range like 22000-22999. Empty text is no range.
func ReadPorts(text string) (Ports, error) {
	if text == "" {
		return Ports{}, nil
	}
	var p Ports
	from, to, ok := strings.Cut(text, "-")
	var err, err2 error
	p.First, err = strconv.Atoi(from)
	p.Last, err2 = strconv.Atoi(to)
	if !ok || err != nil || err2 != nil || p.First < 1024 || p.Last > 65535 || p.First > p.Last {
		return Ports{}, fmt.Errorf("%q is no range of ports from 1024 to 65535; write it like 22000-22999", text)
	}
	return p, nil
}

// Len is how many ports there are.
func (p Ports) Len() int {
	if p.Last == 0 {
		return 0
	}
	return p.Last - p.First + 1
}

// Place is where in a list of n an application begins to look for its own. It follows from the tag, so that any gateway
// knows it.
func (t Tag) Place(n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(t))
	return int(h.Sum32() % uint32(n))
}
