package tcli

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the gateway's image may hold no zone files, and a wrong zone is a wrong result
)

// maxOffset is the largest distance from UTC, in seconds, that Java accepts in a zone id: 18 hours.
const maxOffset = 18 * 3600

// shortIDs are the zone ids of three letters that Spark accepts (java.time.ZoneId.SHORT_IDS); several of them name
// something else, or nothing, in the zone database.
var shortIDs = map[string]string{
	"ACT": "Australia/Darwin", "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires",
	"ART": "Africa/Cairo", "AST": "America/Anchorage", "BET": "America/Sao_Paulo", "BST": "Asia/Dhaka",
	"CAT": "Africa/Harare", "CNT": "America/St_Johns", "CST": "America/Chicago", "CTT": "Asia/Shanghai",
	"EAT": "Africa/Addis_Ababa", "ECT": "Europe/Paris", "EST": "-05:00", "HST": "-10:00",
	"IET": "America/Indiana/Indianapolis", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "MIT": "Pacific/Apia",
	"MST": "-07:00", "NET": "Asia/Yerevan", "NST": "Pacific/Auckland", "PLT": "Asia/Karachi",
	"PNT": "America/Phoenix", "PRT": "America/Puerto_Rico", "PST": "America/Los_Angeles",
	"SST": "Pacific/Guadalcanal", "VST": "Asia/Ho_Chi_Minh",
}

// regions keeps the zones already read from the database: reading one costs more than rendering a page of rows. It
// holds no more than the database has names.
var regions sync.Map // string → *time.Location

// Zone returns the time zone a Java or Spark zone id names: a region ("Europe/Paris"), an offset ("Z", "+08:00", "+8"),
// a prefixed one ("GMT+8", "UTC-03:30") or one of Java's short ids ("PST"). Ids are case-sensitive, as in Java.
func Zone(id string) (*time.Location, error) {
	name := id
	if long, ok := shortIDs[name]; ok {
		name = long
	}
	switch name {
	case "Z", "UTC", "GMT", "UT":
		return time.UTC, nil
	}
	offset := name
	for _, prefix := range []string{"UTC", "GMT", "UT"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && (rest[0] == '+' || rest[0] == '-') {
			offset = rest
			break
		}
	}
	if offset != "" && (offset[0] == '+' || offset[0] == '-') {
		seconds, ok := parseOffset(offset)
		if !ok {
			return nil, fmt.Errorf("time zone %q: not an offset of at most 18 hours like +08:00", id)
		}
		return time.FixedZone(id, seconds), nil
	}
	return region(name)
}

// region looks a name up in the zone database, with Java's idea of which zones are one. "" and "Local" mean something to
// the time package but nothing to Java.
func region(name string) (*time.Location, error) {
	if loc, ok := regions.Load(name); ok {
		return loc.(*time.Location), nil
	}
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("time zone %q: not a zone id", name)
	}
	file := name
	if zone, ok := histories[name]; ok {
		file = zone
	}
	loc, err := time.LoadLocation(file)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w", name, err)
	}
	regions.Store(name, loc)
	return loc, nil
}

// parseOffset reads ±h, ±hh, ±hhmm, ±hhmmss and the same with colons, ±h:m included, and returns seconds east of
// UTC.
func parseOffset(s string) (int, bool) {
	var parts [3]int
	body := s[1:]
	n, ok := 0, false
	if strings.Contains(body, ":") {
		n, ok = splitColons(body, &parts)
	} else {
		n, ok = splitDigits(body, &parts)
	}
	if !ok || (n > 1 && parts[1] > 59) || (n > 2 && parts[2] > 59) {
		return 0, false
	}
	seconds := parts[0]*3600 + parts[1]*60 + parts[2]
	if seconds > maxOffset {
		return 0, false
	}
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// splitColons reads up to three groups of one or two digits.
func splitColons(s string, parts *[3]int) (int, bool) {
	n := 0
	for group := range strings.SplitSeq(s, ":") {
		if n == len(parts) {
			return 0, false
		}
		v, ok := twoDigits(group)
		if !ok {
			return 0, false
		}
		parts[n] = v
		n++
	}
	return n, true
}

// splitDigits reads the forms without colons: a lone digit, or two, four or six of them.
func splitDigits(s string, parts *[3]int) (int, bool) {
	if len(s) == 1 {
		v, ok := twoDigits(s)
		parts[0] = v
		return 1, ok
	}
	if len(s) == 0 || len(s)%2 != 0 || len(s) > 6 {
		return 0, false
	}
	for i := 0; i < len(s); i += 2 {
		v, ok := twoDigits(s[i : i+2])
		if !ok {
			return 0, false
		}
		parts[i/2] = v
	}
	return len(s) / 2, true
}

// twoDigits reads one or two decimal digits.
func twoDigits(s string) (int, bool) {
	if len(s) == 0 || len(s) > 2 {
		return 0, false
	}
	v := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v, true
}
