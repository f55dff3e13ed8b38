package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
)

var versionForm = regexp.MustCompile(`^([0-9]+)\.[0-9]+(?:[.-][0-9A-Za-z.-]+)?$`)

// checkRuntimes says what is wrong with the Sparks that engines run from.
func (c Config) checkRuntimes() (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		r, path := c.Runtimes[name], "runtimes."+name
		if r.Home == "" && r.Version == "" {
			errs = append(errs, fmt.Errorf("%s: names neither a version to fetch (sluice spark list) nor the home of a distribution", path))
		}
		if r.Version != "" {
			errs = append(errs, c.checkVersion(path+".version", r.Version)...)
		}
	}
	if c.Spark.Home == "" { // otherwise its version is what lies there
		errs = append(errs, c.checkVersion("spark.version", c.Spark.Version)...)
	}
	return errs
}

// checkVersion refuses what is no version, and a Spark before 4.0 that no cluster may run.
func (c Config) checkVersion(path, version string) []error {
	m := versionForm.FindStringSubmatch(version)
	if m == nil {
		return []error{fmt.Errorf("%s: %q is no version; write it like 4.3.0", path, version)}
	}
	if major, _ := strconv.Atoi(m[1]); major < 4 && !c.anyClosed() {
		return []error{fmt.Errorf("%s: Spark %s has no token and listens on every interface, and no cluster says that its network is closed: set clusters.NAME.closed_network: true where nobody but this gateway reaches the engines, or use Spark 4.0 or newer", path, version)}
	}
	return nil
}

func (c Config) anyClosed() bool {
	for _, cl := range c.Clusters {
		if cl.ClosedNetwork {
			return true
		}
	}
	return false
}

// unsure warns of runtimes that may turn out to be refused: which Spark a home holds is seen when it is used.
func (c Config) unsure() (warnings []Warning) {
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		if r := c.Runtimes[name]; r.Home != "" && r.Version == "" && !c.anyClosed() {
			warnings = append(warnings, Warning{fmt.Sprintf("runtimes.%s: says no version, and if %s holds a Spark before 4.0 it runs only on a cluster with closed_network: true; say runtimes.%s.version to have it checked", name, r.Home, name)})
		}
	}
	return warnings
}
