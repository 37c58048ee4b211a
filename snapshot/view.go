//go:build !noWatcher

package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// View is a published snapshot, ready to serve requests from. It never
// changes, so lookups take no lock and everything found through one View
// belongs to one position. What it returns is shared: it must not be modified.
type View struct {
	head    Head
	refusal Refusal // when not empty, nothing is served, for this reason

	keys      table[[sha256.Size]byte, held[Key]]
	providers table[int64, held[Provider]]
	models    table[modelName, held[ModelDoc]]
	bindings  table[modelName, held[binding]]
	others    table[string, held[struct{}]] // of kinds that this version does not know

	seed maphash.Seed
	rand func() float64
}

// held is a document's content and what it adds to the digest.
type held[T any] struct {
	doc  T
	hash Digest
}

type modelName struct{ namespace, name string }

// Key is a client key as a data plane uses it.
type Key struct {
	KeyDoc
	nets []netip.Prefix // of AllowIPs
}

// Provider is an upstream as a data plane uses it, its secret opened.
type Provider struct {
	ProviderDoc // without SealedAPIKey
	APIKey      catalog.Secret
}

// Refusal is why a request cannot be served. It is an error, and matches
// itself with errors.Is.
type Refusal string

// Error returns the reason, in words that may be shown to the client.
func (r Refusal) Error() string { return string(r) }

// What [View.Authenticate] refuses.
const (
	ErrUnknownToken Refusal = "token is unknown"
	ErrKeyDisabled  Refusal = "key is disabled"
	ErrKeyExpired   Refusal = "key has expired"
	ErrAddress      Refusal = "address is not allowed for this key"
)

// What [View.Route] refuses.
const (
	ErrUnknownModel  Refusal = "model is unknown"
	ErrNamespace     Refusal = "model is in a namespace that this key has no part in"
	ErrNotAllowed    Refusal = "model is not on this key's list"
	ErrModelDisabled Refusal = "model is disabled"
	ErrNoCandidate   Refusal = "nothing is configured to serve this model to the key's group"
	ErrNoUpstream    Refusal = "no provider of this model is active"
)

// What both refuse, whatever is asked.
const (
	ErrNotReady Refusal = "no snapshot has been loaded yet"
	ErrOutdated Refusal = "the snapshot is too old to be relied on"
)

// NewView makes a View of a snapshot, after verifying its signature, its
// digest and every document. The keys open its secrets; nil is clear text. The
// error wraps [ErrCorrupt], or [catalog.ErrSealed] when a sync key is missing.
func NewView(s *Snapshot, keys *Keys) (*View, error) {
	return emptyView(nil).load(s, keys)
}

// emptyView refuses everything until it is loaded.
func emptyView(random func() float64) *View {
	if random == nil {
		random = rand.Float64
	}
	return &View{refusal: ErrNotReady, seed: maphash.MakeSeed(), rand: random}
}

// Head returns the head that the View is of.
func (v *View) Head() Head {
	h := v.head
	h.Counts = maps.Clone(h.Counts)
	return h
}

// Position returns where in the order of publishes the View is; the zero
// position before anything was loaded.
func (v *View) Position() Position { return v.head.Position }

// maxToken is the longest token that catalog accepts; longer ones cost an allocation.
const maxToken = 256

// Key returns the key that a token belongs to, whatever its state. See
// [View.Authenticate] for whether it may be used.
func (v *View) Key(token string) (*Key, bool) {
	var space [maxToken]byte // on the stack, which a conversion is not
	sum := sha256.Sum256(append(space[:0], token...))
	k := v.keys.get(hashOf(sum), sum)
	if k == nil || v.refusal != "" {
		return nil, false
	}
	return &k.doc, true
}

// KeyByHash returns the key that a token with this hash belongs to, see
// catalog.HashToken.
func (v *View) KeyByHash(hash string) (*Key, bool) {
	sum, _ := tokenHash(hash)
	k := v.keys.get(hashOf(sum), sum)
	if k == nil || v.refusal != "" {
		return nil, false
	}
	return &k.doc, true
}

// Authenticate returns the key that a token belongs to if it may be used from
// the address at this time. Otherwise the error is a [Refusal]: ErrUnknownToken,
// ErrKeyDisabled, ErrKeyExpired or ErrAddress; with the last three the key
// comes along, for the access log.
func (v *View) Authenticate(token string, addr netip.Addr, now time.Time) (*Key, error) {
	if v.refusal != "" {
		return nil, v.refusal
	}
	key, ok := v.Key(token)
	if !ok {
		return nil, ErrUnknownToken
	}
	return key, key.usable(addr, now)
}

