package logbuf

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The oldest arrival is never said to be later than it was, and, as long as
// there are few marks, hardly earlier.
func TestTimeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		line := timeline{step: time.Millisecond}
		var arrivals []time.Time // of the entries that are pending
		now, upTo, done := start, int64(0), int64(0)
		steps := rapid.IntRange(1, 5*timelineMax).Draw(t, "steps")
		few := true
		for i := range steps {
			now = now.Add(time.Duration(i%7) * time.Millisecond / 2)
			n := 1 + i%3
			for range n {
				arrivals = append(arrivals, now)
			}
			upTo += int64(n)
			few = few && len(line.marks) < timelineMax
			line.add(upTo, now)
			if i%50 == 49 {
				n := min(rapid.IntRange(0, 150).Draw(t, "done"), len(arrivals))
				arrivals = arrivals[n:]
				done += int64(n)
				line.done(done)
			}
			if len(arrivals) == 0 {
				if !line.oldest().IsZero() {
					t.Fatalf("nothing is pending, the oldest is of %v", line.oldest())
				}
				continue
			}
			late := arrivals[0].Sub(line.oldest())
			if line.oldest().IsZero() || late < 0 || few && late > line.step {
				t.Fatalf("the oldest is of %v, not of %v", arrivals[0], line.oldest())
			}
			if len(line.marks) > timelineMax {
				t.Fatalf("%d marks", len(line.marks))
			}
		}
	})
}
