//go:build !noWatcher

package snapshot

import (
	"fmt"
	"hash/maphash"
	"maps"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// format is that of everything published, see Head.Format.
const format = 1

// load returns a View of a whole snapshot; v lends its settings alone.
func (v *View) load(s *Snapshot, keys *Keys) (*View, error) {
	blank := &View{seed: v.seed, rand: v.rand, head: Head{Seal: s.Head.Seal}}
	return blank.next(s.Head, len(s.Docs), func(i int) Change { return Change(s.Docs[i]) }, keys)
}

// apply returns the View after a delta.
func (v *View) apply(d Delta, keys *Keys) (*View, error) {
	if d.From != v.head.Position || d.Reset || d.Head.Seal != v.head.Seal || d.Head.Store != v.head.Store {
		return nil, fmt.Errorf("the delta from %s does not continue %s: %w", d.From, v.head.Position, ErrGap)
	}
	return v.next(d.Head, len(d.Changes), func(i int) Change { return d.Changes[i] }, keys)
}

// next returns a View with n changes, which must lead to exactly what the
// head says. v stays as it is.
func (v *View) next(head Head, n int, change func(i int) Change, keys *Keys) (*View, error) {
	if head.Format != format {
		return nil, fmt.Errorf("the snapshot has format %d, this reads %d: upgrade", head.Format, format)
	}
	if err := keys.Verify(head); err != nil {
		return nil, err
	}
	keys, err := keys.Activate(head.Seal)
	if err != nil {
		return nil, err
	}
	a := applier{
		view: v, digest: v.head.Digest,
		clients: v.keys.edit(), providers: v.providers.edit(), models: v.models.edit(), bindings: v.bindings.edit(), others: v.others.edit(),
		counts: maps.Clone(v.head.Counts),
	}
	if a.counts == nil {
		a.counts = Counts{}
	}
	for r := range readAll(n, change, keys) {
		if r.err != nil {
			return nil, r.err
		}
		a.apply(r)
	}
	head.Counts = maps.Clone(head.Counts)
	switch {
	case a.digest != head.Digest:
		return nil, fmt.Errorf("the documents at %s do not have the digest that the head says: %w", head.Position, ErrCorrupt)
	case !a.counts.equal(head.Counts):
		return nil, fmt.Errorf("the documents at %s are not as many as the head says: %w", head.Position, ErrCorrupt)
	}
	return &View{
		head: head, seed: v.seed, rand: v.rand,
		keys: a.clients.table(), providers: a.providers.table(), models: a.models.table(), bindings: a.bindings.table(), others: a.others.table(),
	}, nil
}

// applier makes one View of another.
type applier struct {
	view   *View
	digest Digest
	counts Counts

	clients   *editor[[32]byte, held[Key]]
	providers *editor[int64, held[Provider]]
	models    *editor[modelName, held[ModelDoc]]
	bindings  *editor[modelName, held[binding]]
	others    *editor[string, held[struct{}]]
}

// apply takes in a change that was read.
func (a *applier) apply(r read) {
	switch r.Kind {
	case catalog.KindKey:
		sum, _ := tokenHash(r.Key)
		put(a, a.clients, hashOf(sum), sum, r)
	case catalog.KindProvider:
		id, _ := providerID(r.Key)
		put(a, a.providers, mix(id), id, r)
	case catalog.KindModel:
		n := splitName(r.Key)
		put(a, a.models, a.view.hashName(n), n, r)
	case catalog.KindBinding:
		n := splitName(r.Key)
		put(a, a.bindings, a.view.hashName(n), n, r)
	default:
		n := string(r.Kind) + "\x00" + r.Key
		put(a, a.others, maphash.String(a.view.seed, n), n, r)
	}
}

// put sets or removes a document; digest and counts follow.
func put[K comparable, V any](a *applier, e *editor[K, held[V]], hash uint64, key K, r read) {
	if old := e.get(hash, key); old != nil {
		a.digest = a.digest.Sub(old.hash)
		a.counts[r.Kind]--
	}
	if r.Doc == nil {
		e.remove(hash, key)
		return
	}
	a.digest = a.digest.Add(r.sum)
	a.counts[r.Kind]++
	e.put(hash, key, held[V]{*r.value.(*V), r.sum})
}

// splitName takes catalog.ModelKey apart: namespaces have no dots.
func splitName(key string) modelName {
	namespace, name, _ := strings.Cut(key, ".")
	return modelName{namespace, name}
}

// mustID reads an id that was checked.
func mustID(s string) int64 {
	id, _ := strconv.ParseInt(s, 10, 64)
	return id
}
