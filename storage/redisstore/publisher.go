package redisstore

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

var _ snapshot.Publisher = (*Publisher)(nil)

// Options configure a [Publisher]. The zero value is fine.
type Options struct {
	// Prefix is the hash tag of all keys, see [CheckPrefix]. Defaults to "ezapi".
	Prefix string

	// Logger is told about what heals itself: a load that starts again, a
	// report that cannot be read, an interrupted publish. Defaults to slog.Default().
	Logger *slog.Logger

	// StreamMaxEntries and StreamMaxBytes bound the stream of changes; the
	// oldest publishes go first. Default to 10,000 entries and 64 MiB.
	StreamMaxEntries int
	StreamMaxBytes   int64
}

// Publisher keeps the published snapshot in Redis. It is safe for concurrent
// use, and any number of publishers may share one prefix.
type Publisher struct {
	client  redis.UniversalClient
	log     *slog.Logger
	prefix  string
	entries int
	bytes   int64

	stagingTTL time.Duration
	block      time.Duration // of a read that waits
	maxNodes   int

	waits  singleflight.Group // by position: any number of Next share one connection
	master master
	stray  stray
	hint   hint

	suspended suspended
	orphan    orphans
}

// New returns a publisher on the caller's client, which it never closes. It
// asks nothing of Redis yet. It panics when the prefix is not valid, see [CheckPrefix].
func New(client redis.UniversalClient, opts *Options) *Publisher {
	var o Options
	if opts != nil {
		o = *opts
	}
	p := &Publisher{
		client:  client,
		log:     o.Logger,
		prefix:  o.Prefix,
		entries: o.StreamMaxEntries,
		bytes:   o.StreamMaxBytes,

		stagingTTL: stagingTTL,
		block:      snapshot.MaxBlock,
		maxNodes:   snapshot.MaxNodes,
	}
	if p.prefix == "" {
		p.prefix = "ezapi"
	}
	if err := CheckPrefix(p.prefix); err != nil {
		panic("redisstore: " + err.Error())
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	if p.entries <= 0 {
		p.entries = 10_000
	}
	if p.bytes <= 0 {
		p.bytes = 64 << 20
	}
	return p
}

// CheckPrefix returns an error that wraps [catalog.ErrInvalid] unless prefix
// is 1 to 64 letters, digits, and characters among "_.:-".
func CheckPrefix(prefix string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`).MatchString(prefix) {
		return fmt.Errorf("the prefix must be 1 to 64 letters, digits, or any of _.:- : %w", catalog.ErrInvalid)
	}
	return nil
}

// The names of keys that are no kind's.
const (
	keyHead    = "head"
	keyChanges = "changes"
	keyBeat    = "beat"
	keyNodes   = "nodes"
	keySeen    = "nodes:seen"    // the index of nodes
	keyCrowded = "nodes:crowded" // is there while a live node has no room
	keyLeft    = "nodes:left"    // with what words nodes have left lately
	keyProbe   = "probe"         // is never there; scripts try commands on it
	keyFence   = "fence"         // is there while a whole is about to be published that was overtaken before
)

// key returns the full name of a key.
func (p *Publisher) key(name string) string { return "{" + p.prefix + "}:" + name }

// keys returns the full names of several.
func (p *Publisher) keys(names ...string) []string {
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = p.key(name)
	}
	return full
}

// hash returns the key of a kind's documents.
func (p *Publisher) hash(k catalog.Kind) string { return p.key(string(k)) }

const (
	// lookupKeys is how many documents one command of Lookup asks for.
	lookupKeys = 1000

	// scanCount is how many documents Redis collects at a time.
	scanCount = 500

	// maxBeat bounds the text of a beat that is read; a longer one is none.
	maxBeat = 4 << 10
)

// Lookup implements [snapshot.Source]. It takes a round trip per 1,000 keys.
func (p *Publisher) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	if err := snapshot.CheckKind(k); err != nil {
		return nil, wrap("lookup", err)
	}
	var docs []snapshot.Document
	for len(keys) > 0 {
		n := min(len(keys), lookupKeys)
		values, err := p.client.HMGet(ctx, p.hash(k), keys[:n]...).Result()
		if err != nil {
			return nil, wrap("lookup", err)
		}
		for i, v := range values {
			if doc, ok := v.(string); ok {
				docs = append(docs, snapshot.Document{Kind: k, Key: keys[i], Doc: []byte(doc)})
			}
		}
		keys = keys[n:]
	}
	return docs, nil
}

// Documents implements [snapshot.Publisher]. It scans in pieces, so that none of
// them keeps Redis for long.
func (p *Publisher) Documents(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
	return func(yield func(snapshot.Document, error) bool) {
		if err := snapshot.CheckKind(k); err != nil {
			yield(snapshot.Document{}, wrap("documents", err))
			return
		}
		for cursor := uint64(0); ; {
			pairs, next, err := p.client.HScan(ctx, p.hash(k), cursor, "", scanCount).Result()
			if err != nil {
				yield(snapshot.Document{}, wrap("documents", err))
				return
			}
			for i := 0; i+1 < len(pairs); i += 2 {
				if !yield(snapshot.Document{Kind: k, Key: pairs[i], Doc: []byte(pairs[i+1])}, nil) {
					return
				}
			}
			if next == 0 {
				return
			}
			cursor = next
		}
	}
}

// SetBeat implements [snapshot.Publisher].
func (p *Publisher) SetBeat(ctx context.Context, b snapshot.Beat) error {
	err := p.client.Set(ctx, p.key(keyBeat), b.Encode(), 0).Err()
	p.noteMaster(err)
	return wrap("beat", err)
}

// LastBeat implements [snapshot.Source].
func (p *Publisher) LastBeat(ctx context.Context) (snapshot.Beat, error) {
	text, err := p.client.GetRange(ctx, p.key(keyBeat), 0, maxBeat).Result()
	p.noteMaster(err)
	if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return snapshot.Beat{}, wrap("beat", err)
	}
	return readBeat(text), nil
}

// readBeat returns none for one that cannot be read.
func readBeat(text string) snapshot.Beat {
	if text == "" || len(text) > maxBeat {
		return snapshot.Beat{}
	}
	b, err := snapshot.ParseBeat([]byte(text))
	if err != nil {
		return snapshot.Beat{}
	}
	return b
}

// wrap says where an error comes from. A key of a foreign type is damage.
func wrap(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("redisstore: %s: %w: %w", op, snapshot.ErrCorrupt, err)
	}
	return fmt.Errorf("redisstore: %s: %w", op, refusedBy(err))
}

// suspicion is how long after an error it is looked again and again where the keys of a Cluster are.
const suspicion = 30 * time.Second

// master is where the keys of a Cluster are.
type master struct {
	mu      sync.Mutex
	addr    string
	suspect time.Time // until when it may have changed
}

// noteMaster notes, after a command, whether the keys have moved to another node of a Cluster. A read that
// waits on the old one might do so for long, when that one has frozen: whoever waits then starts
// another, see masterAddr. After an error the client looks at once how the Cluster is now.
func (p *Publisher) noteMaster(err error) {
	cluster, ok := p.client.(*redis.ClusterClient)
	if !ok {
		return
	}
	p.master.mu.Lock()
	defer p.master.mu.Unlock()
	if err != nil {
		cluster.ReloadState(context.Background())
		p.master.suspect = time.Now().Add(suspicion)
		return
	}
	p.findMaster(cluster)
}

// findMaster asks the client, which knows the Cluster. The caller holds the lock.
func (p *Publisher) findMaster(cluster *redis.ClusterClient) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if node, err := cluster.MasterForKey(ctx, p.key(keyHead)); err == nil {
		p.master.addr = node.Options().Addr
	}
}

// masterAddr returns where the keys of a Cluster are; "" when there is none, or it is not known yet. It costs
// nothing but after an error.
func (p *Publisher) masterAddr() string {
	p.master.mu.Lock()
	defer p.master.mu.Unlock()
	if cluster, ok := p.client.(*redis.ClusterClient); ok && time.Now().Before(p.master.suspect) {
		p.findMaster(cluster)
	}
	return p.master.addr
}
