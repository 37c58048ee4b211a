package memstore

import (
	"container/list"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/snapshot"
)

// How many nodes are alive is what a look at each of them says, whoever comes, comes again, leaves or is forgotten.
func TestAlive(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := nodes{byID: map[string]*list.Element{}}
		now := time.Unix(1_800_000_000, 0)
		for range rapid.IntRange(1, 200).Draw(r, "steps") {
			pauses := []time.Duration{0, time.Second, snapshot.Liveness, snapshot.Remembered / 4}
			now = now.Add(rapid.SampledFrom(pauses).Draw(r, "pause"))
			n.forget(now)
			id := strconv.Itoa(rapid.IntRange(0, 9).Draw(r, "node"))
			switch rapid.IntRange(0, 4).Draw(r, "step") {
			case 0:
				n.put(&report{node: snapshot.Node{ID: id, Leaving: true}, came: now})
			case 1: // only a look
			default:
				n.put(&report{node: snapshot.Node{ID: id}, came: now})
			}
			if rapid.Bool().Draw(r, "asked") {
				continue
			}
			want := 0
			for _, e := range n.byID {
				if now.Sub(e.Value.(*report).came) <= snapshot.Liveness {
					want++
				}
			}
			if got := n.alive(now); got != want {
				r.Fatalf("%d of %d nodes are alive, want %d", got, len(n.byID), want)
			}
		}
	})
}
