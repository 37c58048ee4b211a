package snapshot

import (
	"fmt"
	"iter"

	"github.com/ez-api/ez-api/catalog"
)

// shelf holds the documents of one kind in a View, ready for use, under K.
// Like a table it is never changed. What a kind needs is in its [binder].
type shelf[K comparable, V any] struct {
	binder binder[K, V]
	table  table[K, held[V]]
	sum    Digest // of the documents' hashes
}

// held is a document's content and what it adds to the sum.
type held[V any] struct {
	doc  V
	hash Digest
}

// binder says how documents of a kind are named and read.
type binder[K comparable, V any] struct {
	kind catalog.Kind
	name func(key string) (K, bool)                 // what stands for a document's key; false: it can be none
	hash func(K) uint64                             // uniform
	read func(r *docReader, d Document) (*V, error) // a document ready for use
}

func (s *shelf[K, V]) get(key K) *V {
	if h := s.table.get(s.binder.hash(key), key); h != nil {
		return &h.doc
	}
	return nil
}

// all iterates over the documents, in no particular order.
func (s *shelf[K, V]) all() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		for _, h := range s.table.all() {
			if !yield(&h.doc) {
				return
			}
		}
	}
}

// A kindShelf is a shelf of any kind.
type kindShelf interface {
	kind() catalog.Kind
	edit() kindEditor

	// prepare reads a change. It may be called concurrently. A document that the
	// shelf has already is not read again.
	prepare(r *docReader, c Change) (prepared, error)
}

// A kindEditor makes another shelf of one. It is for one goroutine.
type kindEditor interface {
	put(p prepared)
	sum() (documents int, digest Digest)
	store() // puts the shelf that was made in the place of the one that was edited
}

// prepared is a change that was read.
type prepared struct {
	kind int // index of the shelf
	hash uint64
	item any // *item[K, held[V]]; with gone of its key alone
	gone bool
}

func (s *shelf[K, V]) kind() catalog.Kind { return s.binder.kind }

func (s *shelf[K, V]) prepare(r *docReader, c Change) (prepared, error) {
	key, ok := s.binder.name(c.Key)
	if !ok {
		return prepared{}, fmt.Errorf("%s: %w: %w", name(c.Kind, c.Key), errKey, ErrCorrupt)
	}
	p := prepared{hash: s.binder.hash(key)}
	if c.Doc == nil {
		p.item, p.gone = &item[K, held[V]]{key: key}, true
		return p, nil
	}
	sum := r.keys.Hash(c.Kind, c.Key, c.Doc)
	if known := s.table.find(p.hash, key); known != nil && known.value.hash == sum {
		p.item = known
		return p, nil
	}
	doc, err := s.binder.read(r, Document(c))
	if err != nil {
		return prepared{}, err
	}
	p.item = &item[K, held[V]]{key, held[V]{*doc, sum}}
	return p, nil
}

func (s *shelf[K, V]) edit() kindEditor {
	return &shelfEditor[K, V]{shelf: s, table: s.table.edit(), total: s.sum}
}

type shelfEditor[K comparable, V any] struct {
	shelf *shelf[K, V]
	table *editor[K, held[V]]
	total Digest
}

func (e *shelfEditor[K, V]) put(p prepared) {
	it := p.item.(*item[K, held[V]])
	if old := e.table.get(p.hash, it.key); old != nil {
		e.total = e.total.Sub(old.hash)
	}
	if p.gone {
		e.table.remove(p.hash, it.key)
		return
	}
	e.total = e.total.Add(it.value.hash)
	e.table.put(p.hash, it)
}

func (e *shelfEditor[K, V]) sum() (documents int, digest Digest) { return e.table.n, e.total }

func (e *shelfEditor[K, V]) store() { e.shelf.table, e.shelf.sum = e.table.table(), e.total }
