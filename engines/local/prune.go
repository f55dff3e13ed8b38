package local

import (
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// keepEnded is how many directories of ended applications stay, for their logs.
const keepEnded = 20

// prune removes the oldest directories of ended applications.
func (c *Cluster) prune() {
	entries, err := os.ReadDir(filepath.Join(c.opt.Dir, "apps"))
	if err != nil {
		return
	}
	type old struct {
		dir string
		at  time.Time
	}
	var gone []old
	for _, e := range entries {
		dir := c.appDir(engines.Tag(e.Name()))
		info, err := os.Stat(filepath.Join(dir, statusFile))
		if err != nil || e.Name() == metastoreTag {
			continue
		}
		if a, err := c.ended(dir); err == nil && a.State == engines.Ended {
			gone = append(gone, old{dir, info.ModTime()})
		}
	}
	sort.Slice(gone, func(i, j int) bool { return gone[i].at.After(gone[j].at) })
	for i, g := range gone {
		_ = os.RemoveAll(filepath.Join(g.dir, "tmp"))
		if i >= keepEnded {
			_ = os.RemoveAll(g.dir)
		}
	}
}
