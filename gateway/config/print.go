package config

import (
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// Print writes the configuration as a file that Load reads, without its secrets.
func (c Config) Print(w io.Writer) error {
	root := map[string]any{}
	for _, k := range keys(c) {
		switch {
		case k.hide && k.value.String() != "":
			continue
		case k.typ == confType:
			nest(root, k.path, k.value.Interface())
		case k.typ == durationType || k.typ == bytesType:
			nest(root, k.path, text(k.value))
		default:
			nest(root, k.path, k.value.Interface())
		}
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return err
	}
	return enc.Close()
}

// documented lists every key there is: those of the defaults, and those of a runtime, of which the defaults have none.
func documented() []key {
	c := Default()
	c.Runtimes["NAME"] = Runtime{}
	return keys(c)
}

// Docs is a table of every key, in Markdown.
func Docs() string {
	var b strings.Builder
	b.WriteString("| key | environment | type | default | meaning |\n|---|---|---|---|---|\n")
	for _, k := range documented() {
		help := k.help
		if k.oneof != nil {
			help += " One of: " + strings.Join(k.oneof, ", ") + "."
		}
		value := text(k.value)
		if value == "" {
			value = "(empty)"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | `%s` | %s |\n", k.name(), k.env(), typeName(k.typ), value, help)
	}
	return b.String()
}
