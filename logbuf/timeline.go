package logbuf

import "time"

// timelineMax is how many marks a timeline keeps; more are thinned out.
const timelineMax = 1024

// timeline knows when the oldest pending entry arrived, without remembering
// every arrival: entries that came within a step of each other share a mark, and
// when a long outage makes too many marks, every other one goes. An answer is
// never later than the truth.
type timeline struct {
	step  time.Duration
	marks []mark
}

// A mark says that the entries up to number upTo, and after the mark before,
// arrived at this time or later.
type mark struct {
	upTo int64
	at   time.Time
}

// add notes that the entries up to number upTo have arrived.
func (t *timeline) add(upTo int64, at time.Time) {
	if n := len(t.marks); n > 0 && at.Sub(t.marks[n-1].at) < t.step {
		last := &t.marks[n-1]
		last.upTo = upTo
		if at.Before(last.at) { // a clock was set back
			last.at = at
		}
		return
	}
	if len(t.marks) >= timelineMax {
		kept := t.marks[:0]
		for i := 0; i+1 < len(t.marks); i += 2 {
			kept = append(kept, mark{upTo: t.marks[i+1].upTo, at: t.marks[i].at})
		}
		t.marks = kept
	}
	t.marks = append(t.marks, mark{upTo, at})
}

// done forgets the entries up to a number.
func (t *timeline) done(upTo int64) {
	i := 0
	for i < len(t.marks) && t.marks[i].upTo <= upTo {
		i++
	}
	t.marks = append(t.marks[:0], t.marks[i:]...)
}

// oldest returns when the oldest entry arrived, the zero time when there is none.
func (t *timeline) oldest() time.Time {
	if len(t.marks) == 0 {
		return time.Time{}
	}
	return t.marks[0].at
}
