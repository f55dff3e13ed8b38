package yarn

// keep keeps the end of a driver's log, since its node deletes it, and returns where; empty if there is nothing to keep.
func (c *Cluster) keep(id, text string) string {
	at, err := c.opt.Logs.Log(id, text)
	if err != nil {
		c.opt.Log.Warn("cannot keep a driver's log", "cluster", c.opt.Name, "application", id, "error", err)
	}
	return at
}
