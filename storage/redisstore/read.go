package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	// maxLoads bounds how often Load starts again because of a Replace, and
	// maxCorrupt because things do not add up.
	maxLoads   = 10
	maxCorrupt = 2

	// scanCount is how many documents Redis collects at a time.
	scanCount = 500

	// replayCount is how many entries of the stream are read at a time.
	replayCount = 32

	// slice is the longest that a command of Next blocks. A Next whose context
	// ends returns at once; its command keeps a connection until the slice is over.
	slice = 500 * time.Millisecond
)

// Load implements [snapshot.Source].
//
// It scans the hashes while others publish, and so sees some documents before
// and some after a publish. What was published between its start and its end
// is in the stream, so it replays that: every document that changed meanwhile
// ends as it was at the end.
func (p *Publisher) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	for loads, corrupt := 1, 0; ; loads++ {
		s, err := p.load(ctx)
		if errors.Is(err, snapshot.ErrCorrupt) {
			corrupt++
		}
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, snapshot.ErrGap) && loads < maxLoads,
			errors.Is(err, snapshot.ErrCorrupt) && corrupt < maxCorrupt:
			p.log.DebugContext(ctx, "loading the snapshot again", "error", err)
		default:
			return nil, wrap("load", err)
		}
	}
}

// load is one attempt. ErrGap says that a publish came between which cannot be
// replayed.
func (p *Publisher) load(ctx context.Context) (*snapshot.Snapshot, error) {
	start, err := p.readHead(ctx)
	if err != nil {
		return nil, err
	}
	docs := make(map[catalog.Kind]map[string]string, len(p.kinds))
	for _, k := range p.kinds {
		if docs[k], err = p.scan(ctx, k, start.Counts[k]); err != nil {
			return nil, err
		}
	}
	end, err := p.readHead(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.replay(ctx, docs, start.Position, end.Position); err != nil {
		return nil, err
	}

	s := &snapshot.Snapshot{Head: end}
	for _, k := range p.kinds {
		if len(docs[k]) != end.Counts[k] {
			return nil, fmt.Errorf("%d %s, the head says %d: %w", len(docs[k]), k, end.Counts[k], snapshot.ErrCorrupt)
		}
	}
	for k, byKey := range docs {
		for key, doc := range byKey {
			s.Docs = append(s.Docs, snapshot.Document{Kind: k, Key: key, Doc: []byte(doc)})
		}
	}
	return s, nil
}

func (p *Publisher) readHead(ctx context.Context) (snapshot.Head, error) {
	fields, err := p.client.HGetAll(ctx, p.key("head")).Result()
	if err != nil {
		return snapshot.Head{}, err
	}
	return parseHead(fields)
}

// scan reads a hash in pieces, so that none of them keeps Redis for long. It
// may see a document twice.
func (p *Publisher) scan(ctx context.Context, k catalog.Kind, size int) (map[string]string, error) {
	docs := make(map[string]string, size)
	for cursor := uint64(0); ; {
		pairs, next, err := p.client.HScan(ctx, p.hash(k), cursor, "", scanCount).Result()
		if err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			docs[pairs[i]] = pairs[i+1]
		}
		if next == 0 {
			return docs, nil
		}
		cursor = next
	}
}

// replay applies what was published after start, up to and with end.
func (p *Publisher) replay(ctx context.Context, docs map[catalog.Kind]map[string]string, start, end snapshot.Position) error {
	for at := start; at != end; {
		entries, err := p.readStream(ctx, at, replayCount, -1)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("after %s: %w", at, snapshot.ErrGap)
		}
		for _, e := range entries {
			d, err := follow(e, at)
			if err != nil {
				return err
			}
			for _, c := range d.Changes {
				if c.Doc == nil {
					delete(docs[c.Kind], c.Key)
				} else if docs[c.Kind] != nil { // a kind that we do not know stays out
					docs[c.Kind][c.Key] = string(c.Doc)
				}
			}
			if at = d.Head.Position; at == end {
				return nil
			}
		}
	}
	return nil
}

