package snapshot

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/ez-api/ez-api/catalog"
)

// ledger holds, for every document of a rendering, its hash, and for every kind
// their number and their sum. It is what a relay knows of what should be published: it
// never learns anything from the publisher.
//
// A document is found by 95 bits of a keyed hash of its name, so that one costs
// 44 bytes in a table that is 74 to 85 % full: below 60 bytes, whatever the length of the name. Two of ten
// million names collide with a probability of 10^-15.
//
// A ledger is not safe for concurrent use.
type ledger struct {
	seed  [16]byte
	kinds map[catalog.Kind]*ledgerKind
}

type ledgerKind struct {
	n      int
	sum    Digest
	shards [ledgerShards]ledgerShard
}

const ledgerShards = 256

// ledgerShard is a hash table with linear probing.
type ledgerShard struct {
	n     int
	slots []ledgerSlot
}

// ledgerSlot is empty when its name is zero. The last bit of the name is set
// while the document was not seen since [ledger.begin].
type ledgerSlot struct {
	name ledgerName
	hash Digest
}

type ledgerName [12]byte

const ledgerUnseen = 1 // in the name's last byte

func (n ledgerName) unmarked() ledgerName {
	n[len(n)-1] &^= ledgerUnseen
	return n
}

func (n ledgerName) unseen() bool { return n[len(n)-1]&ledgerUnseen != 0 }

func newLedger() *ledger {
	l := &ledger{kinds: map[catalog.Kind]*ledgerKind{}}
	_, _ = rand.Read(l.seed[:]) // never fails
	for _, kind := range Kinds() {
		l.kinds[kind] = &ledgerKind{}
	}
	return l
}

// name returns what a document's name is found by.
func (l *ledger) name(key string) ledgerName {
	var buf [128]byte
	sum := sha256.Sum256(append(append(buf[:0], l.seed[:]...), key...))
	name := ledgerName(sum[:len(ledgerName{})]).unmarked()
	if name == (ledgerName{}) {
		name[0] = 1
	}
	return name
}

func (l *ledger) kind(kind catalog.Kind) *ledgerKind {
	k := l.kinds[kind]
	if k == nil {
		k = &ledgerKind{}
		l.kinds[kind] = k
	}
	return k
}

// get returns the hash of a document.
func (l *ledger) get(kind catalog.Kind, key string) (Digest, bool) {
	k, name := l.kind(kind), l.name(key)
	s := &k.shards[name[0]]
	if i, found := s.find(name); found {
		return s.slots[i].hash, true
	}
	return Digest{}, false
}

// put sets the hash of a document.
func (l *ledger) put(kind catalog.Kind, key string, hash Digest) {
	k, name := l.kind(kind), l.name(key)
	s := &k.shards[name[0]]
	if i, found := s.find(name); found {
		k.sum = k.sum.Sub(s.slots[i].hash).Add(hash)
		s.slots[i].hash = hash
		return
	}
	s.grow()
	i, _ := s.find(name)
	s.slots[i] = ledgerSlot{name, hash}
	s.n++
	k.n++
	k.sum = k.sum.Add(hash)
}

// remove takes a document away, if it is there.
func (l *ledger) remove(kind catalog.Kind, key string) {
	k, name := l.kind(kind), l.name(key)
	s := &k.shards[name[0]]
	i, found := s.find(name)
	if !found {
		return
	}
	k.sum = k.sum.Sub(s.slots[i].hash)
	k.n--
	s.remove(i)
}

// counts returns how many documents of each kind there are.
func (l *ledger) counts() Counts {
	counts := Counts{}
	for kind, k := range l.kinds {
		counts[kind] = k.n
	}
	return counts
}

// digests returns what is published of the sums.
func (l *ledger) digests(keys *Keys) Digests {
	digests := Digests{}
	for kind, k := range l.kinds {
		digests[kind] = keys.Digest(kind, k.sum)
	}
	return digests
}

// begin starts a pass over a kind: nothing of it has been seen. What is put
// later counts as seen.
func (l *ledger) begin(kind catalog.Kind) {
	k := l.kind(kind)
	for i := range k.shards {
		slots := k.shards[i].slots
		for j := range slots {
			if slots[j].name != (ledgerName{}) {
				slots[j].name[len(ledgerName{})-1] |= ledgerUnseen
			}
		}
	}
}

// see marks a document as seen in the present pass, and returns its hash.
func (l *ledger) see(kind catalog.Kind, key string) (Digest, bool) {
	k, name := l.kind(kind), l.name(key)
	s := &k.shards[name[0]]
	i, found := s.find(name)
	if !found {
		return Digest{}, false
	}
	s.slots[i].name = name
	return s.slots[i].hash, true
}

// unseen returns how many documents the present pass has not seen.
func (l *ledger) unseen(kind catalog.Kind) (n int) {
	k := l.kind(kind)
	for i := range k.shards {
		for _, slot := range k.shards[i].slots {
			if slot.name.unseen() {
				n++
			}
		}
	}
	return n
}

// isUnseen reports whether the present pass has not seen a document that is there.
func (l *ledger) isUnseen(kind catalog.Kind, key string) bool {
	k, name := l.kind(kind), l.name(key)
	s := &k.shards[name[0]]
	i, found := s.find(name)
	return found && s.slots[i].name.unseen()
}

// home is the slot in which a name is looked for first.
func (s *ledgerShard) home(name ledgerName) int {
	at, _ := bits.Mul64(binary.BigEndian.Uint64(name[1:]), uint64(len(s.slots)))
	return int(at)
}

// find returns the slot of a name, or the one that it would be put into.
func (s *ledgerShard) find(name ledgerName) (at int, found bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	for i := s.home(name); ; i = s.next(i) {
		switch s.slots[i].name.unmarked() {
		case name:
			return i, true
		case ledgerName{}:
			return i, false
		}
	}
}

func (s *ledgerShard) next(i int) int {
	if i++; i == len(s.slots) {
		return 0
	}
	return i
}

// grow makes room for one more.
func (s *ledgerShard) grow() {
	if (s.n+1)*100 <= len(s.slots)*85 {
		return
	}
	old := s.slots
	s.slots = make([]ledgerSlot, len(old)+len(old)/7+8)
	for _, slot := range old {
		if slot.name != (ledgerName{}) {
			i, _ := s.find(slot.name.unmarked())
			s.slots[i] = slot
		}
	}
}

// remove empties a slot, and moves into it what would not be found any more.
func (s *ledgerShard) remove(hole int) {
	s.n--
	for i := s.next(hole); s.slots[i].name != (ledgerName{}); i = s.next(i) {
		home := s.home(s.slots[i].name.unmarked())
		// It may move when its home is not after the hole, going round.
		if hole <= i && (home <= hole || home > i) || hole > i && home <= hole && home > i {
			s.slots[hole] = s.slots[i]
			hole = i
		}
	}
	s.slots[hole] = ledgerSlot{}
}
