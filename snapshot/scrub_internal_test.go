package snapshot

import (
	"testing"
	"time"
)

// Whoever has the lease of comparing may have died a moment after taking it.
func TestTheDeadDoNotDelayMending(t *testing.T) {
	const compare = time.Second
	if most := leaseScrubTTL + scrubOften + scrubOften/8 + compare; most > 10*time.Second {
		t.Errorf("damage is mended within %s, promised are 10 s", most)
	}
}
