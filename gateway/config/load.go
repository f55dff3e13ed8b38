package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"gopkg.in/yaml.v3"
)

// delimiter separates the parts of a path inside koanf. Not a dot: Spark's keys have dots in them.
const delimiter = "/"

// Warning is something about the configuration that is no error.
type Warning struct{ Text string }

func (w Warning) String() string { return w.Text }

// Load reads the defaults, then the file if its path is not empty, then the environment. The error holds everything
// that is wrong, a line each, with the path of its key and its place.
func Load(path string, environ []string) (Config, []Warning, error) {
	k := koanf.New(delimiter)
	if err := k.Load(structs.Provider(Default(), "koanf"), nil); err != nil {
		return Config{}, nil, fmt.Errorf("the defaults: %w", err)
	}
	if path != "" {
		values, err := readFile(path)
		if err != nil {
			return Config{}, nil, err
		}
		if err := loadFile(k, values); err != nil {
			return Config{}, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	cfg, err := unmarshal(k)
	if err != nil {
		return Config{}, nil, err
	}
	values, warnings, err := readEnvironment(cfg, environ)
	if err != nil {
		return Config{}, nil, err
	}
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		return Config{}, nil, fmt.Errorf("the environment: %w", err)
	}
	if cfg, err = unmarshal(k); err != nil {
		return Config{}, nil, err
	}
	if err := cfg.expand(); err != nil {
		return Config{}, nil, err
	}
	return cfg, append(warnings, cfg.unsure()...), nil
}

// loadFile lays a file's values over the defaults, which are those of its own clusters, too.
func loadFile(k *koanf.Koanf, values map[string]any) error {
	clusters, _ := values["clusters"].(map[string]any)
	for name := range clusters {
		if k.Exists("clusters" + delimiter + name) {
			continue
		}
		defaults, err := structs.Provider(NewCluster(), "koanf").Read()
		if err == nil {
			err = k.Load(confmap.Provider(map[string]any{"clusters": map[string]any{name: defaults}}, ""), nil)
		}
		if err != nil {
			return err
		}
	}
	return k.Load(confmap.Provider(values, ""), nil)
}

// expand makes the paths absolute.
func (c *Config) expand() (err error) {
	paths := []*string{&c.DataDir, &c.Spool.Dir, &c.Auth.File, &c.TLS.Cert, &c.TLS.Key, &c.TLS.ClientCA, &c.Spark.Home, &c.Spark.JavaHome}
	paths = append(paths, &c.Route.File)
	if c.Audit.File != "stdout" && c.Audit.File != "stderr" {
		paths = append(paths, &c.Audit.File)
	}
	for _, p := range paths {
		if *p, err = expand(*p); err != nil {
			return err
		}
	}
	for name, r := range c.Runtimes {
		for _, p := range []*string{&r.Home, &r.JavaHome} {
			if *p, err = expand(*p); err != nil {
				return err
			}
		}
		c.Runtimes[name] = r
	}
	for name, cl := range c.Clusters {
		kube := &cl.Kubernetes
		for _, p := range []*string{&cl.Dir, &cl.YARN.HadoopConf, &cl.YARN.Keytab, &cl.YARN.Krb5Conf, &kube.Kubeconfig, &kube.DriverTemplate, &kube.ExecutorTemplate,
			&kube.HadoopConf, &kube.Keytab, &kube.Krb5Conf} {
			if *p, err = expand(*p); err != nil {
				return err
			}
		}
		if cl.Shuffle, err = cl.Shuffle.expand(); err != nil {
			return err
		}
		c.Clusters[name] = cl
	}
	return nil
}

func unmarshal(k *koanf.Koanf) (Config, error) {
	var cfg Config
	err := k.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: &mapstructure.DecoderConfig{
		Result: &cfg, TagName: "koanf", WeaklyTypedInput: true, ErrorUnused: true,
	}})
	return cfg, err
}

// expand makes a path absolute; ~ is the home directory.
func expand(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%s: %w; write the path without ~", path, err)
		}
		path = filepath.Join(home, rest)
	}
	return filepath.Abs(path)
}

// readFile reads a YAML file strictly: values of known keys, typed.
func readFile(path string) (map[string]any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil // empty
	}
	r := reader{file: path}
	values := r.mapping(doc.Content[0], nil, reflect.TypeFor[Config]())
	return values, errors.Join(r.errs...)
}

// reader reads YAML nodes by the Go type that they are for, and collects what is wrong with them.
type reader struct {
	file string
	errs []error
}

