package logbuf

import "testing"

// A segment goes from phase to phase as the table says, and never comes back from where it is gone.
func TestPhases(t *testing.T) {
	all := []phase{unscanned, readable, drained, gone}
	allowed := map[[2]phase]bool{
		{unscanned, readable}: true, {unscanned, gone}: true, {readable, drained}: true, {readable, gone}: true,
		{drained, readable}: true, {drained, gone}: true,
	}
	for _, before := range all {
		for _, after := range all {
			if got := after.follows(before); got != allowed[[2]phase{before, after}] {
				t.Errorf("from %d to %d: %t", before, after, got)
			}
		}
	}
}