// usable returns why the key may not be used.
func (k *Key) usable(addr netip.Addr, now time.Time) error {
	if err := k.live(now, nil); err != nil {
		return err
	}
	if !k.allows(addr) {
		return ErrAddress
	}
	return nil
}

// live returns why the key may not be used from anywhere.
func (k *Key) live(now time.Time, tell trace) error {
	active := k.Status == catalog.Active
	if tell != nil {
		tell("key status", active, string(k.Status))
	}
	if !active {
		return ErrKeyDisabled
	}
	expired := !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
	if tell != nil && !k.ExpiresAt.IsZero() {
		tell("key expiry", !expired, k.ExpiresAt.UTC().Format(time.RFC3339))
	}
	if expired {
		return ErrKeyExpired
	}
	return nil
}

func (k *Key) allows(addr netip.Addr) bool {
	if len(k.nets) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range k.nets {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// Provider returns the provider with the id.
func (v *View) Provider(id int64) (*Provider, bool) {
	p := v.providers.get(mix(id), id)
	if p == nil {
		return nil, false
	}
	return &p.doc, true
}

// Model returns the model with the public name.
func (v *View) Model(namespace, name string) (*ModelDoc, bool) {
	n := modelName{namespace, name}
	m := v.models.get(v.hashName(n), n)
	if m == nil {
		return nil, false
	}
	return &m.doc, true
}

// Binding returns who serves the model with the public name.
func (v *View) Binding(namespace, name string) (*BindingDoc, bool) {
	b := v.binding(modelName{namespace, name})
	if b == nil {
		return nil, false
	}
	return &b.BindingDoc, true
}

func (v *View) binding(n modelName) *binding {
	b := v.bindings.get(v.hashName(n), n)
	if b == nil {
		return nil
	}
	return &b.doc
}

// Models iterates over all models, in no particular order.
func (v *View) Models() iter.Seq[*ModelDoc] {
	return func(yield func(*ModelDoc) bool) {
		for _, m := range v.models.all() {
			if !yield(&m.doc) {
				return
			}
		}
	}
}

// Providers iterates over all providers, in no particular order.
func (v *View) Providers() iter.Seq[*Provider] {
	return func(yield func(*Provider) bool) {
		for _, p := range v.providers.all() {
			if !yield(&p.doc) {
				return
			}
		}
	}
}

// hashOf returns the hash of a token hash, which is uniform already.
func hashOf(sum [sha256.Size]byte) uint64 { return binary.BigEndian.Uint64(sum[:]) }

// hashName hashes without joining the two.
func (v *View) hashName(n modelName) uint64 {
	return mix(int64(maphash.String(v.seed, n.namespace))) ^ maphash.String(v.seed, n.name)
}

// mix makes a uniform hash of an id. It is the finalizer of SplitMix64
// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
func mix(id int64) uint64 {
	z := uint64(id) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// newKey makes a document ready for use.
func newKey(d *KeyDoc, in interner) (*Key, error) {
	k := &Key{KeyDoc: *d}
	k.Status, k.Group = catalog.Status(in.text(string(d.Status))), in.text(d.Group)
	k.DefaultNamespace, k.BudgetWindow = in.text(d.DefaultNamespace), in.text(d.BudgetWindow)
	k.Namespaces, k.Scopes = in.list(d.Namespaces), in.list(d.Scopes)
	for _, text := range d.AllowIPs {
		net, err := catalog.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errAllowIP, ErrCorrupt)
		}
		k.nets = append(k.nets, net)
	}
	return k, nil
}

// interner keeps one copy of what a million keys have in common. It lives as
// long as one load or delta.
type interner struct {
	texts map[string]string
	lists map[string][]string
}

func newInterner() interner { return interner{map[string]string{}, map[string][]string{}} }

func (in interner) text(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := in.texts[s]; ok {
		return known
	}
	in.texts[s] = s
	return s
}

// list shares lists of one element, which most are.
func (in interner) list(l []string) []string {
	if len(l) != 1 {
		return slices.Clip(l)
	}
	if known, ok := in.lists[l[0]]; ok {
		return known
	}
	in.lists[l[0]] = l[:1:1]
	return l[:1:1]
}
