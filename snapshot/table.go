package snapshot

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
)

// table is a map that is never changed: what changes it makes another, which
// shares with it all but the path to what is different. It is a tree of fixed
// depth over the first 14 bits of a 64-bit hash; a leaf holds the items of its
// bits in the order of their hashes. At a million items a leaf has about 61, and
// a change of one item copies 4.5 KiB.
//
// Hashes must be uniform. The caller computes them, because some keys are
// hashes already.
type table[K comparable, V any] struct {
	root *[1 << rootBits]*branch[K, V]
	n    int
}

const (
	rootBits   = 8
	branchBits = 6
)

type branch[K comparable, V any] struct {
	leaves [1 << branchBits][]slot[K, V]
	owner  *editor[K, V] // may change the branch in place
	owned  uint64        // and of its leaves these
}

// slot has the hash beside the pointer, so that a search reads memory of
// other items only when hashes are equal.
type slot[K comparable, V any] struct {
	hash uint64
	item *item[K, V]
}

type item[K comparable, V any] struct {
	key   K
	value V
}

func path(hash uint64) (root, leaf int) {
	return int(hash >> (64 - rootBits)), int(hash >> (64 - rootBits - branchBits) & (1<<branchBits - 1))
}

// get returns the value under key, which must not be changed, or nil.
func (t table[K, V]) get(hash uint64, key K) *V {
	if it := t.find(hash, key); it != nil {
		return &it.value
	}
	return nil
}

// find returns the item under key, which must not be changed, or nil.
func (t table[K, V]) find(hash uint64, key K) *item[K, V] {
	if t.root == nil {
		return nil
	}
	r, l := path(hash)
	b := t.root[r]
	if b == nil {
		return nil
	}
	leaf := b.leaves[l]
	for i := guess(leaf, hash); i < len(leaf) && leaf[i].hash == hash; i++ {
		if leaf[i].item.key == key {
			return leaf[i].item
		}
	}
	return nil
}

// guess returns where the first slot with at least this hash is, or would be.
// Hashes are uniform, so it is near where proportion says.
func guess[K comparable, V any](leaf []slot[K, V], hash uint64) int {
	rest := hash << (rootBits + branchBits)
	at, _ := bits.Mul64(rest, uint64(len(leaf)))
	i := int(at)
	for i > 0 && leaf[i-1].hash >= hash {
		i--
	}
	for i < len(leaf) && leaf[i].hash < hash {
		i++
	}
	return i
}

// all iterates over the values in no particular order.
func (t table[K, V]) all() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		if t.root == nil {
			return
		}
		for _, b := range t.root {
			if b == nil {
				continue
			}
			for _, leaf := range b.leaves {
				for _, s := range leaf {
					if !yield(s.item.key, &s.item.value) {
						return
					}
				}
			}
		}
	}
}

// editor makes another table of one. What it has copied or made itself it
// changes in place, so that many changes cost little more than what they touch.
type editor[K comparable, V any] struct {
	root *[1 << rootBits]*branch[K, V]
	n    int
}

// edit returns an editor that starts from t.
func (t table[K, V]) edit() *editor[K, V] {
	e := &editor[K, V]{root: new([1 << rootBits]*branch[K, V]), n: t.n}
	if t.root != nil {
		*e.root = *t.root
	}
	return e
}

// table returns what was made. The editor cannot be used any more, and lets go
// of the table: the branches that name it as their owner live longer.
func (e *editor[K, V]) table() table[K, V] {
	t := table[K, V]{e.root, e.n}
	e.root = nil
	return t
}

// get returns the value under key as it is by now, or nil.
func (e *editor[K, V]) get(hash uint64, key K) *V { return table[K, V]{e.root, e.n}.get(hash, key) }

// put puts an item where its key is. Tables may share it.
func (e *editor[K, V]) put(hash uint64, it *item[K, V]) {
	leaf := e.leaf(hash)
	fresh := slot[K, V]{hash, it}
	i, found := find(*leaf, hash, it.key)
	if found {
		(*leaf)[i] = fresh
		return
	}
	*leaf = slices.Insert(*leaf, i, fresh)
	e.n++
}

// remove removes what is under key.
func (e *editor[K, V]) remove(hash uint64, key K) {
	if e.get(hash, key) == nil {
		return
	}
	leaf := e.leaf(hash)
	if i, found := find(*leaf, hash, key); found {
		*leaf = slices.Delete(*leaf, i, i+1)
		e.n--
	}
}

func find[K comparable, V any](leaf []slot[K, V], hash uint64, key K) (at int, found bool) {
	at = sort.Search(len(leaf), func(i int) bool { return leaf[i].hash >= hash })
	for ; at < len(leaf) && leaf[at].hash == hash; at++ {
		if leaf[at].item.key == key {
			return at, true
		}
	}
	return at, false
}

// leaf returns the leaf of a hash, ready to be changed.
func (e *editor[K, V]) leaf(hash uint64) *[]slot[K, V] {
	r, l := path(hash)
	b := e.root[r]
	switch {
	case b == nil:
		b = &branch[K, V]{owner: e, owned: ^uint64(0)}
		e.root[r] = b
	case b.owner != e:
		b = &branch[K, V]{leaves: b.leaves, owner: e}
		e.root[r] = b
	}
	if bit := uint64(1) << l; b.owned&bit == 0 {
		b.leaves[l] = slices.Clone(b.leaves[l])
		b.owned |= bit
	}
	return &b.leaves[l]
}
