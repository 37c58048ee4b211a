package snapshot

import (
	"fmt"
)

// carried tells whether documents are those of a head, for whoever passes them on
// without reading them. It is for one goroutine.
type carried struct {
	*ledger
	keys   *Keys // nil when the head's key is not held
	sealed bool  // digests cannot be verified without it
}

// newCarried returns what documents under the head are noted in.
func newCarried(keys *Keys, head Head) carried {
	held, err := keys.Activate(head.Seal)
	return carried{newLedger(), held, err != nil}
}

// hash returns what stands for a document's bytes.
func (l carried) hash(c Change) Digest { return l.keys.Hash(c.Kind, c.Key, c.Doc) }

// take notes changes.
func (l carried) take(changes []Change) {
	for _, c := range changes {
		if c.Doc == nil {
			l.remove(c.Kind, c.Key)
		} else {
			l.put(c.Kind, c.Key, l.hash(c))
		}
	}
}

// fits returns an error that wraps ErrCorrupt when the documents are not as many as the head
// says, or, as far as that can be told, not those.
func (l carried) fits(head Head) error {
	counts := l.counts()
	for kind, want := range head.Counts {
		if counts[kind] != want {
			return fmt.Errorf("there are %d documents of %s at %s, the head says %d: %w",
				counts[kind], kind, head.Position, want, ErrCorrupt)
		}
		if !l.sealed && l.keys.Digest(kind, l.kind(kind).sum) != head.Digest[kind] {
			return fmt.Errorf("the documents of %s at %s do not have the digest that the head says: %w",
				kind, head.Position, ErrCorrupt)
		}
	}
	return nil
}
