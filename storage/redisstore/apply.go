package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// Apply implements [snapshot.Publisher]. Each part takes one round trip, and sends nothing but its documents.
func (p *Publisher) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	parts, err := d.Parts(over)
	if err != nil {
		return wrap("apply", err)
	}
	chain, before, size := newChain(), "", 0
	for i, changes := range parts {
		e := entry{
			from: d.From, to: d.Head.Position, chain: chain, part: i + 1, last: i == len(parts)-1,
			changes: changes, head: d.Head,
		}
		if before, size, err = p.write(ctx, over, e, before, size); err != nil {
			return wrap(
				"apply",
				fmt.Errorf("part %d of %d from %s to %s: %w", e.part, len(parts), d.From, d.Head.Position, err),
			)
		}
	}
	return nil
}

// write publishes a part. before is the id of the part before, and size that of all before. It returns the
// same for the next part.
func (p *Publisher) write(
	ctx context.Context,
	over snapshot.Base,
	e entry,
	before string,
	size int,
) (string, int, error) {
	fields, added, err := e.fields(size)
	if err != nil {
		return "", 0, err
	}
	id := entryID(e.to, closing)
	if !e.last {
		id = entryID(e.to, e.part-1)
	}
	kinds := kindsOf(e.changes, nil)
	var head []any
	if e.last {
		kinds = kindsOf(e.changes, e.head.Counts)
		head = headFields(e.head)
	}
	takeover := ""
	if before == "" {
		takeover = p.stray.mayGo()
	}
	args := []any{over.Epoch, over.Revision, over.Sig, entryID(e.from, closing), before, takeover,
		id, e.to.String(), e.chain, p.entries, p.bytes}
	args = appendList(args, fields)
	args = appendList(args, head)
	args = appendList(args, countsOf(kinds, e.head.Counts))
	args = appendChanges(args, kinds, e.changes)
	answer, err := p.ask(ctx, partScript, p.scriptKeys(kinds), args)
	if err != nil {
		p.stray.met(err, answer, before)
		return "", 0, err
	}
	p.stray.cleared(ctx, p, takeover)
	if e.last {
		p.hint.sent(ctx, p.log, answer)
	}
	return id, size + added, nil
}

// Repair implements [snapshot.Publisher]. Each 500 documents take one round trip.
func (p *Publisher) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	if err := snapshot.CheckRepairs(changes); err != nil {
		return wrap("repair", err)
	}
	at, ok := positionOf(over.Epoch, over.Revision)
	if !ok {
		return wrap("repair", fmt.Errorf("there is no head that could be built on: %w", snapshot.ErrStale))
	}
	for _, part := range snapshot.Parts(changes) {
		kinds := kindsOf(part, nil)
		takeover := p.stray.mayGo()
		args := []any{over.Epoch, over.Revision, over.Sig, entryID(at, closing), takeover}
		args = appendChanges(args, kinds, part)
		answer, err := p.ask(ctx, repairScript, p.scriptKeys(kinds), args)
		if err != nil {
			p.stray.met(err, answer, "")
			return wrap("repair", fmt.Errorf("at %s: %w", at, err))
		}
		p.stray.cleared(ctx, p, takeover)
	}
	return nil
}

// scriptKeys returns the KEYS that the scripts part and repair describe.
func (p *Publisher) scriptKeys(kinds []catalog.Kind) []string {
	keys := p.keys(keyHead, keyChanges, keyProbe, keyFence)
	for _, k := range kinds {
		keys = append(keys, p.hash(k))
	}
	return keys
}

// kindsOf returns the kinds that are changed or counted, sorted.
func kindsOf(changes []snapshot.Change, counts snapshot.Counts) []catalog.Kind {
	kinds := make(map[catalog.Kind]bool)
	for k := range counts {
		kinds[k] = true
	}
	for _, c := range changes {
		kinds[c.Kind] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// countsOf returns what a head says of each kind, "" where it says nothing.
func countsOf(kinds []catalog.Kind, counts snapshot.Counts) []any {
	list := make([]any, len(kinds))
	for i, k := range kinds {
		list[i] = ""
		if n, counted := counts[k]; counted {
			list[i] = n
		}
	}
	return list
}

// appendList adds a list as the scripts read it: its length first.
func appendList(args, list []any) []any { return append(append(args, len(list)), list...) }

// appendChanges adds the four arguments of each document.
func appendChanges(args []any, kinds []catalog.Kind, changes []snapshot.Change) []any {
	number := make(map[catalog.Kind]int, len(kinds))
	for i, k := range kinds {
		number[k] = i + 1
	}
	for _, c := range changes {
		if c.Doc == nil {
			args = append(args, number[c.Kind], opDelete, c.Key, "")
		} else {
			args = append(args, number[c.Kind], opPut, c.Key, c.Doc)
		}
	}
	return args
}

// stray is what the stream ends in that is not the head's own entry: a publish that is under way, or was
// given up, or whatever somebody put there.
type stray struct {
	mu    sync.Mutex
	end   string // as the scripts name it
	since time.Time
}

// mayGo returns the end of the stream that may be cleared away, because it was the same for
// [snapshot.TakeoverAfter]; "" when there is none.
func (s *stray) mayGo() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == "" || time.Since(s.since) < snapshot.TakeoverAfter {
		return ""
	}
	return s.end
}

// met notes a failure: what was in the way, or what it leaves behind. before is the id of the part that was written
// last.
func (s *stray) met(err error, answer []string, before string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, snapshot.ErrBusy) && len(answer) > 0:
		if s.end != answer[0] {
			s.end, s.since = answer[0], time.Now()
		}
	case before != "" && !errors.Is(err, snapshot.ErrStale):
		// Nobody goes on with this chain, so nobody has to wait for it.
		s.end, s.since = before, time.Now().Add(-snapshot.TakeoverAfter)
	}
}

// cleared forgets what was in the way.
func (s *stray) cleared(ctx context.Context, p *Publisher, end string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end != "" {
		p.log.WarnContext(ctx, "an unfinished publish was cleared away", "stream", p.key(keyChanges), "end", end)
	}
	s.end = ""
}
