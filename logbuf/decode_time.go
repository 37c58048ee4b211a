package logbuf

import (
	"errors"
	"strings"
	"time"
)

var errTime = errors.New("is no time as in RFC 3339")

// ParseTime reads a time as in RFC 3339, and nothing else: package time also takes hours of one digit, commas and
// offsets of a day and more. A second 60 is refused, as nothing here can tell it from the next.
func ParseTime(text string) (time.Time, error) {
	if !isTime(text) {
		return time.Time{}, errTime
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(text)) // t and z mean the same
	if err != nil {
		return time.Time{}, errTime
	}
	return t, nil
}

// isTime reports whether text has the form of a time.
func isTime(text string) bool {
	const form = "0000-00-00T00:00:00"
	if len(text) <= len(form) {
		return false
	}
	for i := range len(form) {
		switch c := text[i]; form[i] {
		case '0':
			if !isDigit(c) {
				return false
			}
		case 'T':
			if c != 'T' && c != 't' {
				return false
			}
		default:
			if c != form[i] {
				return false
			}
		}
	}
	rest := text[len(form):]
	if fraction, ok := strings.CutPrefix(rest, "."); ok {
		if rest = strings.TrimLeft(fraction, "0123456789"); len(rest) == len(fraction) {
			return false
		}
	}
	if rest == "Z" || rest == "z" {
		return true
	}
	return len(rest) == len("+00:00") && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':' &&
		twoDigits(rest[1:]) <= 23 && twoDigits(rest[4:]) <= 59
}

// A timeReader reads times as most programs write them, 2026-01-02T15:04:05.678901Z, for a third of what it costs to
// work out their date each time: entries that come together are mostly of the same day, or of two.
type timeReader struct {
	days [2]readDay // by the last bit of the day of the month
}

// A readDay is a day of which a time was read.
type readDay struct {
	date     string // 2026-01-02T
	midnight int64  // in seconds since 1970
}

const (
	dateSize     = len("2026-01-02T")
	clockSize    = len("2026-01-02T15:04:05")
	fractionSize = len(".678901234") // of a second, at most; what is longer is read the other way
)

// read reads a time of RFC 3339, to the microsecond and in UTC.
func (r *timeReader) read(text []byte) (t time.Time, err error) {
	if t, ok := r.known(text); ok {
		return t, nil
	}
	if t, err = ParseTime(string(text)); err != nil {
		return time.Time{}, err
	}
	t = t.UTC().Truncate(time.Microsecond)
	if text[dateSize-1] == 'T' && text[len(text)-1] == 'Z' {
		*r.day(text) = readDay{string(text[:dateSize]), t.Truncate(24 * time.Hour).Unix()}
	}
	return t, nil
}

func (r *timeReader) day(text []byte) *readDay { return &r.days[text[dateSize-2]&1] }

// known reads a time whose date was read before.
func (r *timeReader) known(text []byte) (t time.Time, ok bool) {
	last := len(text) - 1
	if last < clockSize || last > clockSize+fractionSize || text[last] != 'Z' || text[13] != ':' || text[16] != ':' {
		return t, false
	}
	day := r.day(text)
	if day.date != string(text[:dateSize]) {
		return t, false
	}
	hour, minute, second := twoDigits(text[11:]), twoDigits(text[14:]), twoDigits(text[17:])
	micros, ok := microsOf(text[clockSize:last])
	if !ok || hour > 23 || minute > 59 || second > 59 {
		return t, false
	}
	return time.Unix(day.midnight+int64(hour*3600+minute*60+second), micros*1000).UTC(), true
}

// twoDigits reads a number of two digits. Where there are none it is too large for a clock.
func twoDigits[T string | []byte](text T) int {
	if !isDigit(text[0]) || !isDigit(text[1]) {
		return 100
	}
	return int(text[0]-'0')*10 + int(text[1]-'0')
}

// microsOf reads the fraction of a second, which may be empty and else begins with a point.
func microsOf(text []byte) (micros int64, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != '.' || len(text) == 1 {
		return 0, false
	}
	unit := int64(100_000)
	for _, b := range text[1:] {
		if !isDigit(b) {
			return 0, false
		}
		micros += int64(b-'0') * unit
		unit /= 10
	}
	return micros, true
}
