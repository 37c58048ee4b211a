package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// stagingTTL is when the staging hashes of a dead process are gone. A
// living one renews it four times as often.
const stagingTTL = 2 * time.Minute

// A whole takes longer to publish than a delta, so where others publish all the time it could be overtaken for
// ever. After maxOvertaken times it puts up a fence, for as long as fenceTTL at most, that keeps others
// from beginning a delta meanwhile.
const (
	maxOvertaken = 3
	fenceTTL     = snapshot.TakeoverAfter
)

// staging is a whole that is being published: hashes beside those that are live.
type staging struct {
	p     *Publisher
	id    string
	stop  func() // ends what keeps the hashes alive
	ended bool   // published or discarded

	overtaken int // times

	mu    sync.Mutex
	kinds map[catalog.Kind]bool // that have a hash
}

// Stage implements [snapshot.Publisher].
func (p *Publisher) Stage(ctx context.Context) (snapshot.Staging, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &staging{p: p, id: rand.Text(), kinds: make(map[catalog.Kind]bool)}
	alive, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.keepAlive(alive)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	return s, nil
}

// keepAlive renews the time to live until ctx ends. That it fails once does no harm,
// and Publish counts what is there.
func (s *staging) keepAlive(ctx context.Context) {
	ticker := time.NewTicker(s.p.stagingTTL / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		_, err := s.p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, key := range s.hashes() {
				pipe.PExpire(ctx, key, s.p.stagingTTL)
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			s.p.log.WarnContext(ctx, "staged documents could not be kept alive", "error", err)
		}
	}
}

// hash returns the key of a kind's staging hash, and name another free one.
func (s *staging) hash(k catalog.Kind) string { return s.name("staging", k) }

func (s *staging) name(what string, k catalog.Kind) string {
	return s.p.key(what + ":" + s.id + ":" + string(k))
}

// hashes returns the keys of all staging hashes that there are.
func (s *staging) hashes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.kinds {
		keys = append(keys, s.hash(k))
	}
	return keys
}

// Add implements [snapshot.Staging].
func (s *staging) Add(ctx context.Context, changes []snapshot.Change) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := snapshot.CheckChanges(changes); err != nil {
		return wrap("stage", err)
	}
	for _, part := range snapshot.Parts(changes) {
		if err := s.send(ctx, part); err != nil {
			return wrap("stage", err)
		}
	}
	return nil
}

// send writes one part in one round trip. A hash gets its time to live together with its documents,
// so that there is never one without.
func (s *staging) send(ctx context.Context, part []snapshot.Change) error {
	if len(part) == 0 {
		return ctx.Err()
	}
	kinds := kindsOf(part, nil)
	s.mu.Lock()
	for _, k := range kinds {
		s.kinds[k] = true
	}
	s.mu.Unlock()
	_, err := s.p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for run := range runs(part) {
			fields := make([]any, 0, 2*len(run))
			for _, c := range run {
				if fields = append(fields, c.Key); c.Doc != nil {
					fields = append(fields, c.Doc)
				}
			}
			if run[0].Doc == nil {
				pipe.Do(ctx, append([]any{"HDEL", s.hash(run[0].Kind)}, fields...)...)
			} else {
				pipe.HSet(ctx, s.hash(run[0].Kind), fields...)
			}
		}
		for _, k := range kinds {
			pipe.PExpire(ctx, s.hash(k), s.p.stagingTTL)
		}
		return nil
	})
	s.p.noteMaster(err)
	if redis.HasErrorPrefix(err, "EXECABORT") { // which does not say why
		if cause := s.p.rights(ctx); cause != nil {
			return cause
		}
	}
	return err
}

