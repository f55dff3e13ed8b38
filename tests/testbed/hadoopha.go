package testbed

import "strings"

func (h *Hadoop) resourceManagers() (out []*hadoopDaemon) {
	for _, d := range h.daemons {
		if strings.HasPrefix(d.name, "resourcemanager") {
			out = append(out, d)
		}
	}
	return out
}

// active is the ResourceManager that rules the cluster, nil while none does.
func (h *Hadoop) active() *hadoopDaemon {
	for _, d := range h.resourceManagers() {
		if d.cmd != nil && h.haState(d) == "ACTIVE" {
			return d
		}
	}
	return nil
}

// haState is empty for a ResourceManager that does not answer.
func (h *Hadoop) haState(d *hadoopDaemon) string {
	var r struct {
		ClusterInfo struct{ HAState string }
	}
	if h.getJSON("http://"+d.web+"/ws/v1/cluster/info", &r) != nil {
		return ""
	}
	return r.ClusterInfo.HAState
}

// Activate makes one of two ResourceManagers active, and the other standby if it runs, and waits until it is. The nodes
// find it later; WaitNodes waits for them.
func (h *Hadoop) Activate(name string) {
	h.t.Helper()
	for _, d := range h.resourceManagers() {
		if d.name != name && d.cmd != nil && h.haState(d) == "ACTIVE" {
			h.transition("-transitionToStandby", d.id)
		}
	}
	h.await(name)
	d := h.daemon(name)
	// Without the force it asks the other one first, and gives up where that was killed.
	h.transition("-transitionToActive", "--forceactive", d.id)
	h.until(d, "the "+name+" is active", func() bool { return h.haState(d) == "ACTIVE" })
}

// transition is yarn rmadmin.
func (h *Hadoop) transition(args ...string) {
	h.t.Helper()
	cmd := h.command("org.apache.hadoop.yarn.client.cli.RMAdminCLI", 128, h.ConfDir, args...)
	if h.Krb5Conf != "" {
		cmd.Env = append(cmd.Env, "KRB5PRINCIPAL="+h.Principal(h.superuser), "KRB5KEYTAB="+h.Keytab(h.superuser))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}
