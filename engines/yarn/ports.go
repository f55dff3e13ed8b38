package yarn

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Ports is a range of ports, both ends included; the zero value is none.
type Ports struct{ First, Last int }

// ReadPorts reads a range like 22000-22999.
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

// of is an engine's port. It follows from the engine's tag, so that any gateway knows it.
func (p Ports) of(tag engines.Tag) string {
	if p.Last == 0 {
		return ""
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(tag))
	return strconv.Itoa(p.First + int(h.Sum32()%uint32(p.Last-p.First+1)))
}
