package yarn

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// application is YARN's ApplicationSubmissionContext as the ResourceManager's REST API reads it.
type application struct {
	ID          string    `json:"application-id"`
	Name        string    `json:"application-name"`
	Type        string    `json:"application-type"`
	Queue       string    `json:"queue"`
	MaxAttempts int       `json:"max-app-attempts"`
	Resource    resource  `json:"resource"`
	Tags        tags      `json:"application-tags"`
	AppLabel    string    `json:"app-node-label-expression,omitempty"` // empty would turn the queue's own label off
	DriverLabel string    `json:"am-container-node-label-expression,omitempty"`
	Container   container `json:"am-container-spec"`
}

type resource struct {
	Memory int `json:"memory"` // MiB
	Cores  int `json:"vCores"`
}

type tags struct {
	Tag []string `json:"tag"`
}

type container struct {
	Commands    commands               `json:"commands"`
	Environment entries[string]        `json:"environment"`
	Resources   entries[localResource] `json:"local-resources"`
	ACLs        entries[string]        `json:"application-acls"`
	Credentials *credentials           `json:"credentials,omitempty"`
}

type credentials struct {
	Tokens entries[string] `json:"tokens"`
}

func credentialsOf(tokens map[string]string) *credentials {
	if len(tokens) == 0 {
		return nil
	}
	return &credentials{entriesOf(tokens)}
}

type commands struct {
	Command string `json:"command"`
}

type localResource struct {
	Resource   string `json:"resource"`
	Type       string `json:"type"`
	Visibility string `json:"visibility"`
	Size       int64  `json:"size"`
	Timestamp  int64  `json:"timestamp"`
}

// entries is a map as Hadoop's JSON writes it.
type entries[V any] struct {
	Entry []entry[V] `json:"entry"`
}

type entry[V any] struct {
	Key   string `json:"key"`
	Value V      `json:"value"`
}

// entriesOf sorts by key, so that the same submission is always the same text.
func entriesOf[V any](m map[string]V) entries[V] {
	out := entries[V]{Entry: []entry[V]{}}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out.Entry = append(out.Entry, entry[V]{k, m[k]})
	}
	return out
}

var size = regexp.MustCompile(`^([1-9][0-9]*)([kKmMgGtT]?)[bB]?$`)

// megabytes reads a size as Spark writes it: 512m, 2g; a number alone is MiB. What is left of a MiB counts as one.
func megabytes(text string) (int, error) {
	m := size.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0, fmt.Errorf("%q is no size of memory; write it like 2g or 512m", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > 1<<30 {
		return 0, fmt.Errorf("%q is more memory than a machine has; write it like 2g or 512m", text)
	}
	switch strings.ToLower(m[2]) {
	case "k":
		return (n + 1023) / 1024, nil
	case "g":
		return n << 10, nil
	case "t":
		return n << 20, nil
	}
	return n, nil
}

// overhead is what a driver's container needs beside its heap, by Spark's rule: a setting of its own, or a share of the
// heap, 384 MiB at least.
func overhead(heap int, conf map[string]string) int {
	if n, err := megabytes(conf["spark.driver.memoryOverhead"]); err == nil {
		return n
	}
	factor := 0.1
	if f, err := strconv.ParseFloat(conf["spark.driver.memoryOverheadFactor"], 64); err == nil && f > 0 {
		factor = f
	}
	return max(384, int(factor*float64(heap)))
}

func parent(uri string) string { return strings.TrimSuffix(uri, "/"+path.Base(uri)) }

func utf16Of(r rune) []uint16 { return utf16.Encode([]rune{r}) }
