package yarn

import (
	"maps"
	"path"
	"slices"
	"strings"
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

func parent(uri string) string { return strings.TrimSuffix(uri, "/"+path.Base(uri)) }