func (r *reader) wrong(n *yaml.Node, path []string, format string, args ...any) {
	at := fmt.Sprintf("%s:%d", r.file, n.Line)
	if len(path) > 0 {
		at += ": " + strings.Join(path, ".")
	}
	r.errs = append(r.errs, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

func (r *reader) mapping(n *yaml.Node, path []string, t reflect.Type) map[string]any {
	out := map[string]any{}
	if n.Kind != yaml.MappingNode {
		if n.Tag != "!!null" {
			r.wrong(n, path, "must be a mapping of keys to values")
		}
		return out
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := append(slices.Clone(path), name.Value)
		if line, twice := seen[name.Value]; twice {
			r.wrong(name, at, "is said twice; first in line %d", line)
			continue
		}
		seen[name.Value] = name.Line
		if v, ok := r.entry(name, value, at, t); ok {
			out[name.Value] = v
		}
	}
	return out
}

// entry reads one value of a struct or of a map.
func (r *reader) entry(name, value *yaml.Node, at []string, t reflect.Type) (any, bool) {
	if t.Kind() == reflect.Map { // any name is allowed
		return r.mapping(value, at, t.Elem()), true
	}
	field, ok := fieldOf(t, name.Value)
	if !ok {
		r.wrong(name, at, "there is no such key%s", suggest(t, at))
		return nil, false
	}
	switch {
	case field.Type == confType:
		return r.strings(value, at), true
	case field.Type.Kind() == reflect.Struct, field.Type.Kind() == reflect.Map:
		return r.mapping(value, at, field.Type), true
	case value.Tag == "!!null": // nothing is said; as text it would be the word null
		return nil, false
	case value.Kind != yaml.ScalarNode:
		r.wrong(value, at, "must be a single value (%s)", typeName(field.Type))
		return nil, false
	}
	v, err := key{typ: field.Type}.parse(value.Value)
	if err != nil {
		r.wrong(value, at, "%s", err)
		return nil, false
	}
	return v, true
}

func (r *reader) strings(n *yaml.Node, path []string) map[string]string {
	out := map[string]string{}
	if n.Kind != yaml.MappingNode {
		if n.Tag != "!!null" {
			r.wrong(n, path, "must be a mapping of settings to values")
		}
		return out
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := append(slices.Clone(path), name.Value)
		if line, twice := seen[name.Value]; twice {
			r.wrong(name, at, "is said twice; first in line %d", line)
			continue
		}
		seen[name.Value] = name.Line
		if value.Kind != yaml.ScalarNode {
			r.wrong(value, at, "must be a single value; write settings with their dots: spark.sql.shuffle.partitions: 4")
			continue
		}
		out[name.Value] = value.Value
	}
	return out
}

func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("koanf") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// suggest names the key of another section if it has just that name, or else the nearest one beside.
func suggest(t reflect.Type, at []string) string {
	last := at[len(at)-1]
	for _, k := range keys(Default()) {
		if k.path[len(k.path)-1] == last {
			return fmt.Sprintf("; did you mean %s?", k.name())
		}
	}
	var beside []string
	for i := range t.NumField() {
		beside = append(beside, t.Field(i).Tag.Get("koanf"))
	}
	if n := nearest(last, beside); n != "" {
		return fmt.Sprintf("; did you mean %s?", strings.Join(append(slices.Clone(at[:len(at)-1]), n), "."))
	}
	return ""
}

// readEnvironment finds the keys that environment variables set. Unknown SLUICE_ variables are only warned of, because
// Kubernetes makes such ones for a Service of that name.
func readEnvironment(cfg Config, environ []string) (map[string]any, []Warning, error) {
	known := map[string]key{}
	var names []string
	for _, k := range keys(cfg) {
		known[k.env()] = k
		names = append(names, k.env())
	}
	values := map[string]any{}
	var warnings []Warning
	var errs []error
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "SLUICE_") || name == "SLUICE_CONFIG" {
			continue
		}
		k, ok := known[name]
		if !ok {
			warnings = append(warnings, Warning{fmt.Sprintf("environment: %s is no setting of ours%s", name, didYouMean(name, names))})
			continue
		}
		v, err := k.parse(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("environment %s: %s: %w", name, k.name(), err))
			continue
		}
		nest(values, k.path, v)
	}
	return values, warnings, errors.Join(errs...)
}

func nest(m map[string]any, path []string, v any) {
	for _, p := range path[:len(path)-1] {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	m[path[len(path)-1]] = v
}
