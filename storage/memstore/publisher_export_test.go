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

// Interrupt leaves something behind that a publish that was not finished leaves.
func (p *Publisher) Interrupt(testing.TB) {
	p.Tamper(func(c *Contents) { c.Stray = "an unfinished publish" })
}
