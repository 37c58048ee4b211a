package snapshot

import "time"

// Liveness is how long a data plane counts as live after its last report.
const Liveness = 15 * time.Second

// NodeState is how a data plane stands to what is published.
type NodeState string

// The states of a [Node].
const (
	NodeApplied NodeState = "applied" // live, and has it
	NodeLagging NodeState = "lagging" // live, and has it not
	NodeLost    NodeState = "lost"    // not heard of for longer than Liveness
)

// State returns how the data plane stands to a position.
func (n Node) State(at Position, now time.Time) NodeState {
	switch {
	case now.Sub(n.SeenAt) > Liveness:
		return NodeLost
	case at.After(n.Position):
		return NodeLagging
	}
	return NodeApplied
}
