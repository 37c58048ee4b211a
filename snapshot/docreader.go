package snapshot

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// docReader makes documents ready for use. It is for one goroutine.
type docReader struct {
	keys   *Keys // of which the active one is that of the head
	intern interner
	closed bool // secrets are neither opened nor kept
}

func newDocReader(keys *Keys) *docReader { return &docReader{keys: keys, intern: newInterner()} }

// newClosedReader returns a reader that opens no secrets.
func newClosedReader() *docReader { return &docReader{intern: newInterner(), closed: true} }

// secret returns a provider's secret, opened.
func (r *docReader) secret(d *ProviderDoc) (string, error) {
	if r.closed {
		return "", nil
	}
	return r.keys.Open(d.SealedAPIKey, sealedData(d))
}

func keyBinder() binder[[32]byte, Key] {
	return binder[[32]byte, Key]{
		kind: catalog.KindKey,
		name: tokenHash,
		hash: hashOf,
		read: func(r *docReader, d Document) (*Key, error) {
			doc, err := Decode[KeyDoc](d)
			if err != nil {
				return nil, err
			}
			return newKey(doc, &r.intern)
		},
	}
}

func providerBinder() binder[int64, Provider] {
	return binder[int64, Provider]{
		kind: catalog.KindProvider,
		name: providerID,
		hash: mix,
		read: func(r *docReader, d Document) (*Provider, error) {
			doc, err := Decode[ProviderDoc](d)
			if err != nil {
				return nil, err
			}
			secret, err := r.secret(doc)
			if err != nil {
				return nil, fmt.Errorf("%s: its api_key cannot be opened: %w", name(d.Kind, d.Key), err)
			}
			doc.SealedAPIKey = ""
			return &Provider{*doc, catalog.NewSecret(secret)}, nil
		},
	}
}

func projectBinder(seed maphash.Seed) binder[string, ProjectDoc] {
	return binder[string, ProjectDoc]{
		kind: catalog.KindProject,
		name: func(key string) (string, bool) { return key, catalog.IsProjectPath(key) },
		hash: func(path string) uint64 { return maphash.String(seed, path) },
		read: func(_ *docReader, d Document) (*ProjectDoc, error) { return Decode[ProjectDoc](d) },
	}
}

func holdBinder(seed maphash.Seed) binder[catalog.HoldTarget, HoldDoc] {
	return binder[catalog.HoldTarget, HoldDoc]{
		kind: catalog.KindHold,
		name: catalog.ParseHoldTarget,
		hash: func(t catalog.HoldTarget) uint64 {
			return mix(t.KeyID) ^ mix(^t.ProviderID) ^ maphash.String(seed, t.Project) ^
				maphash.String(seed, t.UpstreamModel)<<1
		},
		read: func(_ *docReader, d Document) (*HoldDoc, error) { return Decode[HoldDoc](d) },
	}
}

func modelBinder(seed maphash.Seed) binder[modelName, ModelDoc] {
	return binder[modelName, ModelDoc]{
		kind: catalog.KindModel,
		name: splitName,
		hash: func(n modelName) uint64 { return n.hash(seed) },
		read: func(_ *docReader, d Document) (*ModelDoc, error) { return Decode[ModelDoc](d) },
	}
}

func bindingBinder(seed maphash.Seed) binder[modelName, binding] {
	return binder[modelName, binding]{
		kind: catalog.KindBinding,
		name: splitName,
		hash: func(n modelName) uint64 { return n.hash(seed) },
		read: func(_ *docReader, d Document) (*binding, error) {
			doc, err := Decode[BindingDoc](d)
			if err != nil {
				return nil, err
			}
			return newBinding(doc), nil
		},
	}
}

// modelName is catalog.ModelKey in two parts.
type modelName struct{ namespace, name string }

// splitName takes catalog.ModelKey apart: namespaces have no dots.
func splitName(key string) (modelName, bool) {
	namespace, name, _ := strings.Cut(key, ".")
	return modelName{namespace, name}, true
}

// hash hashes without joining the two.
func (n modelName) hash(seed maphash.Seed) uint64 {
	return mix(int64(maphash.String(seed, n.namespace))) ^ maphash.String(seed, n.name)
}

// newKey makes a document ready for use.
func newKey(d *KeyDoc, in *interner) (*Key, error) {
	k := &Key{KeyDoc: *d}
	k.Status, k.Group = catalog.Status(in.text(string(d.Status))), in.text(d.Group)
	k.DefaultNamespace, k.Project = in.text(d.DefaultNamespace), in.text(d.Project)
	k.Namespaces, k.Scopes, k.Labels = in.list(d.Namespaces), in.list(d.Scopes), in.set(d.Labels)
	for _, text := range d.AllowIPs {
		net, err := catalog.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errAllowIP, ErrCorrupt)
		}
		k.nets = append(k.nets, net)
	}
	return k, nil
}

// maxInterned bounds what an interner keeps: what a million keys do not have in common is not worth it.
const maxInterned = 10_000

// interner keeps one copy of what a million keys have in common. It lives as
// long as one load or delta.
type interner struct {
	texts  map[string]string
	lists  map[string][]string
	labels map[string]map[string]string // by their content
	buf    []byte
}

func newInterner() interner {
	return interner{texts: map[string]string{}, lists: map[string][]string{}, labels: map[string]map[string]string{}}
}

func (in *interner) text(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := in.texts[s]; ok {
		return known
	}
	if len(in.texts) < maxInterned {
		in.texts[s] = s
	}
	return s
}

// list shares lists of one element, which most are.
func (in *interner) list(l []string) []string {
	if len(l) != 1 {
		return slices.Clip(l)
	}
	if known, ok := in.lists[l[0]]; ok {
		return known
	}
	if len(in.lists) < maxInterned {
		in.lists[l[0]] = l[:1:1]
	}
	return l[:1:1]
}

// set shares sets of labels. A map of its own would cost each key more than all else.
func (in *interner) set(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	in.buf = in.buf[:0]
	if len(labels) == 1 {
		for name, value := range labels {
			in.buf = append(append(append(in.buf, name...), 0), value...)
		}
	} else {
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			in.buf = append(append(append(append(in.buf, name...), 0), labels[name]...), 0)
		}
	}
	if known, ok := in.labels[string(in.buf)]; ok {
		return known
	}
	if len(in.labels) < maxInterned {
		in.labels[string(in.buf)] = labels
	}
	return labels
}

// mustID reads an id that was checked.
func mustID(s string) int64 {
	id, _ := strconv.ParseInt(s, 10, 64)
	return id
}
