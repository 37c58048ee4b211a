package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

const (
	// readCount is how many entries of the stream are read at a time.
	readCount = 32

	// maxKept bounds what is kept of an unfinished publish, in bytes of the stream: twice what a publish
	// may have, because JSON writes some characters as several.
	maxKept = 2 * snapshot.MaxChainBytes
)

// assembler puts the parts of the publish together that leads on from a position.
type assembler struct {
	at      snapshot.Position
	chain   string
	parts   int
	size    int
	changes []snapshot.Change
}

// add reports whether it has taken the next entry. What does not lead on, because it is of another publish, a
// part is missing, or it leads to where it begins or back, is passed over.
func (a *assembler) add(e entry) (taken bool) {
	if e.from != a.at || e.reset || !e.to.After(e.from) {
		return false
	}
	if e.chain != a.chain {
		*a = assembler{at: a.at, chain: e.chain}
	}
	if e.part != a.parts+1 || a.size+e.size > maxKept {
		return false
	}
	a.parts++
	a.size += e.size
	a.changes = append(a.changes, e.changes...)
	return true
}

// outlook is what follows a position in the stream.
type outlook struct {
	delta snapshot.Delta
	found bool // there is a delta, and it is whole

	gap  bool // what follows starts later, or is a whole
	open bool // parts of a publish that is not finished follow
}

// trail is what was read of the stream after a position, so that no part is read twice.
type trail struct {
	p      *Publisher
	a      assembler
	first  string // the id of the first entry that was read; "" before
	last   string // and of the last
	strays bool   // something was passed over

	delivered time.Time // when a delta led to where the trail begins; zero when none did

	// published says that the position is that of the head. Then nothing was missed, and what seems to
	// follow a later position is a stray.
	published bool
}

func (p *Publisher) trail(at snapshot.Position) *trail {
	return &trail{p: p, a: assembler{at: at}, last: entryID(at, closing)}
}

// stands reports whether the stream still holds what was read of it first.
func (t *trail) stands(ctx context.Context) (bool, error) {
	entries, err := t.p.readStream(ctx, entryID(t.a.at, closing), 1, -1)
	return err == nil && len(entries) > 0 && entries[0].ID == t.first, err
}

// look reads what follows a position, and does not wait.
func (p *Publisher) look(ctx context.Context, at snapshot.Position) (outlook, error) {
	return p.trail(at).read(ctx, nil)
}

// read reads on, and does not wait. entries are those that are known already.
func (t *trail) read(ctx context.Context, entries []redis.XMessage) (o outlook, err error) {
	for {
		if len(entries) == 0 {
			if entries, err = t.p.readStream(ctx, t.last, readCount, -1); err != nil || len(entries) == 0 {
				o.open = t.a.parts > 0
				return o, err
			}
		}
		for _, m := range entries {
			t.first, t.last = cmp.Or(t.first, m.ID), m.ID
			e, err := parseEntry(m)
			taken := err == nil && t.a.add(e)
			switch {
			case taken && e.last:
				o.found = true
				o.delta = snapshot.Delta{From: t.a.at, Head: e.head, Changes: t.a.changes}
				return o, nil
			case err == nil && (e.reset || e.from.After(t.a.at)) && !t.published:
				o.gap = true
				return o, nil
			case !taken:
				t.strays = true // somebody else's, or damaged: it leads nowhere
			}
		}
		if len(entries) < readCount {
			o.open = t.a.parts > 0
			return o, nil
		}
		entries = nil
	}
}

// wait waits for what comes next, for some time.
func (t *trail) wait(ctx context.Context, block time.Duration) ([]redis.XMessage, error) {
	return t.p.readStream(ctx, t.last, readCount, block)
}

// readStream returns the entries after an id, count at most. It returns none when there are none within block; it
// does not wait when block is negative.
func (p *Publisher) readStream(
	ctx context.Context,
	after string,
	count int64,
	block time.Duration,
) ([]redis.XMessage, error) {
	streams, err := p.client.XRead(ctx, &redis.XReadArgs{
		Streams: []string{p.key(keyChanges), after}, Count: count, Block: block,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE"): // no stream leads nowhere
		return nil, nil
	case err != nil:
		return nil, err
	case len(streams) == 0:
		return nil, nil
	}
	return streams[0].Messages, nil
}

// errGap says that nothing leads on from a position.
func errGap(at snapshot.Position, head snapshot.Position) error {
	return fmt.Errorf("after %s, the head is %s: %w", at, head, snapshot.ErrGap)
}
