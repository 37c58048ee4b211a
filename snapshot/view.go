package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// View is a published snapshot, ready to serve requests from. It never
// changes, so lookups take no lock and everything found through one View
// belongs to one position. What it returns is shared: it must not be modified.
type View struct {
	head    Head
	refusal Refusal // when not empty, nothing is served, for this reason

	bindings  shelf[modelName, binding]
	holds     shelf[catalog.HoldTarget, HoldDoc]
	keys      shelf[[sha256.Size]byte, Key]
	models    shelf[modelName, ModelDoc]
	projects  shelf[string, ProjectDoc]
	providers shelf[int64, Provider]

	rand func() float64
}

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

	ErrUnknownProject  Refusal = "project of this key is unknown"
	ErrProjectDisabled Refusal = "project of this key is disabled"
)

// What [View.Route] refuses.
const (
	ErrUnknownModel  Refusal = "model is unknown"
	ErrNamespace     Refusal = "model is in a namespace that this key has no part in"
	ErrNotAllowed    Refusal = "model is not on this key's list"
	ErrModelDisabled Refusal = "model is disabled"
	ErrNoCandidate   Refusal = "nothing is configured to serve this model to the key's group"
	ErrNoUpstream    Refusal = "no provider of this model is active"

	ErrProjectNamespace Refusal = "model is in a namespace that this key's project has no part in"
	ErrProjectModel     Refusal = "model is not on the list of this key's project"
	ErrProjectGroup     Refusal = "route group of this key is not allowed in its project"
)

// What both refuse, whatever is asked.
const (
	ErrNotReady Refusal = "no snapshot has been loaded yet"
	ErrOutdated Refusal = "the snapshot is too old to be relied on"
)

// emptyView refuses everything until it is loaded.
func emptyView(random func() float64) *View {
	if random == nil {
		random = rand.Float64
	}
	seed := maphash.MakeSeed()
	v := &View{refusal: ErrNotReady, rand: random}
	v.bindings.binder, v.keys.binder = bindingBinder(seed), keyBinder()
	v.models.binder, v.providers.binder = modelBinder(seed), providerBinder()
	v.projects.binder, v.holds.binder = projectBinder(seed), holdBinder(seed)
	return v
}

// blank returns a View without documents, with the settings of v.
func (v *View) blank() *View {
	b := &View{refusal: ErrNotReady, rand: v.rand}
	b.bindings.binder, b.keys.binder = v.bindings.binder, v.keys.binder
	b.models.binder, b.providers.binder = v.models.binder, v.providers.binder
	b.projects.binder, b.holds.binder = v.projects.binder, v.holds.binder
	return b
}

// shelves returns one for each of [Kinds].
func (v *View) shelves() []kindShelf {
	return []kindShelf{&v.bindings, &v.holds, &v.keys, &v.models, &v.projects, &v.providers}
}

// Head returns the head that the View is of.
func (v *View) Head() Head {
	h := v.head
	h.Counts, h.Digest = maps.Clone(h.Counts), maps.Clone(h.Digest)
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
	k := v.keys.table.get(hashOf(sum), sum)
	if k == nil || v.refusal != "" {
		return nil, false
	}
	return &k.doc, true
}

// KeyByHash returns the key that a token with this hash belongs to, see
// catalog.HashToken.
func (v *View) KeyByHash(hash string) (*Key, bool) {
	sum, _ := tokenHash(hash)
	k := v.keys.table.get(hashOf(sum), sum)
	if k == nil || v.refusal != "" {
		return nil, false
	}
	return &k.doc, true
}

// Authenticate returns the key that a token belongs to if it may be used from the address at this
// time. Otherwise the error is a [Refusal], or an [ErrHeld] when the key or one of the projects
// that it is in is held. The key is returned together with the error, for the access log, except
// with ErrUnknownToken, ErrNotReady and ErrOutdated: then it is nil.
func (v *View) Authenticate(token string, addr netip.Addr, now time.Time) (*Key, error) {
	if v.refusal != "" {
		return nil, v.refusal
	}
	key, ok := v.Key(token)
	if !ok {
		return nil, ErrUnknownToken
	}
	if err := key.live(now, nil); err != nil {
		return key, err
	}
	if !key.allows(addr) {
		return key, ErrAddress
	}
	return key, v.free(key, now, nil)
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
	p := v.providers.get(id)
	return p, p != nil
}

// Model returns the model with the public name.
func (v *View) Model(namespace, name string) (*ModelDoc, bool) {
	m := v.models.get(modelName{namespace, name})
	return m, m != nil
}

// Binding returns who serves the model with the public name.
func (v *View) Binding(namespace, name string) (*BindingDoc, bool) {
	b := v.binding(modelName{namespace, name})
	if b == nil {
		return nil, false
	}
	return &b.BindingDoc, true
}

func (v *View) binding(n modelName) *binding { return v.bindings.get(n) }

// Project returns the project with the path.
func (v *View) Project(path string) (*ProjectDoc, bool) {
	p := v.projects.get(path)
	return p, p != nil
}

// Hold returns what holds a target, whether it has ended or not; see [HoldDoc.Active].
func (v *View) Hold(t catalog.HoldTarget) (*HoldDoc, bool) {
	h := v.holds.get(t)
	return h, h != nil
}

// AllModels iterates over all models, in no particular order.
func (v *View) AllModels() iter.Seq[*ModelDoc] { return v.models.all() }

// Providers iterates over all providers, in no particular order.
func (v *View) Providers() iter.Seq[*Provider] { return v.providers.all() }

// hashOf returns the hash of a token hash, which is uniform already.
func hashOf(sum [sha256.Size]byte) uint64 { return binary.BigEndian.Uint64(sum[:]) }

// mix makes a uniform hash of an id. It is the finalizer of SplitMix64
// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
func mix(id int64) uint64 {
	z := uint64(id) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
