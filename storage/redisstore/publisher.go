package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
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
	// node's report that cannot be read. Defaults to slog.Default().
	Logger *slog.Logger

	// StreamMaxEntries and StreamMaxBytes bound the stream of changes; the
	// oldest entries go first. Default to 10,000 entries and 64 MiB.
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

	kinds []catalog.Kind // in the order in which scripts number them
	index map[catalog.Kind]int
	waits singleflight.Group // by position: any number of Next share one connection
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

		kinds: catalog.Kinds(),
		index: make(map[catalog.Kind]int),
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
	for i, k := range p.kinds {
		p.index[k] = i + 1
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

// key returns the full name of a key.
func (p *Publisher) key(name string) string { return "{" + p.prefix + "}:" + name }

// hash returns the key of a kind's documents.
func (p *Publisher) hash(k catalog.Kind) string { return p.key(string(k)) }

// Head implements [snapshot.Source]. It takes one round trip.
func (p *Publisher) Head(ctx context.Context) (snapshot.Head, error) {
	var fields *redis.MapStringStringCmd
	lengths := make([]*redis.IntCmd, len(p.kinds))
	_, err := p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		fields = pipe.HGetAll(ctx, p.key("head"))
		for i, k := range p.kinds {
			lengths[i] = pipe.HLen(ctx, p.hash(k))
		}
		return nil
	})
	if err != nil {
		return snapshot.Head{}, wrap("head", err)
	}
	head, err := parseHead(fields.Val())
	if err != nil {
		return snapshot.Head{}, wrap("head", err)
	}
	for i, k := range p.kinds {
		if n := int(lengths[i].Val()); n != head.Counts[k] {
			return head, wrap("head", fmt.Errorf("%d %s, the head says %d: %w", n, k, head.Counts[k], snapshot.ErrCorrupt))
		}
	}
	return head, nil
}

// Lookup implements [snapshot.Source]. It takes a round trip per 1,000 keys.
func (p *Publisher) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	if p.index[k] == 0 {
		return nil, unknownKind("lookup", k)
	}
	var docs []snapshot.Document
	for len(keys) > 0 {
		n := min(len(keys), 1000)
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

// Apply implements [snapshot.Publisher]. It takes one round trip and sends
// nothing but the delta. Redis does nothing else meanwhile, so a delta of many
// thousand documents is better published by Replace.
func (p *Publisher) Apply(ctx context.Context, d snapshot.Delta) error {
	if d.Reset {
		return wrap("apply", fmt.Errorf("a reset is a Replace: %w", catalog.ErrInvalid))
	}
	// Nothing is ever published at the zero position, so nothing starts there.
	if d.From == (snapshot.Position{}) || !d.Head.Position.After(d.From) || d.Head.Position.Revision < 0 {
		return wrap("apply", fmt.Errorf("from %s to %s: %w", d.From, d.Head.Position, snapshot.ErrStale))
	}
	changes, err := encodeChanges(d.Changes)
	if err != nil {
		return wrap("apply", err)
	}
	args := p.scriptArgs(d.From.String(), d.Head, false, changes)
	for _, c := range d.Changes {
		kind := p.index[c.Kind]
		if kind == 0 {
			return unknownKind("apply", c.Kind)
		}
		if c.Doc == nil {
			args = append(args, kind, opDelete, c.Key, "")
		} else {
			args = append(args, kind, opPut, c.Key, c.Doc)
		}
	}
	_, err = p.run(ctx, applyScript, p.scriptKeys(), args)
	if err != nil {
		return wrap("apply", fmt.Errorf("from %s to %s: %w", d.From, d.Head.Position, err))
	}
	return nil
}

// unknownKind refuses a kind that has no hash: its name might be another key's.
func unknownKind(op string, k catalog.Kind) error {
	return wrap(op, fmt.Errorf("%q is no kind of document: %w", k, catalog.ErrInvalid))
}

// wrap says where an error comes from. A key of a foreign type is damage.
func wrap(op string, err error) error {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return fmt.Errorf("redisstore: %s: %w: %w", op, snapshot.ErrCorrupt, err)
	}
	return fmt.Errorf("redisstore: %s: %w", op, err)
}

// ErrEvicts says that Redis may drop keys when its memory is full.
var ErrEvicts = errors.New("redis may evict documents")

// PolicyUnknown is what [Publisher.Ready] returns where Redis does not tell.
const PolicyUnknown = "unknown"

// Ready asks Redis whether it is there and fit, and returns its
// maxmemory-policy. Any policy but noeviction is an error that wraps
// [ErrEvicts]. Where Redis answers but cannot be asked for the policy (it is
// forbidden, or the server does not know it), that is [PolicyUnknown] and no error.
func (p *Publisher) Ready(ctx context.Context) (policy string, err error) {
	var asked interface {
		Info(ctx context.Context, section ...string) *redis.StringCmd
	} = p.client
	if cluster, ok := p.client.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, p.key("head"))
		if err != nil {
			return "", wrap("ready", err)
		}
		asked = node
	}
	if err := p.client.Exists(ctx, p.key("head")).Err(); err != nil {
		return "", wrap("ready", err)
	}
	info, err := asked.Info(ctx, "memory").Result()
	var refused redis.Error
	switch {
	case errors.As(err, &refused):
		return PolicyUnknown, nil
	case err != nil:
		return "", wrap("ready", err)
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:"); ok {
			if policy != "noeviction" {
				return policy, wrap("ready", fmt.Errorf("set maxmemory-policy to noeviction, it is %s: %w", policy, ErrEvicts))
			}
			return policy, nil
		}
	}
	return PolicyUnknown, nil
}
