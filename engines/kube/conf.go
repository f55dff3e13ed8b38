package kube

import (
	"fmt"
	"maps"
	"path"
	"strconv"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// sparkConf is the launch's settings with those that make it an application of this cluster.
func sparkConf(l engines.Launch, site Site) (map[string]string, error) {
	conf := elasticity()
	maps.Copy(conf, l.Conf)
	if err := limitExecutors(conf, site); err != nil {
		return nil, err
	}
	maps.Copy(conf, map[string]string{
		"spark.master":                              "k8s://https://kubernetes.default.svc", // spark.kubernetes.driver.master says where it really is
		"spark.app.id":                              appID(l.Tag),
		"spark.app.name":                            l.Name,
		"spark.driver.memory":                       l.Memory,
		"spark.driver.extraJavaOptions":             javaOptions(l),
		"spark.kubernetes.submitInDriver":           "true",
		"spark.kubernetes.namespace":                site.Namespace,
		"spark.kubernetes.driver.pod.name":          podName(l.Tag),
		"spark.kubernetes.container.image":          site.Image,
		"spark.kubernetes.executor.podNamePrefix":   podName(l.Tag),
		"spark.kubernetes.executor.podTemplateFile": path.Join(confDir, templateFile),
		// Nothing is made that would have to be deleted at the end, which needed rights for it.
		"spark.kubernetes.driver.service.deleteOnTermination": "false",
		"spark.kubernetes.driver.ownPersistentVolumeClaim":    "false",
		"spark.kubernetes.executor.disableConfigMap":          "true", // it would hold the driver's conf directory, which executors do not need
		"spark.kubernetes.resource.type":                      "java",
		"spark.driver.port":                                   strconv.Itoa(site.Block.at(rpcPort)),
		"spark.driver.blockManager.port":                      strconv.Itoa(site.Block.at(blockManagerPort)),
		"spark.connect.grpc.binding.port":                     strconv.Itoa(site.Block.at(connectPort)),
		"spark.ui.port":                                       strconv.Itoa(site.Block.at(uiPort)),
		"spark.port.maxRetries":                               "0", // another port would be one that nobody knows of
		// Without it the Connect port would open only when executors have come, or half a minute has passed.
		"spark.scheduler.minRegisteredResourcesRatio": "0",
	})
	if shuffles(l) {
		conf["spark.celeborn.client.shuffle.manager.port"] = strconv.Itoa(site.Block.at(shufflePort))
	}
	if l.Program != nil && l.Program.Python {
		conf["spark.kubernetes.resource.type"] = "python"
	}
	if site.HostNetwork {
		conf["spark.blockManager.port"] = "0"             // a port that is said would be declared: one executor a node
		conf["spark.shuffle.readHostLocalDisk"] = "false" // two executors on a node have one address, but not one disk
		conf["spark.kubernetes.executor.useDriverPodIP"] = "true"
	}
	for k, v := range ourLabels(l, site) {
		conf["spark.kubernetes.executor.label."+k] = v
	}
	if l.User != "" && !site.Tokens {
		conf["spark.executorEnv.HADOOP_USER_NAME"] = l.User
	}
	if site.Tokens {
		secured(conf, site.Realm)
	}
	if site.Executor.CPU != "" {
		conf["spark.kubernetes.executor.request.cores"] = site.Executor.CPU
	}
	if site.Guaranteed {
		cpu := conf["spark.kubernetes.executor.request.cores"]
		if cpu == "" {
			cpu = conf["spark.executor.cores"]
		}
		if cpu == "" {
			cpu = "1"
		}
		conf["spark.kubernetes.executor.limit.cores"] = cpu
	}
	maps.Copy(conf, programConf(l, site))
	return conf, nil
}

// elasticity is how engines deal with executors that come and go, unless somebody says otherwise.
func elasticity() map[string]string {
	return map[string]string{
		"spark.dynamicAllocation.enabled":                 "true",
		"spark.dynamicAllocation.shuffleTracking.enabled": "false",
		"spark.dynamicAllocation.minExecutors":            "0",
		"spark.dynamicAllocation.executorIdleTimeout":     "60s",
		// An executor that has to go gets no new tasks, and moves its shuffle files to others while there is time. So does one
		// that is given back because it has nothing to do: there need be no shuffle service beside it.
		"spark.decommission.enabled":                              "true",
		"spark.storage.decommission.enabled":                      "true",
		"spark.storage.decommission.shuffleBlocks.enabled":        "true",
		"spark.storage.decommission.rddBlocks.enabled":            "true",
		"spark.storage.decommission.replicationReattemptInterval": "5s", // Spark's 30 s are as long as a pod has to end
		"spark.kubernetes.executor.terminationGracePeriodSeconds": "60s",
		"spark.stage.ignoreDecommissionFetchFailure":              "true",
		// Nodes that are taken away are no failures of the work: it may be begun again more often than Spark's four times.
		"spark.stage.maxConsecutiveAttempts":      "16",
		"spark.executor.maxNumFailures":           "1000",
		"spark.executor.failuresValidityInterval": "1h",
		"spark.shuffle.io.retryWait":              "2s",
		// A slow API server is no reason to give up.
		"spark.kubernetes.driver.requestTimeout":    "30000",
		"spark.kubernetes.driver.connectionTimeout": "30000",
	}
}

// limitExecutors keeps an application within the limits of its cluster.
func limitExecutors(conf map[string]string, site Site) error {
	for key, least := range map[string]int{"spark.dynamicAllocation.minExecutors": site.MinExecutors, "spark.dynamicAllocation.initialExecutors": 0,
		"spark.dynamicAllocation.maxExecutors": 0, "spark.executor.instances": 0} {
		n, said := 0, conf[key] != ""
		if said {
			var err error
			if n, err = strconv.Atoi(conf[key]); err != nil || n < 0 {
				return fmt.Errorf("%s: %q is no number of executors", key, conf[key])
			}
		}
		most := key == "spark.dynamicAllocation.maxExecutors"
		if most && !said {
			n = site.MaxExecutors
		}
		n = max(n, least)
		if site.MaxExecutors > 0 {
			n = min(n, site.MaxExecutors)
		}
		if said || least > 0 || most && n > 0 {
			conf[key] = strconv.Itoa(n)
		}
	}
	return nil
}

// javaOptions are those of a launch but for the heap, which Spark has a setting for. Files of the launch are named by their
// place.
func javaOptions(l engines.Launch) string {
	var out []string
	for _, o := range l.JVMOptions {
		if strings.HasPrefix(o, "-Xmx") {
			continue
		}
		if before, file, ok := strings.Cut(o, "="); ok {
			if _, ours := l.Files[file]; ours {
				o = before + "=" + path.Join(confDir, file)
			}
		}
		out = append(out, o)
	}
	return strings.Join(out, " ")
}
