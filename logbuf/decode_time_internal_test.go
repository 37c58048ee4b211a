package logbuf

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What RFC 3339 calls a time, in whatever case; package time also takes more.
var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// A time is read as the standard library reads it, whatever was read before: right or wrong, with or without a
// fraction, in other zones, and damaged at any byte.
func TestTimesAreReadAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r timeReader
		for range rapid.IntRange(1, 20).Draw(t, "times") {
			at := time.Date(rapid.IntRange(1, 9999).Draw(t, "year"), time.Month(rapid.IntRange(1, 2).Draw(t, "month")),
				rapid.IntRange(1, 3).Draw(t, "day"), 0, 0, 0, 0, time.UTC)
			if rapid.Bool().Draw(t, "of this year") {
				at = time.Date(2026, at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
			}
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(day)-1).Draw(t, "nanoseconds")))
			layout := rapid.SampledFrom([]string{time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000Z07:00",
				"2006-01-02T15:04:05.000000Z07:00", "2006-01-02T15:04:05.0000000000Z07:00", "2006-01-02 15:04:05Z",
				"2006-01-02T15:04Z", "2006-01-02T24:04:05Z", "2006-01-02T15:60:05Z", "2006-01-02T15:04:60Z"}).Draw(t, "layout")
			if rapid.IntRange(0, 4).Draw(t, "elsewhere") == 0 {
				at = at.In(time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "hours")*3600))
			}
			text := []byte(at.Format(layout))
			if rapid.IntRange(0, 2).Draw(t, "damaged") == 0 {
				text[rapid.IntRange(0, len(text)-1).Draw(t, "byte")] =
					rapid.SampledFrom([]byte("09:.,-+TZtz \x00\xff")).Draw(t, "by")
			}
			var want time.Time
			wantErr := want.UnmarshalText(bytes.ToUpper(text))
			if !timeForm.Match(text) {
				wantErr = errTime
			}
			got, err := r.read(text)
			if (err == nil) != (wantErr == nil) || err == nil && !got.Equal(want.Truncate(time.Microsecond)) ||
				got.Location() != time.UTC {
				t.Fatalf("%q is read as %v, %v; want %v, %v", text, got, err, want, wantErr)
			}
		}
	})
}
