package memstore

import (
	"testing"
	"time"
)

// MaxDeltas is the number of deltas after which the oldest is gone.
const MaxDeltas = maxDeltas

// Age moves the clock, so that every report so far looks older.
func (p *Publisher) Age(_ testing.TB, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now
	p.now = func() time.Time { return now().Add(by) }
}
