// Command table makes docs/clients.md from what the compatibility tests have shown, and from nothing else: with -check it
// fails where the committed file says something else. After a run that left out tests it does neither.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluicedata/sluice/tests/compat/record"
	"github.com/sluicedata/sluice/tests/testbed"
)

func main() {
	check := flag.Bool("check", false, "compare with the file instead of writing it")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(check bool) error {
	seen, full, err := read()
	if err != nil {
		return err
	}
	if !full {
		fmt.Println("docs/clients.md is neither compared nor written: not every test of the clients ran")
		return nil
	}
	text, err := render(seen)
	if err != nil {
		return err
	}
	file := filepath.Join(testbed.Root(), "docs", "clients.md")
	if !check {
		return os.WriteFile(file, []byte(text), 0o644)
	}
	old, err := os.ReadFile(file)
	if err != nil || string(old) != text {
		return fmt.Errorf("docs/clients.md does not say what the tests have shown: run make clients, which writes it anew, and commit it")
	}
	return nil
}

// read joins the records of all packages.
func read() (map[string]map[string]bool, bool, error) {
	files, err := filepath.Glob(filepath.Join(record.Dir(), "*.json"))
	if err != nil || len(files) == 0 {
		return nil, false, fmt.Errorf("no records in %s: run make compat", record.Dir())
	}
	seen, full := map[string]map[string]bool{}, true
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, false, err
		}
		var r record.Run
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, false, fmt.Errorf("%s: %w", f, err)
		}
		full = full && r.Full
		for name, can := range r.Clients {
			if seen[name] == nil {
				seen[name] = map[string]bool{}
			}
			maps.Copy(seen[name], can)
		}
	}
	return seen, full, nil
}

func render(seen map[string]map[string]bool) (string, error) {
	var b strings.Builder
	b.WriteString("# Clients\n\nEach client is the stock one from its registry, run against a gateway with a real Spark 4.3 by `make clients`, which made this page:\na tick stands where a test passed. What DBeaver, Superset and Hue send is scripted over a driver.\n\n")
	b.WriteString("| client | " + strings.Join(columns, " | ") + " |\n|" + strings.Repeat("---|", len(columns)+1) + "\n")
	known := map[string]bool{}
	for _, c := range clients {
		known[c.name] = true
		row := []string{c.name}
		for _, col := range columns {
			row = append(row, cell(seen[c.name], c, col))
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	b.WriteString("\n")
	for i, note := range footnotes {
		fmt.Fprintf(&b, "%s %s  \n", marks[i], note)
	}
	b.WriteString(legend)
	b.WriteString("\n## Tools\n| tool | what was done with it |\n|---|---|\n")
	for _, c := range tools {
		known[c.name] = true
		var did []string
		for what, ok := range seen[c.name] {
			if ok {
				did = append(did, what)
			}
		}
		slices.Sort(did)
		fmt.Fprintf(&b, "| %s | %s |\n", c.name, strings.Join(did, ", "))
	}
	b.WriteString("\n## How to connect\nHOST:10009 is `listen.thrift`, HOST:10099 is `listen.http`.\n\n")
	for _, c := range append(slices.Clone(clients), tools...) {
		fmt.Fprintf(&b, "- **%s**: %s\n", c.name, c.how)
	}
	for name := range seen {
		if !known[name] {
			return "", fmt.Errorf("tests/compat/table does not know the client %q", name)
		}
	}
	return b.String(), nil
}

var marks = []string{"¹", "²", "³", "⁴"}

func cell(can map[string]bool, c client, column string) string {
	ok, tried := can[column]
	switch note, none := c.none[column]; {
	case ok && column == "timeout" && c.borrowed:
		return "✓ " + marks[1]
	case ok:
		return "✓"
	case tried:
		return "✗"
	case none:
		return "– " + marks[note-1]
	}
	return "not tested"
}

const legend = `
| column | what was seen |
|---|---|
| connect | user, database, settings and variables of the connection are those of the session |
| types | a value and a null of each Spark type, as the client gives them to a program |
| pages | 2501 rows in pages, nulls among the last ones |
| errors | a syntax error, a missing table, a division by zero and a result beyond a limit are each told as what they are, and the session goes on |
| engine lost | the engine killed under the statement: the cause is told, and the session goes on with its settings on a new engine |
| cancel | the client stops a running statement, the job on Spark ends, the session goes on |
| timeout | a statement ends at its time limit and says so |
| metadata | schemas, tables, views, columns with types and comments, functions, by the client's own calls |
| log | lines or a bar of a running statement, with its stages |
| HTTP | what the column connect is, over HTTP with Basic |
| TLS | a statement that needs no engine, over TLS on each port that the client can use it on, with the certificate verified |
`
