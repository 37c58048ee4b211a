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
	changes := func(yield func(Change) bool) {
		for _, d := range s.Docs {
			if !yield(Change(d)) {
				return
			}
		}
	}
	return blank.next(s.Head, changes, keys)
}

// apply returns the View after a delta.
func (v *View) apply(d Delta, keys *Keys) (*View, error) {
	if d.From != v.head.Position || d.Reset || d.Head.Seal != v.head.Seal || d.Head.Store != v.head.Store {
		return nil, fmt.Errorf("the delta from %s does not continue %s: %w", d.From, v.head.Position, ErrGap)
	}
	changes := func(yield func(Change) bool) {
		for _, c := range d.Changes {
			if !yield(c) {
				return
			}
		}
	}
	return v.next(d.Head, changes, keys)
}

// next returns a View with the changes, which must lead to exactly what the
// head says. v stays as it is.
func (v *View) next(head Head, changes func(func(Change) bool), keys *Keys) (*View, error) {
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
		view: v, keys: keys, digest: v.head.Digest, intern: newInterner(),
		clients: v.keys.edit(), providers: v.providers.edit(), models: v.models.edit(), bindings: v.bindings.edit(), others: v.others.edit(),
		counts: maps.Clone(v.head.Counts),
	}
	if a.counts == nil {
		a.counts = Counts{}
	}
	for c := range changes {
		if err := a.change(c); err != nil {
			return nil, err
		}
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
	keys   *Keys
	intern interner
	digest Digest
	counts Counts

	clients   *editor[[32]byte, held[Key]]
	providers *editor[int64, held[Provider]]
	models    *editor[modelName, held[ModelDoc]]
	bindings  *editor[modelName, held[binding]]
	others    *editor[string, held[struct{}]]
}

func (a *applier) change(c Change) error {
	d := Document(c)
	switch c.Kind {
	case catalog.KindKey:
		sum, ok := tokenHash(c.Key)
		if !ok {
			return fmt.Errorf("%s: %w: %w", name(c.Kind, c.Key), errKey, ErrCorrupt)
		}
		return put(a, a.clients, hashOf(sum), sum, d, a.key)
	case catalog.KindProvider:
		id, ok := providerID(c.Key)
		if !ok {
			return fmt.Errorf("%s: %w: %w", name(c.Kind, c.Key), errKey, ErrCorrupt)
		}
		return put(a, a.providers, mix(id), id, d, a.provider)
	case catalog.KindModel:
		n := splitName(c.Key)
		return put(a, a.models, a.view.hashName(n), n, d, a.model)
	case catalog.KindBinding:
		n := splitName(c.Key)
		return put(a, a.bindings, a.view.hashName(n), n, d, a.binding)
	default:
		n := string(c.Kind) + "\x00" + c.Key
		return put(a, a.others, maphash.String(a.view.seed, n), n, d, func(Document) (struct{}, error) { return struct{}{}, nil })
	}
}

// put sets or removes a document; digest and counts follow.
func put[K comparable, V any](a *applier, e *editor[K, held[V]], hash uint64, key K, d Document, read func(Document) (V, error)) error {
	if old := e.get(hash, key); old != nil {
		a.digest = a.digest.Sub(old.hash)
		a.counts[d.Kind]--
	}
	if d.Doc == nil {
		e.remove(hash, key)
		return nil
	}
	v, err := read(d)
	if err != nil {
		return err
	}
	sum := a.keys.Hash(d.Kind, d.Key, d.Doc)
	a.digest = a.digest.Add(sum)
	a.counts[d.Kind]++
	e.put(hash, key, held[V]{v, sum})
	return nil
}

func (a *applier) key(d Document) (Key, error) {
	doc, err := Decode[KeyDoc](d)
	if err != nil {
		return Key{}, err
	}
	return newKey(doc, a.intern)
}

func (a *applier) provider(d Document) (Provider, error) {
	doc, err := Decode[ProviderDoc](d)
	if err != nil {
		return Provider{}, err
	}
	secret, err := a.keys.Open(doc.SealedAPIKey, sealedField(d.Key))
	if err != nil {
		return Provider{}, err
	}
	doc.SealedAPIKey = ""
	return Provider{*doc, catalog.NewSecret(secret)}, nil
}

func (a *applier) model(d Document) (ModelDoc, error) {
	doc, err := Decode[ModelDoc](d)
	if err != nil {
		return ModelDoc{}, err
	}
	return *doc, nil
}

func (a *applier) binding(d Document) (binding, error) {
	doc, err := Decode[BindingDoc](d)
	if err != nil {
		return binding{}, err
	}
	return newBinding(doc), nil
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
