package snapshot

// Phase is what a [Watcher] is doing. What it serves meanwhile, and whether
// that is outdated, is another matter.
type Phase string

// The phases of a Watcher.
const (
	PhaseStarting    Phase = "starting"    // it has not run yet, or reads its file
	PhaseRestored    Phase = "restored"    // it serves what its file holds, and asks the source for the first time
	PhaseLoading     Phase = "loading"     // it loads the whole
	PhaseUnpublished Phase = "unpublished" // nothing was ever published, it waits for that
	PhaseFollowing   Phase = "following"   // it waits for deltas and applies them
	PhaseRereading   Phase = "rereading"   // a delta did not fit, it reads it once more
	PhaseWaiting     Phase = "waiting"     // the source is away, or what it has leads nowhere; it tries again soon
	PhaseRefusing    Phase = "refusing"    // what is published is not taken; it looks again soon
	PhaseStopped     Phase = "stopped"     // Run has ended
)

// event is how what a phase does has ended.
type event string

const (
	eventRestored    event = "restored"    // the file is good
	eventBlank       event = "blank"       // there is nothing to serve from
	eventHeard       event = "heard"       // the source answers
	eventLoaded      event = "loaded"      // the whole is served
	eventUnchanged   event = "unchanged"   // what is published was served before: what seemed to follow it leads nowhere
	eventApplied     event = "applied"     // a delta is served
	eventMisfit      event = "misfit"      // a delta does not lead to what its head says
	eventGap         event = "gap"         // the next delta is not there any more
	eventUntold      event = "untold"      // the head is elsewhere, and nobody has told of a delta
	eventMoved       event = "moved"       // the head is elsewhere, and no delta comes
	eventUnpublished event = "unpublished" // nothing was published, and nothing is served
	eventMissing     event = "missing"     // nothing is published, though something is served
	eventUnreachable event = "unreachable" // the source gives no answer
	eventRefused     event = "refused"     // what is published is not taken
	eventRetry       event = "retry"       // the pause is over, there is a view to go on from
	eventRetryBlank  event = "retry blank" // the pause is over, and there is none
	eventStop        event = "stop"        // the caller's context has ended
)

// transition says in which phase a watcher goes on.
type transition struct {
	from Phase
	on   event
	to   Phase
}

// transitions are all that there are. From every phase eventStop leads to
// PhaseStopped besides.
func transitions() []transition {
	return []transition{
		{PhaseStarting, eventRestored, PhaseRestored},
		{PhaseStarting, eventBlank, PhaseLoading},

		{PhaseRestored, eventHeard, PhaseFollowing},
		{PhaseRestored, eventMissing, PhaseWaiting},
		{PhaseRestored, eventUnreachable, PhaseWaiting},
		{PhaseRestored, eventRefused, PhaseRefusing},

		{PhaseLoading, eventLoaded, PhaseFollowing},
		{PhaseLoading, eventApplied, PhaseFollowing}, // a delta came before it began
		{PhaseLoading, eventUnchanged, PhaseWaiting},
		{PhaseLoading, eventGap, PhaseWaiting},
		{PhaseLoading, eventUnpublished, PhaseUnpublished},
		{PhaseLoading, eventMissing, PhaseWaiting},
		{PhaseLoading, eventUnreachable, PhaseWaiting},
		{PhaseLoading, eventRefused, PhaseRefusing},

		{PhaseUnpublished, eventGap, PhaseLoading}, // something was published
		{PhaseUnpublished, eventMoved, PhaseLoading},
		{PhaseUnpublished, eventUnpublished, PhaseWaiting},
		{PhaseUnpublished, eventUnreachable, PhaseWaiting},
		{PhaseUnpublished, eventRefused, PhaseRefusing},

		{PhaseFollowing, eventApplied, PhaseFollowing},
		{PhaseFollowing, eventUntold, PhaseFollowing}, // it asks anew
		{PhaseFollowing, eventMisfit, PhaseRereading},
		{PhaseFollowing, eventGap, PhaseLoading},
		{PhaseFollowing, eventMoved, PhaseLoading},
		{PhaseFollowing, eventMissing, PhaseWaiting},
		{PhaseFollowing, eventUnreachable, PhaseWaiting},
		{PhaseFollowing, eventRefused, PhaseRefusing},

		{PhaseRereading, eventApplied, PhaseFollowing},
		{PhaseRereading, eventUntold, PhaseLoading},
		{PhaseRereading, eventMisfit, PhaseLoading},
		{PhaseRereading, eventGap, PhaseLoading},
		{PhaseRereading, eventMoved, PhaseLoading},
		{PhaseRereading, eventMissing, PhaseWaiting},
		{PhaseRereading, eventUnreachable, PhaseWaiting},
		{PhaseRereading, eventRefused, PhaseRefusing},

		{PhaseWaiting, eventRetry, PhaseFollowing},
		{PhaseWaiting, eventRetryBlank, PhaseLoading},

		// What is refused may be put right under any position, so the head is looked at again.
		{PhaseRefusing, eventRetry, PhaseLoading},
		{PhaseRefusing, eventRetryBlank, PhaseLoading},
	}
}

// phases is the table by phase and event.
type phases map[Phase]map[event]Phase

func newPhases() phases {
	table := phases{}
	for _, t := range transitions() {
		if table[t.from] == nil {
			table[t.from] = map[event]Phase{eventStop: PhaseStopped}
		}
		table[t.from][t.on] = t.to
	}
	return table
}

// next returns the phase in which to go on. An event that the table does not
// have in this phase is waited out.
func (p phases) next(from Phase, on event) Phase {
	if to, ok := p[from][on]; ok {
		return to
	}
	return PhaseWaiting
}
