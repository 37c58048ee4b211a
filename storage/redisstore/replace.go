package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

const (
	// A batch is what one round trip of staging carries at most. Redis does
	// nothing else meanwhile, so it is small.
	batchDocs  = 500
	batchBytes = 128 << 10

	// stagingTTL is when the staging hashes of a dead process are gone. A
	// living one renews it four times as often.
	stagingTTL = 2 * time.Minute

	// maxCatchUps bounds how often a Replace starts its catch-up anew because
	// others have published meanwhile.
	maxCatchUps = 16
)

// Replace implements [snapshot.Publisher]. It writes beside what is live, in
// small pieces, and swaps.
func (p *Publisher) Replace(ctx context.Context, s *snapshot.Snapshot, catchUp snapshot.CatchUp) error {
	seen, err := p.position(ctx)
	if err != nil {
		return wrap("replace", err)
	}
	if len(s.Kinds) > 0 {
		catchUp = nil
		if seen != s.From {
			return wrap("replace", fmt.Errorf("%v after %s, the head is %s: %w", s.Kinds, s.From, seen, snapshot.ErrStale))
		}
	}
	if !s.Head.Position.After(seen) || s.Head.Position.Revision < 0 {
		return wrap("replace", fmt.Errorf("by %s, the head is %s: %w", s.Head.Position, seen, snapshot.ErrStale))
	}
	staged := p.stage(ctx, s)
	defer staged.discard()
	if err := staged.fill(ctx, s.Docs); err != nil {
		return wrap("replace", err)
	}
	for try := 1; ; try++ {
		if err := staged.catchUp(ctx, catchUp); err != nil {
			return wrap("replace", err)
		}
		// The last try does not insist on where the head is, only on being later.
		expected := seen.String()
		if catchUp != nil && try == maxCatchUps {
			expected = ""
		}
		now, err := staged.swap(ctx, expected)
		if err == nil {
			return nil
		}
		moved, parseErr := snapshot.ParsePosition(now)
		if !errors.Is(err, snapshot.ErrStale) || parseErr != nil || moved == seen || catchUp == nil || try == maxCatchUps {
			return wrap("replace", fmt.Errorf("by %s: %w", staged.head.Position, err))
		}
		seen = moved
	}
}

// staging is a Replace at work: the hashes that will be live.
type staging struct {
	p    *Publisher
	head snapshot.Head
	kept []string // per kind, 1 says that what is live stays
	id   string
	keys []string // of each kind's staging hash
	stop func()
}

// stage starts a staging. It is discarded in the end, also after a swap.
func (p *Publisher) stage(ctx context.Context, s *snapshot.Snapshot) *staging {
	st := &staging{p: p, id: rand.Text()}
	st.setHead(s.Head)
	for _, k := range p.kinds {
		st.kept = append(st.kept, flag(len(s.Kinds) > 0 && !slices.Contains(s.Kinds, k)))
	}
	st.keys = st.names("staging")
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		st.keepAlive(ctx)
	}()
	st.stop = func() {
		cancel()
		<-done
	}
	return st
}

// keepAlive renews the TTL until ctx ends. That it fails once does no harm,
// and the swap counts what is there.
func (st *staging) keepAlive(ctx context.Context) {
	ticker := time.NewTicker(st.p.stagingTTL / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		_, err := st.p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, key := range st.keys {
				pipe.PExpire(ctx, key, st.p.stagingTTL)
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			st.p.log.WarnContext(ctx, "staged documents could not be kept alive", "error", err)
		}
	}
}

// discard removes what is left, on a failure that is everything.
func (st *staging) discard() {
	st.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := st.p.client.Unlink(ctx, st.keys...).Err(); err != nil {
		st.p.log.WarnContext(ctx, "staged documents stay until they expire", "error", err, "after", st.p.stagingTTL)
	}
}

// setHead keeps a copy: its owner may change the counts before the swap.
func (st *staging) setHead(h snapshot.Head) {
	h.Counts = maps.Clone(h.Counts)
	st.head = h
}

// names returns a key for each kind, free for this Replace.
func (st *staging) names(what string) []string {
	names := make([]string, len(st.p.kinds))
	for i, k := range st.p.kinds {
		names[i] = st.p.key(what + ":" + st.id + ":" + string(k))
	}
	return names
}

// fill stages documents.
func (st *staging) fill(ctx context.Context, docs []snapshot.Document) error {
	b := st.batch()
	for _, d := range docs {
		if err := b.add(ctx, snapshot.Change(d)); err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

// catchUp stages what fn returns until that has no changes; fn may be nil.
func (st *staging) catchUp(ctx context.Context, fn snapshot.CatchUp) error {
	for fn != nil {
		d, err := fn(ctx, st.head.Position)
		switch {
		case err != nil:
			return err
		case d.Head.Position == st.head.Position && len(d.Changes) == 0:
			return nil
		case d.From != st.head.Position || !d.Head.Position.After(d.From):
			return errors.New("the catch-up does not start where it was asked to")
		}
		b := st.batch()
		for _, c := range d.Changes {
			if err := b.add(ctx, c); err != nil {
				return err
			}
		}
		if err := b.flush(ctx); err != nil {
			return err
		}
		st.setHead(d.Head)
		if len(d.Changes) == 0 {
			return nil
		}
	}
	return nil
}

// swap makes what is staged live. With an ErrStale it returns where the head is.
func (st *staging) swap(ctx context.Context, expected string) (string, error) {
	keys := append(st.p.scriptKeys(), st.keys...)
	keys = append(keys, st.names("old")...)
	args := st.p.scriptArgs(expected, st.head, true, []byte("[]"))
	for _, kept := range st.kept {
		args = append(args, kept)
	}
	return st.p.run(ctx, replaceScript, keys, args)
}