// runs cuts changes into neighbours that one HSET or HDEL writes.
func runs(changes []snapshot.Change) func(yield func([]snapshot.Change) bool) {
	return func(yield func([]snapshot.Change) bool) {
		first := 0
		for i := 1; i <= len(changes); i++ {
			if i < len(changes) && changes[i].Kind == changes[first].Kind &&
				(changes[i].Doc == nil) == (changes[first].Doc == nil) {
				continue
			}
			if !yield(changes[first:i]) {
				return
			}
			first = i
		}
	}
}

// Publish implements [snapshot.Staging]. The hashes of kinds that are published and not counted by the
// new head go with the rest.
func (s *staging) Publish(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := head.Publishable(); err != nil {
		return wrap("publish", err)
	}
	kinds := make(map[catalog.Kind]bool)
	published, _ := s.p.head(ctx) // what cannot be read has no kinds; the script compares the head again
	for _, some := range []snapshot.Counts{head.Counts, published.Counts} {
		for k := range some {
			kinds[k] = true
		}
	}
	for _, k := range snapshot.Kinds() {
		kinds[k] = true
	}
	if err := s.swap(ctx, over, head, slices.Sorted(maps.Keys(kinds))); err != nil {
		if errors.Is(err, snapshot.ErrStale) {
			s.putUpFence(ctx)
		}
		return wrap("publish", fmt.Errorf("the whole at %s: %w", head.Position, err))
	}
	s.ended = true
	s.discard(ctx)
	return nil
}

// putUpFence keeps others from publishing for a moment, after some times that they were faster.
func (s *staging) putUpFence(ctx context.Context) {
	if s.overtaken++; s.overtaken < maxOvertaken {
		return
	}
	if err := s.p.client.Set(ctx, s.p.key(keyFence), s.id, fenceTTL).Err(); err != nil {
		s.p.log.DebugContext(ctx, "others could not be kept from publishing", "error", err)
	}
}

// swap makes what is staged live.
func (s *staging) swap(
	ctx context.Context,
	over snapshot.Base,
	head snapshot.Head,
	kinds []catalog.Kind,
) error {
	from, _ := positionOf(over.Epoch, over.Revision)
	e := entry{from: from, to: head.Position, chain: newChain(), part: 1, last: true, reset: true, head: head}
	fields, _, err := e.fields(0)
	if err != nil {
		return err
	}
	keys := s.p.scriptKeys(kinds)
	for _, what := range []string{"staging", "old"} {
		for _, k := range kinds {
			keys = append(keys, s.name(what, k))
		}
	}
	counts := make([]any, len(kinds))
	for i, k := range kinds {
		counts[i] = head.Counts[k]
		if _, counted := head.Counts[k]; !counted && s.kinds[k] { // staged, and nobody's documents
			if err := s.p.client.Unlink(ctx, s.hash(k)).Err(); err != nil {
				return err
			}
		}
	}
	args := []any{
		over.Epoch,
		over.Revision,
		over.Sig,
		entryID(head.Position, closing),
		head.Position.String(),
		e.chain,
	}
	args = appendList(args, fields)
	args = appendList(args, headFields(head))
	args = appendList(args, counts)
	answer, err := s.p.ask(ctx, wholeScript, keys, args)
	if err == nil {
		s.p.hint.sent(ctx, s.p.log, answer)
	}
	return err
}

// Discard implements [snapshot.Staging].
func (s *staging) Discard(ctx context.Context) {
	if !s.ended {
		s.ended = true
		s.discard(ctx)
	}
}

// discard removes what is left, also when ctx has ended.
func (s *staging) discard(ctx context.Context) {
	s.stop()
	keys := s.hashes()
	if s.overtaken >= maxOvertaken {
		keys = append(keys, s.p.key(keyFence))
	}
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.p.client.Unlink(ctx, keys...).Err(); err != nil {
		s.p.log.WarnContext(ctx, "staged documents stay until they expire", "error", err, "after", s.p.stagingTTL)
	}
}

func (s *staging) usable() error {
	if s.ended {
		return wrap("stage", fmt.Errorf("it was published or discarded before: %w", catalog.ErrInvalid))
	}
	return nil
}
