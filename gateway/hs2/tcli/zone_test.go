package tcli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestZone(t *testing.T) {
	summer := time.Date(2024, 7, 1, 0, 0, 0, 0, time.UTC)
	const hour = 3600
	for id, want := range map[string]int{ // seconds east of UTC in summer
		"Z": 0, "UTC": 0, "GMT": 0, "UT": 0, "GMT0": 0, "Etc/UTC": 0, "UTC+0": 0,
		"+08:00": 8 * hour, "+8": 8 * hour, "+08": 8 * hour, "+0800": 8 * hour, "+8:00": 8 * hour, "-05:30": -5*hour - 1800,
		"+01:02:03": hour + 123, "-010203": -hour - 123, "+18:00": 18 * hour, "-18:00": -18 * hour, "+1:2": hour + 120,
		"GMT+8": 8 * hour, "UTC+08:00": 8 * hour, "UT-3": -3 * hour, "GMT+8:00": 8 * hour, "GMT-03:30": -3*hour - 1800,
		"Europe/Paris": 2 * hour, "Asia/Shanghai": 8 * hour, "Asia/Kolkata": 5*hour + 1800, "Etc/GMT+8": -8 * hour,
		"PST": -7 * hour, "CST": -5 * hour, "IST": 5*hour + 1800, "EST": -5 * hour, "JST": 9 * hour, "ECT": 2 * hour,
	} {
		t.Run(id, func(t *testing.T) {
			loc, err := Zone(id)
			require.NoError(t, err)
			_, offset := summer.In(loc).Zone()
			assert.Equal(t, want, offset)
		})
	}
}

func TestShortIDsAreKnown(t *testing.T) {
	for id := range shortIDs {
		_, err := Zone(id)
		assert.NoError(t, err, id)
	}
}

func TestZonesThatJavaMerges(t *testing.T) {
	for name, zone := range histories {
		merged, err := Zone(name)
		require.NoError(t, err)
		file, err := Zone(zone)
		require.NoError(t, err)
		assert.Same(t, regionOf(t, zone), file)
		for sec := int64(-5_000_000_000); sec < 1_700_000_000; sec += 10_000_019 {
			require.Equal(t, time.Unix(sec, 0).In(file).Format(time.DateTime), time.Unix(sec, 0).In(merged).Format(time.DateTime), name)
		}
	}
	stockholm, err := Zone("Europe/Stockholm")
	require.NoError(t, err)
	clock := zoneClock{loc: stockholm}
	// As Spark reads and writes it: Java has no history of Stockholm before 1893 but Berlin's.
	assert.Equal(t, "1900-01-01 00:00:00", string(clock.appendTimestamp(nil, -2208992400, 1)))
}

func regionOf(t *testing.T, zone string) *time.Location {
	t.Helper()
	require.NotContains(t, histories, zone, "a zone that stands for others has a history of its own")
	loc, err := region(zone)
	require.NoError(t, err)
	return loc
}

func TestZoneRefuses(t *testing.T) {
	for _, id := range []string{
		"", "Local", "Mars/Olympus", "+", "-", "+19:00", "+18:01", "+18:00:01", "+08:60", "+08:", "+:08", "+080", "+08000", "+x", "GMT+",
		"GMT+x", "UTC8", "+0８", "../UTC", "/etc/localtime", "+08:00:00:00",
	} {
		_, err := Zone(id)
		assert.Error(t, err, "%q", id)
	}
}

func TestZoneIsReadOnce(t *testing.T) {
	first, err := Zone("America/New_York")
	require.NoError(t, err)
	second, err := Zone("America/New_York")
	require.NoError(t, err)
	assert.Same(t, first, second)
}

func FuzzText(f *testing.F) {
	for _, id := range []string{"Z", "GMT+8", "UTC+08:00", "+1:2", "PST", "Europe/Paris", "+18:00:01", "Local", "../x", "+", "-0", "UT-\xff"} {
		f.Add(id, int64(1_700_000_000_123_456))
	}
	f.Fuzz(func(t *testing.T, id string, micros int64) {
		loc, err := Zone(id)
		if err != nil {
			return
		}
		clock := zoneClock{loc: loc}
		sec, frac := floorDiv(micros, 1_000_000)
		got := string(clock.appendTimestamp(nil, micros, 1_000_000))
		when := time.Unix(sec, frac*1000).In(loc)
		if y := when.Year(); y < 0 || y > 9999 {
			return // Go's layout has no sign
		}
		if want := when.Format("2006-01-02 15:04:05.999999"); got != want {
			t.Errorf("zone %q, %d µs: got %s, want %s", id, micros, got, want)
		}
	})
}
