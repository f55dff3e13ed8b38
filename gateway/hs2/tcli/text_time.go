package tcli

import (
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

const (
	secondsPerDay = 24 * 3600
	nanosPerSec   = 1_000_000_000
)

// unitsPerSecond says how many units of an Arrow time unit make a second.
func unitsPerSecond(u arrow.TimeUnit) int64 {
	switch u {
	case arrow.Second:
		return 1
	case arrow.Millisecond:
		return 1_000
	case arrow.Microsecond:
		return 1_000_000
	default:
		return nanosPerSec
	}
}

// floorDiv divides towards minus infinity: what lies before 1970 has a day and a time of day as well.
func floorDiv(a, b int64) (quo, rem int64) {
	quo, rem = a/b, a%b
	if rem < 0 {
		quo--
		rem += b
	}
	return quo, rem
}

// civil turns days since 1970-01-01 into a date of the proleptic Gregorian calendar, for any year. Years are taken to
// start in March, so that the leap day is their last and all else is a division.
func civil(days int64) (year, month, day int64) {
	const daysPerEra = 146_097 // 400 years
	days += 719_468            // from 0000-03-01
	era, doe := floorDiv(days, daysPerEra)
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	year, month, day = yoe+era*400, mp+3, doy-(153*mp+2)/5+1
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}

// appendTwo writes a number of two digits.
func appendTwo(dst []byte, v int64) []byte {
	return append(dst, byte('0'+v/10), byte('0'+v%10))
}

// appendDate writes yyyy-MM-dd. Years beyond 9999 carry a plus sign and those before year 0 a minus, as in ISO 8601
// and in Java.
func appendDate(dst []byte, days int64) []byte {
	year, month, day := civil(days)
	switch {
	case year < 0:
		dst = append(dst, '-')
		year = -year
	case year > 9999:
		dst = append(dst, '+')
	}
	if year > 9999 {
		dst = strconv.AppendInt(dst, year, 10)
	} else {
		dst = appendTwo(appendTwo(dst, year/100), year%100)
	}
	dst = appendTwo(append(dst, '-'), month)
	return appendTwo(append(dst, '-'), day)
}

// appendClock writes HH:mm:ss.
func appendClock(dst []byte, seconds int64) []byte {
	dst = appendTwo(dst, seconds/3600)
	dst = appendTwo(append(dst, ':'), seconds/60%60)
	return appendTwo(append(dst, ':'), seconds%60)
}

// appendFraction writes a point and the fraction without trailing zeros, or nothing for zero.
func appendFraction(dst []byte, nanos int64) []byte {
	if nanos == 0 {
		return dst
	}
	dst = appendNanos(append(dst, '.'), nanos)
	end := len(dst)
	for dst[end-1] == '0' {
		end--
	}
	return dst[:end]
}

// appendNanos writes nine digits.
func appendNanos(dst []byte, nanos int64) []byte {
	for div := int64(nanosPerSec / 10); div > 0; div /= 10 {
		dst = append(dst, byte('0'+nanos/div%10))
	}
	return dst
}

// zoneClock turns instants into local time. It remembers the span in which the last offset holds: neighbouring rows
// mostly fall into the same one, and a look-up costs more than the rest of the rendering. Not for concurrent use.
type zoneClock struct {
	loc      *time.Location // nil: values are local already
	from, to int64          // seconds since the epoch; to is not included
	offset   int64          // seconds east of UTC, within the span
}

func (z *zoneClock) local(sec int64) int64 {
	if z.loc == nil {
		return sec
	}
	if sec < z.from || sec >= z.to {
		z.lookUp(sec)
	}
	return sec + z.offset
}

func (z *zoneClock) lookUp(sec int64) {
	t := time.Unix(sec, 0).In(z.loc)
	_, offset := t.Zone()
	z.from, z.to, z.offset = math.MinInt64, math.MaxInt64, int64(offset)
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		z.from = start.Unix()
	}
	if !end.IsZero() {
		z.to = end.Unix()
	}
}

// appendTimestamp writes yyyy-MM-dd HH:mm:ss and the fraction, if any.
func (z *zoneClock) appendTimestamp(dst []byte, v, perSecond int64) []byte {
	sec, frac := floorDiv(v, perSecond)
	days, clock := floorDiv(z.local(sec), secondsPerDay)
	dst = append(appendDate(dst, days), ' ')
	return appendFraction(appendClock(dst, clock), frac*(nanosPerSec/perSecond))
}

// appendYearMonth writes [-]y-m.
func appendYearMonth(dst []byte, months int64) []byte {
	if months < 0 {
		dst = append(dst, '-')
		months = -months
	}
	dst = strconv.AppendInt(dst, months/12, 10)
	return strconv.AppendInt(append(dst, '-'), months%12, 10)
}

// appendDayTime writes [-]d hh:mm:ss.nnnnnnnnn, always with nine digits: the form Hive's JDBC driver parses.
func appendDayTime(dst []byte, v, perSecond int64) []byte {
	abs := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		abs = -abs // right for the lowest value too, which has no positive counterpart
	}
	seconds := int64(abs / uint64(perSecond))
	nanos := int64(abs%uint64(perSecond)) * (nanosPerSec / perSecond)
	dst = strconv.AppendInt(dst, seconds/secondsPerDay, 10)
	dst = appendClock(append(dst, ' '), seconds%secondsPerDay)
	return appendNanos(append(dst, '.'), nanos)
}

// appendCalendar writes the parts that are not zero in words, each with its own sign: "1 years -2 days".
func appendCalendar(dst []byte, v arrow.MonthDayNanoInterval) []byte {
	start := len(dst)
	word := func(n int64, unit string) {
		if n != 0 {
			dst = append(strconv.AppendInt(separate(dst, start), n, 10), unit...)
		}
	}
	word(int64(v.Months/12), " years")
	word(int64(v.Months%12), " months")
	word(int64(v.Days), " days")
	word(v.Nanoseconds/(3600*nanosPerSec), " hours")
	word(v.Nanoseconds/(60*nanosPerSec)%60, " minutes")
	if rest := v.Nanoseconds % (60 * nanosPerSec); rest != 0 {
		dst = separate(dst, start)
		if rest < 0 {
			dst = append(dst, '-')
			rest = -rest
		}
		dst = strconv.AppendInt(dst, rest/nanosPerSec, 10)
		dst = append(appendFraction(dst, rest%nanosPerSec), " seconds"...)
	}
	if len(dst) == start {
		dst = append(dst, "0 seconds"...)
	}
	return dst
}

// separate writes the blank between two words, not before the first.
func separate(dst []byte, start int) []byte {
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	return dst
}
