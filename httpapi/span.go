package httpapi

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// maxSpan is how far back a bound may be asked for as a span.
const maxSpan = 100 * 365 * 24 * time.Hour

// parseBounds reads since and until: each a time, or a span back from end, which is a multiple of
// step. A bound that is not given is the zero time.
func parseBounds(since, until string, end time.Time, step time.Duration) (from, to time.Time, err error) {
	if from, err = parseBound("since", since, end, step); err != nil {
		return from, to, err
	}
	to, err = parseBound("until", until, end, step)
	return from, to, err
}

func parseBound(field, text string, end time.Time, step time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := logbuf.ParseTime(text); err == nil {
		if t.IsZero() { // it would mean that no bound is given
			return t, &logbuf.FieldError{Field: field, Message: logbuf.OutsideTime}
		}
		return t, nil
	}
	if span, ok := parseSpan(text); ok && span%step == 0 {
		return end.Add(-span), nil
	}
	kind := "a span"
	if step == logbuf.Quarter {
		kind = "a span of quarters of an hour"
	}
	return time.Time{}, &logbuf.FieldError{
		Field: field, Message: "must be a time as in RFC 3339, or " + kind + " such as 90m, 24h, 7d or 4w",
	}
}

// parseSpan reads a whole number and a unit.
func parseSpan(text string) (time.Duration, bool) {
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	number := strings.TrimRight(text, "mhdw")
	unit, ok := units[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || n <= 0 || n > int64(maxSpan/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// renamed returns an error about a field as one about the parameter that brought it.
func renamed(err error, field string) error {
	if f, ok := errors.AsType[*catalog.FieldError](err); ok {
		return &catalog.FieldError{Field: field, Message: f.Message}
	}
	return err
}