// Next implements [snapshot.Source]. Any number of calls that wait at the same
// position share one connection.
func (p *Publisher) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	if after.Epoch < 0 || after.Revision < 0 {
		return snapshot.Delta{}, wrap("next", fmt.Errorf("after %s: %w", after, snapshot.ErrGap))
	}
	for {
		if err := ctx.Err(); err != nil {
			return snapshot.Delta{}, err
		}
		arrived := p.waits.DoChan(after.String(), func() (any, error) {
			return p.await(context.WithoutCancel(ctx), after)
		})
		select {
		case <-ctx.Done():
		case r := <-arrived:
			if r.Err != nil {
				return snapshot.Delta{}, wrap("next", r.Err)
			}
			if entries := r.Val.([]redis.XMessage); len(entries) > 0 {
				d, err := follow(entries[0], after)
				if err != nil {
					return snapshot.Delta{}, wrap("next", err)
				}
				return d, nil
			}
		}
	}
}

// await returns the entry after a position, or none when a slice of time went
// by without.
func (p *Publisher) await(ctx context.Context, after snapshot.Position) ([]redis.XMessage, error) {
	pipe := p.client.Pipeline()
	head := pipe.HMGet(ctx, p.key("head"), "epoch", "revision")
	stream := pipe.XRead(ctx, p.xread(after, 1, -1))
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	if entries := messages(stream.Val()); len(entries) > 0 {
		return entries, nil
	}
	// The head was read first: had it moved on from after since, the entry would be there.
	if at := positionOf(head.Val()); at != after {
		return nil, fmt.Errorf("after %s, the head is %s: %w", after, at, snapshot.ErrGap)
	}
	return p.readStream(ctx, after, 1, slice)
}

// position returns where the head is; a head that is missing or makes no sense
// is at the zero position, as in lib.lua.
func (p *Publisher) position(ctx context.Context) (snapshot.Position, error) {
	values, err := p.client.HMGet(ctx, p.key("head"), "epoch", "revision").Result()
	if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return snapshot.Position{}, err
	}
	return positionOf(values), nil
}

func positionOf(values []any) snapshot.Position {
	if len(values) != 2 {
		return snapshot.Position{}
	}
	epoch, _ := values[0].(string)
	revision, _ := values[1].(string)
	if strings.ContainsAny(epoch+revision, "+-") {
		return snapshot.Position{}
	}
	at, err := snapshot.ParsePosition(epoch + "-" + revision)
	if err != nil {
		return snapshot.Position{}
	}
	return at
}

// readStream returns the entries after a position, count at most. It returns
// none when there are none within block; it does not wait when block is negative.
func (p *Publisher) readStream(ctx context.Context, after snapshot.Position, count int64, block time.Duration) ([]redis.XMessage, error) {
	streams, err := p.client.XRead(ctx, p.xread(after, count, block)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	return messages(streams), nil
}

func (p *Publisher) xread(after snapshot.Position, count int64, block time.Duration) *redis.XReadArgs {
	return &redis.XReadArgs{Streams: []string{p.key("changes"), after.String()}, Count: count, Block: block}
}

func messages(streams []redis.XStream) []redis.XMessage {
	if len(streams) == 0 {
		return nil
	}
	return streams[0].Messages
}

// follow reads an entry and returns ErrGap unless it leads on from a position.
func follow(e redis.XMessage, from snapshot.Position) (snapshot.Delta, error) {
	d, err := parseEntry(e.Values)
	if err != nil {
		return snapshot.Delta{}, err
	}
	if d.Reset || d.From != from {
		return snapshot.Delta{}, fmt.Errorf("entry %s does not lead on from %s: %w", e.ID, from, snapshot.ErrGap)
	}
	return d, nil
}
