package yarn

import (
	"strconv"

	"github.com/sluicedata/sluice/engines"
)

// port is where an engine is to listen; empty lets it find a free port. It follows from the tag, so that any gateway knows it.
func (c *Cluster) port(tag engines.Tag) string {
	n := c.opt.Ports.Len()
	if n == 0 {
		return ""
	}
	return strconv.Itoa(c.opt.Ports.First + tag.Place(n))
}
