package engines

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

var size = regexp.MustCompile(`^([1-9][0-9]*)([kKmMgGtT]?)[bB]?$`)

// Mebibytes reads a size as Spark writes it: 512m, 2g; a number alone is MiB. What is left of a MiB counts as one.
func Mebibytes(text string) (int, error) {
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

// DriverOverhead is what a driver's container needs beside its heap, in MiB, by Spark's rule: a setting of its own, or a
// share of the heap, which is factor unless a setting says otherwise, and 384 MiB at least.
func DriverOverhead(heap int, conf map[string]string, factor float64) int {
	if n, err := Mebibytes(conf["spark.driver.memoryOverhead"]); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(conf["spark.driver.memoryOverheadFactor"], 64); err == nil && f > 0 {
		factor = f
	}
	return max(384, int(factor*float64(heap)))
}

// DriverCores reads spark.driver.cores, which is 1 if it is not said.
func DriverCores(conf map[string]string) (int, error) {
	text := conf["spark.driver.cores"]
	if text == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("spark.driver.cores: %q is no number of cores", text)
	}
	return n, nil
}

// Properties writes a file as java.util.Properties reads it, sorted by key.
func Properties(values map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(values)) {
		b.WriteString(escape(k, true) + "=" + escape(values[k], false) + "\n")
	}
	return b.String()
}

func escape(text string, key bool) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case strings.ContainsRune(`\:=#!`, r), r == ' ' && (key || i == 0):
			b.WriteString(`\` + string(r))
		case r < ' ' || r > '~':
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04X`, unit)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
