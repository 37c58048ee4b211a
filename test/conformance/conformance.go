// Package conformance tests data planes in any language: it publishes a
// scripted sequence to a Redis, and asks a reader after each step what it serves.
//
// The reader is a program. It gets EZ_REDIS_ADDR, EZ_REDIS_PREFIX and
// EZ_SYNC_KEYS, follows what is published there, and answers questions: one
// JSON object a line on standard input, one a line on standard output.
//
//	{"op":"position"}                         {"position":"1767225600-7","digest":"<hex>"}, both null before there is a view
//	{"op":"get","kind":"keys","key":"<hash>"} {"doc":"<the exact bytes>"}, null when there is none
//
// It reports to the hash of nodes, as the contract says, at least every 5 s.
package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// SyncKeys are the sync keys of the signed runs, in the form of EZ_SYNC_KEYS.
const SyncKeys = "c2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=,c1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// patience is how long a reader may take for anything.
const patience = 10 * time.Second

// A Reader is the program under test.
type Reader interface {
	// Position returns what the reader serves; the zero position is nothing.
	Position() (snapshot.Position, string, error)
	// Get returns a document, nil when there is none.
	Get(kind catalog.Kind, key string) ([]byte, error)
	// Pause stops the reader where it is, and Resume lets it go on.
	Pause() error
	Resume() error
	Stop() error
}

// A Start starts a reader on a prefix of the Redis.
type Start func(ctx context.Context, addr, prefix, syncKeys string) (Reader, error)

// script is one run: a catalog, what publishes it, and the reader.
type script struct {
	ctx    context.Context
	rdb    redis.UniversalClient
	prefix string
	pub    *redisstore.Publisher
	tables *catalog.Tables
	relay  *snapshot.Relay
	keys   *snapshot.Keys
	reader Reader
	seen   map[name][]byte // all that was ever published, as the reader last had it
}

// name is a document's.
type name struct {
	kind catalog.Kind
	key  string
}

// steps build on each other.
var steps = []struct {
	name string
	run  func(*script) error
}{
	{"nothing is published: there is no view", (*script).nothing},
	{"the first publish is served whole", (*script).first},
	{"each change is followed", (*script).changes},
	{"fields that are not known are ignored", (*script).future},
	{"what is large comes as a whole", (*script).large},
	{"a re-synchronisation is followed", (*script).resync},
	{"a new epoch is followed", (*script).epoch},
	{"a gap in the stream is noticed", (*script).gap},
	{"changes during a load are not lost", (*script).moving},
	{"a wrong digest in the stream is noticed", (*script).wrongDelta},
	{"what is damaged is refused, and reported", (*script).damaged},
	{"it never goes back", (*script).back},
	{"an empty Redis is no empty catalog", (*script).flushed},
	{"an empty catalog that nobody forced is refused", (*script).empty},
	{"it goes on reporting", (*script).reports},
}

// Run runs the script once, and calls tell after each step with what was wrong. It
// ends at the first failure, because steps build on each other, and returns it.
func Run(ctx context.Context, rdb redis.UniversalClient, addr, syncKeys string, start Start, tell func(step string, err error)) (err error) {
	s := &script{ctx: ctx, rdb: rdb, prefix: "conformance-" + strings.ToLower(rand.Text()), seen: map[name][]byte{}}
	if syncKeys != "none" {
		if s.keys, err = snapshot.ParseKeys(syncKeys); err != nil {
			return err
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	s.pub = redisstore.New(rdb, &redisstore.Options{Prefix: s.prefix, Logger: quiet})
	s.tables = catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	s.relay = snapshot.NewRelay(s.tables, s.pub, &snapshot.RelayOptions{Keys: s.keys, Logger: quiet})
	defer s.clear() //nolint:errcheck // at worst something is left in Redis

	if s.reader, err = start(ctx, addr, s.prefix, syncKeys); err != nil {
		return err
	}
	defer func() {
		if stopErr := s.reader.Stop(); err == nil {
			err = stopErr
		}
	}()
	for _, step := range steps {
		err := step.run(s)
		tell(step.name, err)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (s *script) key(name string) string { return "{" + s.prefix + "}:" + name }

// clear removes everything that the run has published.
func (s *script) clear() error {
	keys, err := s.rdb.Keys(context.WithoutCancel(s.ctx), s.key("*")).Result()
	if err != nil || len(keys) == 0 {
		return err
	}
	return s.rdb.Unlink(context.WithoutCancel(s.ctx), keys...).Err()
}

// until waits until the reader does what holds asks for; holds returns what is wrong.
func (s *script) until(holds func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil || s.ctx.Err() != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s: %w", patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stays checks that the reader goes on serving exactly a snapshot for a while.
func (s *script) stays(want *snapshot.Snapshot) error {
	for range 6 {
		time.Sleep(250 * time.Millisecond)
		if err := s.at(want.Head); err != nil {
			return err
		}
	}
	return s.same(want)
}

// at checks where the reader is.
func (s *script) at(want snapshot.Head) error {
	at, digest, err := s.reader.Position()
	switch {
	case err != nil:
		return err
	case at != want.Position:
		return fmt.Errorf("the reader is at %s, want %s", at, want.Position)
	case digest != want.Digest.String():
		return fmt.Errorf("the reader's digest at %s is %s, want %s", at, digest, want.Digest)
	}
	return nil
}

// same compares documents: all that have changed since it last did, and some others
// that were ever published.
func (s *script) same(want *snapshot.Snapshot) error {
	now := map[name][]byte{}
	for _, d := range want.Docs {
		n := name{d.Kind, d.Key}
		if now[n] = d.Doc; !bytes.Equal(s.seen[n], d.Doc) {
			s.seen[n] = nil // to be asked for
		}
	}
	others := 100
	for n, last := range s.seen { // in any order
		if bytes.Equal(last, now[n]) {
			if others == 0 {
				continue
			}
			others--
		}
		got, err := s.reader.Get(n.kind, n.key)
		switch {
		case err != nil:
			return err
		case now[n] == nil && got != nil:
			return fmt.Errorf("%s %s is served, though it is not published", n.kind, n.key)
		case !bytes.Equal(got, now[n]):
			return fmt.Errorf("%s %s is served as %q, want %q", n.kind, n.key, got, now[n])
		}
		s.seen[n] = now[n]
	}
	return nil
}

// publish brings Redis up to date, and waits until the reader serves just that.
func (s *script) publish() error {
	if _, err := s.relay.Sync(s.ctx); err != nil {
		return err
	}
	return s.follows()
}

// follows waits until the reader serves what is published now.
func (s *script) follows() error {
	want, err := s.pub.Load(s.ctx)
	if err != nil {
		return err
	}
	if err := s.until(func() error { return s.at(want.Head) }); err != nil {
		return err
	}
	return s.same(want)
}
