package logbuf

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A HealthKeeper is a [Sink] that keeps what the processes note of providers, a small table that all
// of them read, so that they come to the same judgement.
type HealthKeeper interface {
	// KeepHealth stores notes, all or none. A note replaces the one that the same writer has stored
	// for the same slot, if there is one. Notes of slots that begin before the given time are
	// deleted, whoever wrote them. A context that ends MUST end the call.
	KeepHealth(ctx context.Context, before time.Time, notes ...HealthNote) error

	// HealthNotes returns the notes of all writers of the slots that begin at a time or later, in
	// no particular order. What it returns shares no memory with the store.
	HealthNotes(ctx context.Context, since time.Time) ([]HealthNote, error)
}

// A HealthNote is what a process noted of one slot of time.
type HealthNote struct {
	Writer uuid.UUID // of the process, made at its start
	Slot   time.Time // when the slot begins
	Body   []byte    // at most MaxHealthNote bytes, which only this package reads
}

const (
	// HealthSlot is how long a slot is, unless a HealthCounter says otherwise.
	HealthSlot = 10 * time.Second

	// HealthSpan is how far back attempts count.
	HealthSpan = 2 * time.Minute

	// MaxHealthNote is how many bytes a note has at most.
	MaxHealthNote = 4 << 20

	healthAhead     = 10 * time.Second // by how much an entry's time may be ahead of ours
	maxUpstreams    = 5000             // of a slot
	maxPassedOn     = 1000             // of them, that are listed by a pattern alone
	maxHealthModel  = 256              // bytes of the name of an upstream model; longer ones do not count
	maxReporterName = 64               // bytes of a balancer's name that tell it from others
)

// A HealthCounter counts the attempts of entries by the slots that their times lie in. The zero
// value is ready. It is safe for concurrent use.
type HealthCounter struct {
	// Slot is how long a slot is; slots begin at its multiples since 1970. Defaults to HealthSlot. It
	// must not change once the counter counts.
	Slot time.Duration

	// Lists reports whether an upstream is in the catalog, and whether by its name or only by a
	// pattern. Upstreams that are not in the catalog do not count. Of those that only a pattern
	// covers, at most 1,000 count in a slot, because users can invent such names, and there must be
	// room for the others. By default all are in the catalog by name. Lists is called while the
	// counter is locked, so it must not call the counter.
	Lists func(Upstream) (listed, byName bool)

	mu      sync.Mutex
	slots   map[int64]*healthSlot // by when they begin, unix nanoseconds
	dropped int64
}

type healthSlot struct {
	tallies  map[Upstream]*Tally
	passedOn int  // how many of them are listed by a pattern alone
	changed  bool // since it was noted
}

// Count counts the attempts of entries. Those that are more than two minutes old do not count, nor
// those of the future.
func (c *HealthCounter) Count(now time.Time, entries ...Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, until := now.Add(-HealthSpan), now.Add(healthAhead)
	for i := range entries {
		e := &entries[i]
		if e.ProviderID == 0 && len(e.Failures) == 0 || e.Time.Before(since) || e.Time.After(until) {
			continue
		}
		for a := range e.attempts() {
			c.count(e, &a)
		}
	}
}

func (c *HealthCounter) slot() time.Duration { return cmp.Or(max(c.Slot, 0), HealthSlot) }

