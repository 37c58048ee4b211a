package snapshot

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// Whatever beats come, few wait, none is passed on before its position, and the one furthest behind
// is not lost to others.
func TestWaitingBeats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w waitingBeats
		const reached = 5
		least := catalog.Revision(1 << 40)
		for range rapid.IntRange(1, 20).Draw(t, "beats") {
			r := reached + 1 + catalog.Revision(rapid.IntRange(0, 1000).Draw(t, "ahead"))
			least = min(least, r)
			w.add(Beat{Store: "s", At: time.Unix(1, 0), Position: Position{1, r}})
		}
		w.add(Beat{Store: "another", At: time.Unix(1, 0), Position: Position{1, 1}})
		if len(w) > maxBeatsWaiting {
			t.Fatalf("%d beats wait", len(w))
		}
		if b, n := w.reached(Head{Store: "s", Position: Position{1, reached}}); n != 0 {
			t.Fatalf("%+v was passed on too early", b)
		}
		b, n := w.reached(Head{Store: "s", Position: Position{1, least}})
		if n == 0 || b.Position.Revision != least || b.Store != "s" {
			t.Fatalf("%+v, %d, want one of revision %d", b, n, least)
		}
	})
}
