package clocks

import (
	"testing"
	"testing/synctest"
	"time"
)

// The store's time goes on while the machine is suspended, when the monotonic clock stands still; a good
// entry that comes right after is not refused as one of the future.
func TestStoresTimeGoesOnInSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slept := 3 * time.Hour // before the reading
		var ours time.Time
		c := Clocks{ours: func() time.Time { return ours }, asleep: func() time.Duration { return slept }}
		theirs := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
		c.note(storeOfLogs, theirs, time.Now())
		time.Sleep(time.Second)
		slept += 2 * time.Hour
		want := theirs.Add(2*time.Hour + time.Second)
		if now, ok := c.now(storeOfLogs); !ok || !now.Equal(want) {
			t.Errorf("after two hours of suspension it is %s; want %s", now, want)
		}
		if ours = want; c.Ready() != nil {
			t.Errorf("a clock that is right: %v", c.Ready())
		}
		c.note(storeOfLogs, want, time.Now())
		if now, _ := c.now(storeOfLogs); !now.Equal(want) {
			t.Errorf("after a new reading it is %s; want %s", now, want)
		}
	})
	if timeAsleep() < 0 {
		t.Error("the machine was suspended for less than nothing")
	}
}
