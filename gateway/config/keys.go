package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
)

// key is one setting, found by walking the Config type: path, type and help have no other home.
type key struct {
	path  []string
	typ   reflect.Type
	help  string
	oneof []string
	value reflect.Value // in the configuration that was walked
	hide  bool
}

func (k key) name() string { return strings.Join(k.path, ".") }

func (k key) env() string {
	return "SLUICE_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(strings.Join(k.path, "_")))
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[Bytes]()
	confType     = reflect.TypeFor[map[string]string]()
)

// keys lists the settings of a configuration, those of its map entries included.
func keys(c Config) []key { return walk(nil, reflect.ValueOf(c)) }

func walk(path []string, v reflect.Value) []key {
	var out []key
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clone(path), f.Tag.Get("koanf"))
		switch {
		case f.Type.Kind() == reflect.Struct:
			out = append(out, walk(at, v.Field(i))...)
		case f.Type.Kind() == reflect.Map && f.Type != confType:
			for _, name := range slices.Sorted(maps.Keys(entries(v.Field(i)))) {
				out = append(out, walk(append(slices.Clone(at), name), entries(v.Field(i))[name])...)
			}
		default:
			k := key{path: at, typ: f.Type, help: f.Tag.Get("help"), value: v.Field(i), hide: f.Tag.Get("secret") != ""}
			if names := f.Tag.Get("oneof"); names != "" {
				k.oneof = strings.Split(names, ",")
			}
			out = append(out, k)
		}
	}
	return out
}

func entries(m reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for it := m.MapRange(); it.Next(); {
		out[it.Key().String()] = it.Value()
	}
	return out
}

// parse reads a value of the key's type from text.
func (k key) parse(text string) (any, error) {
	switch {
	case k.typ == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no duration; write it like 30s, 5m or 6h", text)
		}
		return d, nil
	case k.typ == bytesType:
		return ParseBytes(text)
	case k.typ == confType:
		return parsePairs(text)
	case k.typ.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		return b, nil
	case k.typ.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no whole number", text)
		}
		return n, nil
	}
	return text, nil
}

func parsePairs(text string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("%q is no key=value", pair)
		}
		out[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return out, nil
}

// text writes a value as parse reads it.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return durationText(x)
	case Bytes:
		return x.String()
	case map[string]string:
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(x)) {
			pairs = append(pairs, k+"="+x[k])
		}
		return strings.Join(pairs, ",")
	}
	return fmt.Sprint(v.Interface())
}

// durationText leaves out the zeros at the end that Go writes: 30m, not 30m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func typeName(t reflect.Type) string {
	switch t {
	case durationType:
		return "duration"
	case bytesType:
		return "size"
	case confType:
		return "map"
	}
	return t.Kind().String()
}

// nearest returns the candidate that a misspelt word most likely meant, or nothing.
func nearest(word string, candidates []string) string {
	best, distance := "", len(word)/2+2
	for _, c := range candidates {
		if d := levenshtein.ComputeDistance(word, c); d < distance {
			best, distance = c, d
		}
	}
	return best
}

func didYouMean(word string, candidates []string) string {
	if n := nearest(word, candidates); n != "" {
		return fmt.Sprintf("; did you mean %s?", n)
	}
	return ""
}
