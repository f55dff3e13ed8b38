package yarn

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// logsKept is for how long the gateway keeps the logs of drivers that have ended.
const logsKept = 7 * 24 * time.Hour

// keepLog writes the end of a driver's log to this machine's disk, since its node deletes it, and returns where; empty if
// there is nothing to keep.
func (c *Cluster) keepLog(id, text string) string {
	if text == "" || c.opt.LogDir == "" {
		return ""
	}
	at := filepath.Join(c.opt.LogDir, id+".log")
	err := os.MkdirAll(c.opt.LogDir, 0o700)
	if err == nil {
		err = os.WriteFile(at, []byte(text), 0o600)
	}
	if err != nil {
		c.opt.Log.Warn("cannot keep a driver's log", "cluster", c.opt.Name, "application", id, "error", err)
		return ""
	}
	return at
}

// dropOldLogs deletes what has been kept long enough.
func (c *Cluster) dropOldLogs() error {
	entries, err := os.ReadDir(c.opt.LogDir)
	if errors.Is(err, os.ErrNotExist) || c.opt.LogDir == "" {
		return nil
	}
	for _, e := range entries {
		info, ierr := e.Info()
		if ierr == nil && strings.HasSuffix(e.Name(), ".log") && time.Since(info.ModTime()) > logsKept {
			err = errors.Join(err, os.Remove(filepath.Join(c.opt.LogDir, e.Name())))
		}
	}
	return err
}
