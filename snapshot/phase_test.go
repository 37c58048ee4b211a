package snapshot

import (
	"slices"
	"testing"
)

// ends are the events with which what a phase does may end, besides eventStop.
func ends() map[Phase][]event {
	source := []event{eventMissing, eventUnreachable, eventRefused}
	following := append(slices.Clone(source), eventApplied, eventUntold, eventMisfit, eventGap, eventMoved)
	return map[Phase][]event{
		PhaseStarting: {eventRestored, eventBlank},
		PhaseRestored: append(slices.Clone(source), eventHeard),
		PhaseLoading: append(slices.Clone(source), eventLoaded, eventApplied, eventUnchanged, eventGap,
			eventUnpublished),
		PhaseUnpublished: {eventGap, eventMoved, eventUnpublished, eventUnreachable, eventRefused},
		PhaseFollowing:   following,
		PhaseRereading:   following,
		PhaseWaiting:     {eventRetry, eventRetryBlank},
		PhaseRefusing:    {eventRetry, eventRetryBlank},
	}
}

// Each way in which a phase may end leads somewhere, and nothing else does.
func TestTransitionsAreComplete(t *testing.T) {
	seen := map[Phase][]event{}
	for _, tr := range transitions() {
		if slices.Contains(seen[tr.from], tr.on) {
			t.Errorf("%s on %s is there twice", tr.from, tr.on)
		}
		seen[tr.from] = append(seen[tr.from], tr.on)
	}
	for phase, events := range ends() {
		for _, on := range events {
			if !slices.Contains(seen[phase], on) {
				t.Errorf("%s does not say what follows on %s", phase, on)
			}
		}
		for _, on := range seen[phase] {
			if !slices.Contains(events, on) {
				t.Errorf("%s never ends with %s", phase, on)
			}
		}
		delete(seen, phase)
	}
	for phase := range seen {
		t.Errorf("%s does nothing, but ends", phase)
	}
}

// From every phase there is a way to PhaseFollowing and to PhaseStopped, and
// to every phase there is one from PhaseStarting.
func TestPhasesHaveNoDeadEnds(t *testing.T) {
	table := newPhases()
	reach := func(from Phase) map[Phase]bool {
		found, todo := map[Phase]bool{from: true}, []Phase{from}
		for len(todo) > 0 {
			p := todo[0]
			todo = todo[1:]
			for _, to := range table[p] {
				if !found[to] {
					found[to] = true
					todo = append(todo, to)
				}
			}
		}
		return found
	}
	start := reach(PhaseStarting)
	for phase := range ends() {
		if !start[phase] {
			t.Errorf("no way leads to %s", phase)
		}
		if !reach(phase)[PhaseFollowing] {
			t.Errorf("no way leads from %s to %s", phase, PhaseFollowing)
		}
		if table.next(phase, eventStop) != PhaseStopped {
			t.Errorf("%s does not stop", phase)
		}
	}
	if len(table[PhaseStopped]) > 0 {
		t.Errorf("%s goes on", PhaseStopped)
	}
	// Only what was refused or misfit is looked at again without a pause in between, and never
	// twice: whatever goes wrong for ever ends in a pause.
	for _, tr := range transitions() {
		if tr.from == PhaseRereading && tr.on != eventApplied && tr.to != PhaseLoading && tr.to != PhaseWaiting &&
			tr.to != PhaseRefusing {
			t.Errorf("%s goes to %s on %s", tr.from, tr.to, tr.on)
		}
	}
}
