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

// documented lists the keys of the defaults, and those of what can be named and is not there by default.
func documented() []key {
	all := Default()
	all.Profiles["NAME"], all.Runtimes["NAME"] = Profile{}, Runtime{}
	all.Auth.ProxyUsers["NAME"] = ProxyUser{}
	return keys(all)
}
