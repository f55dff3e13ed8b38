package yarn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// batchTag is in front of a batch's own tag, where an engine has engineTag.
const batchTag = "sluice-batch-"

// markOf is the tag by which a launch's application is found again.
func markOf(l engines.Launch) string {
	if l.Program != nil {
		return batchTag + strings.ToLower(string(l.Tag))
	}
	return tagOf(l.Tag)
}

func (r report) batch() bool {
	return slices.ContainsFunc(strings.Split(r.Tags, ","), func(t string) bool { return strings.HasPrefix(t, batchTag) })
}

// Batch implements engines.BatchCluster. A ResourceManager remembers thousands of applications that have ended.
func (c *Cluster) Batch(ctx context.Context, tag engines.Tag) (engines.App, bool, error) {
	a, err := c.batch(ctx, tag)
	if err != nil {
		return engines.App{}, false, fmt.Errorf("look for %s on cluster %s: %w", tag, c.opt.Name, err)
	}
	return a.now(), a != nil, nil
}

func (c *Cluster) batch(ctx context.Context, tag engines.Tag) (*app, error) {
	c.mu.Lock()
	a := c.apps[tag]
	c.mu.Unlock()
	if a != nil {
		return a, nil
	}
	all, err := c.rm.withTag(ctx, c.opt.User, batchTag+string(tag), "")
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return c.follow(tag, all[0], 0), nil
}

// Output implements engines.BatchCluster.
func (c *Cluster) Output(ctx context.Context, tag engines.Tag, n int) (string, error) {
	c.mu.Lock()
	a := c.apps[tag]
	c.mu.Unlock()
	if a == nil {
		return "", fmt.Errorf("cluster %s does not know %s", c.opt.Name, tag)
	}
	if text, err := c.readLog(ctx, a, "stdout", -n); err == nil {
		return text, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out[max(0, len(a.out)-n):], nil
}

// keepOutput keeps the end of what a batch prints past its container's end.
func (c *Cluster) keepOutput(ctx context.Context, a *app) {
	if text, err := c.readLog(ctx, a, "stdout", -logEnd); err == nil {
		a.mu.Lock()
		a.out = text
		a.mu.Unlock()
	}
}

// lookBatch is between two looks at a batch that runs.
const lookBatch = time.Second

// linger is for how long a batch's container stays when its program has ended. NodeManagers may forget a container's log with
// the container, which ends a moment after its driver has reported how it ended, and only then the end can be seen: a look
// within that time finds the log whole. A driver that is killed leaves what the look before found.
const linger = 3 * lookBatch

// outcome is how an application has ended, if it has and the ResourceManager knows.
func (r report) outcome() engines.Outcome {
	switch o := engines.Outcome(r.FinalStatus); o {
	case engines.Succeeded, engines.Failed, engines.Killed:
		if r.ended() {
			return o
		}
	}
	return ""
}

// Names that Spark's ApplicationMaster looks for in the container of a batch.
const (
	appJarLink   = "__app__.jar"
	pyModulesDir = "__pyfiles__"
)

// linkOf is where a file of a batch lies: as its user says, or where Spark looks for it. Modules are in a directory of their
// own, so that Python finds them and nothing else that lies beside.
func linkOf(p *engines.Program, link string) string {
	switch {
	case !p.Python && link == p.Main:
		return appJarLink
	case strings.HasSuffix(link, ".py") && slices.Contains(p.Packages, link):
		return pyModulesDir + "/" + link
	}
	return link
}

// programWords are the ApplicationMaster's arguments that say what to run.
func programWords(l engines.Launch) []string {
	p := l.Program
	switch {
	case p == nil:
		return nil
	case !p.Python: // the class path knows the jar by its link
		return []string{"--jar", appJarLink}
	}
	main := p.Main
	if _, ours := l.Files[main]; ours {
		main = confLink + "/" + main
	}
	return []string{"--primary-py-file", shell(main)}
}

// programConf are the settings that tell Spark of a batch's files.
func programConf(l engines.Launch) map[string]string {
	conf := map[string]string{}
	p := l.Program
	if p == nil {
		return conf
	}
	if p.Python {
		conf["spark.yarn.isPython"] = "true"
		const ofExecutors = "spark.executorEnv.PYTHONPATH"
		conf[ofExecutors] = pythonPath(p, l.Conf[ofExecutors])
	}
	if len(p.Jars) > 0 {
		conf["spark.yarn.secondary.jars"] = strings.Join(p.Jars, ",")
	}
	return conf
}

// pythonPath is where Python looks for modules: first where a setting says, then the batch's own, then Spark's.
func pythonPath(p *engines.Program, before string) string {
	var at []string
	if before != "" {
		at = append(at, before)
	}
	if slices.ContainsFunc(p.Packages, func(link string) bool { return strings.HasSuffix(link, ".py") }) {
		at = append(at, "{{PWD}}/"+pyModulesDir)
	}
	for _, link := range p.Packages {
		if !strings.HasSuffix(link, ".py") {
			at = append(at, "{{PWD}}/"+link)
		}
	}
	for _, name := range []string{pysparkZip, py4jZip} {
		at = append(at, "{{PWD}}/"+libsLink+"/"+name)
	}
	return strings.Join(at, "<CPS>")
}

// afterwards is what the container's shell does when a driver has ended.
func afterwards(l engines.Launch) string {
	if l.Program == nil {
		return ""
	}
	return fmt.Sprintf(`; code=\$?; sleep %d; exit \$code`, int(linger.Seconds()))
}

// content is what a page of a NodeManager's says that a log holds, without what it writes before and after.
func content(page, stream string) string {
	if head, rest, ok := strings.Cut(page, "LogContents:\n"); ok && strings.Contains(head, "LogType:"+stream) {
		page = rest
	}
	if at := strings.LastIndex(page, "End of LogType:"+stream); at >= 0 {
		page = page[:at]
	}
	return page
}
