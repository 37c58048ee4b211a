// Package conformance tests data planes in any language: it publishes a
// scripted sequence to a Redis, and asks a reader after each step what it serves.
//
// The reader is a program. It gets EZ_REDIS_ADDR, EZ_REDIS_PREFIX, EZ_SYNC_KEYS and
// EZ_MAX_STALE (seconds), follows what is published there, and answers questions: one
// JSON object a line on standard input, one a line on standard output.
//
//	{"op":"position"}                         {"position":"1767225600-7","digest":{"keys":"<hex>",…},"outdated":false}
//	{"op":"get","kind":"keys","key":"<hash>"} {"doc":"<the exact bytes>"}, null when there is none
//	{"op":"route","key":"<hash>","model":"gpt"} {"status":200,"targets":{"<provider id>":"<upstream model>"}}
//
// Position and digest are null before there is anything to serve; outdated says that it refuses
// everything. It reports as the contract says, at least every 6 s, and takes its report away
// when its input ends.
//
// The reader's connections go through a proxy, so that they can be cut.
package conformance

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// SyncKeys are the sync keys of the signed runs, in the form of EZ_SYNC_KEYS.
const SyncKeys = "c2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=,c1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

const (
	// patience is how long a reader may take for anything.
	patience = 20 * time.Second

	// maxStale is after what time without a beat a reader has to refuse everything.
	maxStale = 15 * time.Second
)

// A Reader is the program under test.
type Reader interface {
	// Position returns what the reader serves; the zero position is nothing.
	Position() (Serving, error)
	// Get returns a document, nil when there is none.
	Get(kind catalog.Kind, key string) ([]byte, error)
	// Route returns what becomes of a request for a model by the key of a token's hash.
	Route(hash, model string) (Route, error)
	// Pause stops the reader where it is, and Resume lets it go on.
	Pause() error
	Resume() error
	Stop() error
}

// Serving is what a reader serves.
type Serving struct {
	Position snapshot.Position
	Digest   map[catalog.Kind]string
	Outdated bool
}

// Config is what a reader is started with.
type Config struct {
	Addr     string // of Redis
	Prefix   string
	SyncKeys string
	MaxStale time.Duration
}

// A Start starts a reader.
type Start func(ctx context.Context, c Config) (Reader, error)

// script is one run: a catalog, what publishes it, and the reader.
type script struct {
	ctx    context.Context
	rdb    redis.UniversalClient
	prefix string
	pub    *redisstore.Publisher
	tables *catalog.Tables
	relay  *snapshot.Relay
	keys   *snapshot.Keys
	proxy  *proxy
	config Config
	start  Start
	reader Reader
	seen   map[name][]byte // all that was ever published, as the reader last had it
	silent atomic.Bool     // no beat is written
}

// name is a document's.
type name struct {
	kind catalog.Kind
	key  string
}

// steps build on each other.
var steps = []struct {
	name   string
	run    func(*script) error
	signed bool // needs sync keys
}{
	{"nothing is published: there is no view", (*script).nothing, false},
	{"a first publish without documents is served", (*script).first, false},
	{"documents are followed", (*script).documents, false},
	{"each change is followed", (*script).changes, false},
	{"names are looked up in their order", (*script).routes, false},
	{"fields that are not known are ignored", (*script).future, false},
	{"a large change comes in parts", (*script).large, false},
	{"parts that were given up are dropped", (*script).givenUp, false},
	{"a kind that is not known is ignored", (*script).unknownKind, false},
	{"a re-synchronisation is followed", (*script).resync, false},
	{"a new epoch is followed", (*script).epoch, false},
	{"a gap in the stream is noticed", (*script).gap, false},
	{"changes during a load are not lost", (*script).moving, false},
	{"an entry that cannot be read is survived", (*script).unreadable, false},
	{"a wrong digest in the stream is noticed", (*script).wrongDelta, false},
	{"a wrong signature is refused", (*script).wrongSignature, true},
	{"an unsigned head is refused", (*script).unsigned, true},
	{"what is damaged is refused, and reported", (*script).damaged, false},
	{"a document that is not JSON is refused", (*script).notJSON, false},
	{"another format is refused", (*script).format, false},
	{"another catalog is refused", (*script).foreign, false},
	{"other content at the same position is refused", (*script).samePosition, true},
	{"it never goes back", (*script).back, false},
	{"an empty Redis is no empty catalog", (*script).flushed, false},
	{"an empty catalog that nobody forced is refused", (*script).empty, false},
	{"an empty catalog that somebody forced is served", (*script).forcedEmpty, false},
	{"the second key of a rotation is taken", (*script).rotation, true},
	{"a lost connection is survived", (*script).connectionLost, false},
	{"a restart of Redis is survived", (*script).restart, false},
	{"what no control plane confirms is not served", (*script).stale, false},
	{"it goes on reporting", (*script).reports, false},
	{"a beat of the future confirms nothing", (*script).futureBeat, false}, // the last: it counts for an hour
}

// Run runs the script once, and calls tell after each step with what was wrong. It
// ends at the first failure, because steps build on each other, and returns it.
func Run(ctx context.Context, rdb redis.UniversalClient, addr, syncKeys string, start Start,
	tell func(step string, err error)) error {
	return runSome(ctx, rdb, addr, syncKeys, start, tell, func(string) bool { return true })
}

