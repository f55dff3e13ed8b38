//go:build e2e

package corpus

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/tests/testbed"
)

// corrected are zones whose past was corrected lately, so that it depends on the age of either side's zone files.
var corrected = map[string]bool{"America/Ensenada": true, "America/Santa_Isabel": true, "America/Tijuana": true, "Mexico/BajaNorte": true}

// Spark stores and reads timestamps by Java's zones, and the gateway shows them by its own.
func TestZonesAreThoseOfJava(t *testing.T) {
	var instants []string
	for at := time.Date(1800, 1, 15, 12, 0, 0, 0, time.UTC); at.Year() < 2025; at = at.AddDate(0, 5, 0) {
		instants = append(instants, strconv.FormatInt(at.Unix(), 10))
	}
	r := testbed.Run(t, testbed.Java(t), append([]string{filepath.Join(testbed.Root(), "tests", "compat", "corpus", "Zones.java")}, instants...)...)
	require.Zero(t, r.Code, r.Err)
	seen := 0
	for _, line := range r.Rows() {
		fields := strings.Fields(line)
		if id := fields[0]; !strings.HasPrefix(id, "SystemV/") && !corrected[id] { // SystemV: Java alone has them
			seen++
			compareZone(t, id, instants, fields[1:])
		}
	}
	require.Greater(t, seen, 500)
}

// compareZone tells of the first difference only.
func compareZone(t *testing.T, id string, instants, java []string) {
	t.Helper()
	loc, err := tcli.Zone(id)
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	for i, text := range instants {
		sec, err := strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
		if _, ours := time.Unix(sec, 0).In(loc).Zone(); strconv.Itoa(ours) != java[i] {
			t.Errorf("%s at %s: Java is %s s from UTC, we are %d", id, time.Unix(sec, 0).UTC().Format(time.DateTime), java[i], ours)
			return
		}
	}
}
