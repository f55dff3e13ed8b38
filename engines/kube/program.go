package kube

import (
	"path"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// programArgs say what the driver runs. spark-submit in the pod fetches what is named by http:// into the working directory.
func programArgs(l engines.Launch, site Site) []string {
	p := l.Program
	if p == nil {
		return []string{"--class", l.MainClass, "spark-internal"}
	}
	var args []string
	if p.Python {
		args = append(args, mainOf(l, site))
	} else { // the jar is among spark.jars, or executors would not get it
		args = append(args, "--class", l.MainClass, "spark-internal")
	}
	for _, a := range l.Args {
		args = append(args, literal(a))
	}
	return args
}

// mainOf is where the program itself is.
func mainOf(l engines.Launch, site Site) string {
	if _, ours := l.Files[l.Program.Main]; ours {
		return "local://" + path.Join(confDir, l.Program.Main)
	}
	return site.Links[l.Program.Main]
}

// programConf are the settings that tell Spark of a batch's files.
func programConf(l engines.Launch, site Site) map[string]string {
	conf := map[string]string{}
	p := l.Program
	if p == nil {
		return conf
	}
	lists := map[string][]string{}
	for _, f := range p.Bring {
		uri := site.Links[f.Link]
		switch {
		case f.Archive:
			lists["spark.archives"] = append(lists["spark.archives"], uri+"#"+f.Link)
		case f.Link == p.Main && p.Python:
		case f.Link == p.Main:
			lists["spark.jars"] = append([]string{uri}, lists["spark.jars"]...)
		case slices.Contains(p.Jars, f.Link):
			lists["spark.jars"] = append(lists["spark.jars"], uri)
		case slices.Contains(p.Packages, f.Link):
			lists["spark.submit.pyFiles"] = append(lists["spark.submit.pyFiles"], uri)
		default:
			lists["spark.files"] = append(lists["spark.files"], uri)
		}
	}
	for key, uris := range lists {
		conf[key] = strings.Join(uris, ",")
	}
	return conf
}