// runSome leaves out the steps that are not wanted.
func runSome(ctx context.Context, rdb redis.UniversalClient, addr, syncKeys string, start Start,
	tell func(step string, err error), wanted func(step string) bool) (err error) {
	s := &script{
		ctx: ctx, rdb: rdb, prefix: "conformance-" + strings.ToLower(rand.Text()), start: start, seen: map[name][]byte{},
	}
	if syncKeys != "none" {
		if s.keys, err = snapshot.ParseKeys(syncKeys); err != nil {
			return err
		}
	}
	s.pub = redisstore.New(rdb, &redisstore.Options{Prefix: s.prefix, Logger: quiet()})
	s.tables = catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	defer s.clear() //nolint:errcheck // at worst something is left in Redis

	if s.proxy, err = newProxy(addr); err != nil {
		return err
	}
	defer s.proxy.close()
	ctx, stopBeats := context.WithCancel(ctx)
	beating := make(chan struct{})
	go func() { defer close(beating); s.beat(ctx) }()
	defer func() { stopBeats(); <-beating }()
	s.config = Config{Addr: s.proxy.addr(), Prefix: s.prefix, SyncKeys: syncKeys, MaxStale: maxStale}
	if s.reader, err = start(s.ctx, s.config); err != nil {
		return err
	}
	defer func() {
		if stopErr := s.reader.Stop(); err == nil {
			if err = stopErr; err == nil {
				err = s.left()
			}
			tell("it takes its report away", err)
		}
	}()
	for _, step := range steps {
		if step.signed && s.keys == nil || !wanted(step.name) {
			continue
		}
		s.relay = s.newRelay(s.keys) // one to which nothing has happened yet
		err := step.run(s)
		tell(step.name, err)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (s *script) newRelay(keys *snapshot.Keys) *snapshot.Relay {
	return snapshot.NewRelay(s.tables, s.pub, &snapshot.RelayOptions{Keys: keys, Logger: quiet()})
}

// beat writes what control planes say about what is published, every two seconds.
func (s *script) beat(ctx context.Context) {
	for ctx.Err() == nil {
		if !s.silent.Load() {
			_ = s.writeBeat(ctx, func(*snapshot.Beat) {}) // nothing may be published, or it is spoilt
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

func (s *script) writeBeat(ctx context.Context, spoil func(*snapshot.Beat)) error {
	head, err := s.pub.Head(ctx)
	if err != nil {
		return err
	}
	keys, err := s.keys.Activate(head.Seal)
	if err != nil {
		return err
	}
	b := snapshot.Beat{Store: head.Store, Position: head.Position, At: time.Now().UTC().Truncate(time.Microsecond)}
	keys.SignBeat(&b)
	spoil(&b)
	return s.pub.SetBeat(ctx, b)
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

// pace is how often the reader is asked while something is awaited, and maxLapse the most of its patience that this
// program counts from one time to the next.
const (
	pace     = 5 * time.Millisecond
	maxLapse = 250 * time.Millisecond
)

// until waits until the reader does what holds asks for; holds returns what is wrong. The reader has all of its
// patience again whenever what is wrong has changed, because then it moves. Time during which this program did not
// run itself, on a machine that is busy or was frozen, does not count.
func (s *script) until(holds func() error) error {
	var waited time.Duration
	var wrong string
	for {
		begun := time.Now()
		err := holds()
		if err == nil || s.ctx.Err() != nil {
			return err
		}
		if text := err.Error(); text != wrong {
			waited, wrong = 0, text
		}
		if waited >= patience {
			return fmt.Errorf("after %s: %w%s", patience, err, s.says())
		}
		time.Sleep(pace)
		waited += min(time.Since(begun), maxLapse)
	}
}

// says returns what readers say about themselves, for the text of an error.
func (s *script) says() (text string) {
	if s.pub == nil {
		return ""
	}
	list, err := s.pub.Nodes(s.ctx, snapshot.NodeQuery{})
	if err != nil {
		return fmt.Sprintf("; the reports cannot be read: %v", err)
	}
	for _, n := range list.Nodes {
		text += fmt.Sprintf("; %s ago it reported the position %s and the error %q",
			list.Now.Sub(n.SeenAt).Round(time.Millisecond), n.Position, n.Error)
	}
	return cmp.Or(text, "; it has not reported")
}

// stays checks that the reader goes on serving exactly a whole for a while.
func (s *script) stays(want *content) error {
	for range 6 {
		time.Sleep(250 * time.Millisecond)
		if err := s.at(want.head); err != nil {
			return err
		}
	}
	return s.same(want)
}

// at checks where the reader is.
func (s *script) at(want snapshot.Head) error {
	got, err := s.reader.Position()
	switch {
	case err != nil:
		return err
	case got.Position != want.Position:
		return fmt.Errorf("the reader is at %s, want %s", got.Position, want.Position)
	case got.Outdated:
		return fmt.Errorf("the reader says at %s that it is outdated", got.Position)
	}
	for _, kind := range snapshot.Kinds() {
		if got.Digest[kind] != want.Digest[kind].String() {
			return fmt.Errorf("the reader's digest of %s at %s is %q, want %s", kind, got.Position, got.Digest[kind],
				want.Digest[kind])
		}
	}
	return nil
}

// same compares documents: all that have changed since it last did, and some others
// that were ever published.
func (s *script) same(want *content) error {
	now := map[name][]byte{}
	for n, doc := range want.docs {
		if !slices.Contains(snapshot.Kinds(), n.kind) {
			continue
		}
		if now[n] = doc; !bytes.Equal(s.seen[n], doc) {
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
	want, err := s.read()
	if err != nil {
		return err
	}
	if err := s.until(func() error { return s.at(want.head) }); err != nil {
		return err
	}
	return s.same(want)
}
