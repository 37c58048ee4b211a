package redisstore

import (
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

// add takes the next entry and reports whether it is the last of the publish. What does not lead on, because it
// is of another publish or a part is missing, is passed over.
func (a *assembler) add(e entry) (done bool) {
	if e.from != a.at || e.reset {
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
	return e.last
}

// outlook is what follows a position in the stream.
type outlook struct {
	delta snapshot.Delta
	found bool // there is a delta, and it is whole

	gap    bool   // what follows starts later, or is a whole
	open   bool   // parts of a publish that is not finished follow
	beyond bool   // anything follows
	last   string // the id of the last entry that was looked at
}

// look reads what follows a position, and does not wait. entries are those that are known already.
func (p *Publisher) look(
	ctx context.Context,
	at snapshot.Position,
	entries []redis.XMessage,
) (outlook, error) {
	o := outlook{last: entryID(at, closing)}
	a := assembler{at: at}
	for {
		if len(entries) == 0 {
			var err error
			if entries, err = p.readStream(ctx, o.last, -1); err != nil || len(entries) == 0 {
				return o, err
			}
		}
		for _, m := range entries {
			o.beyond, o.last = true, m.ID
			e, err := parseEntry(m)
			if err != nil {
				continue // somebody else's, or damaged: it leads nowhere
			}
			if a.add(e) {
				o.found = true
				o.delta = snapshot.Delta{From: at, Head: e.head, Changes: a.changes}
				return o, nil
			}
			if o.open = a.parts > 0; e.reset || e.from.After(at) {
				o.gap = true
				return o, nil
			}
		}
		if len(entries) < readCount {
			return o, nil
		}
		entries = nil
	}
}

// readStream returns the entries after an id. It returns none when there are none within block; it does
// not wait when block is negative.
func (p *Publisher) readStream(
	ctx context.Context,
	after string,
	block time.Duration,
) ([]redis.XMessage, error) {
	streams, err := p.client.XRead(ctx, &redis.XReadArgs{
		Streams: []string{p.key(keyChanges), after}, Count: readCount, Block: block,
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