// count counts one attempt. It needs the lock.
func (c *HealthCounter) count(e *Entry, a *attempt) {
	if len(a.Model) > maxHealthModel {
		c.dropped++
		return
	}
	listed, byName := true, true
	if c.Lists != nil {
		listed, byName = c.Lists(a.Upstream)
	}
	if !listed {
		return
	}
	at := e.Time.Truncate(c.slot()).UnixNano()
	s := c.slots[at]
	if s == nil {
		if c.slots == nil {
			c.slots = map[int64]*healthSlot{}
		}
		s = &healthSlot{tallies: map[Upstream]*Tally{}}
		c.slots[at] = s
	}
	t := s.tallies[a.Upstream]
	if t == nil {
		if len(s.tallies) >= maxUpstreams || !byName && s.passedOn >= maxPassedOn {
			c.dropped++
			return
		}
		if !byName {
			s.passedOn++
		}
		t = &Tally{}
		s.tallies[a.Upstream] = t
	}
	s.changed = true
	if a.class == "" {
		t.Succeeded = addCount(t.Succeeded, 1)
		return
	}
	t.fail(a.class, 1)
	if a.class == FailedNetwork || a.class == FailedRate {
		t.report(a.class, e.Balancer[:min(len(e.Balancer), maxReporterName)])
	}
	if a.reset.After(t.Reset) {
		t.Reset = a.reset.UTC().Truncate(time.Millisecond)
	}
}

// Dropped returns how many attempts were not counted, because there were too many different
// upstream models or because their names are too long.
func (c *HealthCounter) Dropped() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// Notes returns notes of the slots that have changed since the call before, and forgets slots that
// are too old. When the notes could not be kept, give them to Again.
func (c *HealthCounter) Notes(writer uuid.UUID, now time.Time) (notes []HealthNote, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := now.Add(-HealthSpan - c.slot()).UnixNano()
	for at, s := range c.slots {
		if at < oldest {
			delete(c.slots, at)
			continue
		}
		if !s.changed {
			continue
		}
		body, err := json.Marshal(s.body())
		if err != nil || len(body) > MaxHealthNote {
			return nil, errors.Join(fmt.Errorf("logbuf: note %d upstream models in %d bytes", len(s.tallies), len(body)), err)
		}
		notes = append(notes, HealthNote{Writer: writer, Slot: time.Unix(0, at).UTC(), Body: body})
	}
	for _, n := range notes {
		c.slots[n.Slot.UnixNano()].changed = false
	}
	slices.SortFunc(notes, func(a, b HealthNote) int { return a.Slot.Compare(b.Slot) })
	return notes, nil
}

// Again makes Notes return the slots of notes once more.
func (c *HealthCounter) Again(notes []HealthNote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range notes {
		if s := c.slots[n.Slot.UnixNano()]; s != nil {
			s.changed = true
		}
	}
}

// A notedTally is an element of a note's body, which is a JSON array of them.
type notedTally struct {
	Upstream
	Tally
}

func (s *healthSlot) body() []notedTally {
	all := make([]notedTally, 0, len(s.tallies))
	for u, t := range s.tallies {
		all = append(all, notedTally{u, *t})
	}
	slices.SortFunc(all, func(a, b notedTally) int {
		return cmp.Or(cmp.Compare(a.ProviderID, b.ProviderID), cmp.Compare(a.Model, b.Model))
	})
	return all
}

// A SlotTally is the tally of an upstream within one slot, of all processes together.
type SlotTally struct {
	Slot time.Time
	Tally
}

// ReadHealthNotes adds up the notes of all writers, by upstream and slot; the slots come in order.
// It sorts the slice of notes in place. Notes that cannot be read, such as those of another
// version, are left out; bad is their number.
func ReadHealthNotes(notes []HealthNote) (tallies map[Upstream][]SlotTally, bad int) {
	slices.SortFunc(notes, func(a, b HealthNote) int { return a.Slot.Compare(b.Slot) })
	tallies = map[Upstream][]SlotTally{}
	for _, n := range notes {
		var body []notedTally
		if len(n.Body) > MaxHealthNote || json.Unmarshal(n.Body, &body) != nil {
			bad++
			continue
		}
		for i := range body {
			t := &body[i]
			of := tallies[t.Upstream]
			if len(of) == 0 || !of[len(of)-1].Slot.Equal(n.Slot) {
				of = append(of, SlotTally{Slot: n.Slot})
			}
			of[len(of)-1].Add(&t.Tally)
			tallies[t.Upstream] = of
		}
	}
	return tallies, bad
}
