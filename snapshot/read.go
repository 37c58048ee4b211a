//go:build !noWatcher

package snapshot

import (
	"fmt"
	"iter"
	"runtime"

	"github.com/ez-api/ez-api/catalog"
)

// read is a change that was decoded and hashed.
type read struct {
	Change
	value any    // *Key, *Provider, *ModelDoc, *binding, or *struct{} of a kind that is not known; nil of a deletion
	sum   Digest // what it adds to the digest
	err   error
}

// readChunk is how many changes are read at once; fewer are not worth a goroutine.
const readChunk = 1024

// readAll reads n changes, many of them on all processors, and yields them in order.
// It ends after an error.
func readAll(n int, change func(i int) Change, keys *Keys) iter.Seq[read] {
	return func(yield func(read) bool) {
		workers := min(runtime.GOMAXPROCS(0), (n+readChunk-1)/readChunk)
		if workers < 2 {
			r := newDocReader(keys)
			for i := range n {
				if got := r.read(change(i)); !yield(got) || got.err != nil {
					return
				}
			}
			return
		}
		// Worker w reads chunks w, w+workers, w+2·workers…, so they come in order in turn.
		done := make(chan struct{})
		chunks := make([]chan []read, workers)
		for w := range chunks {
			chunks[w] = make(chan []read, 1)
			go func() {
				defer close(chunks[w])
				r := newDocReader(keys)
				for from := w * readChunk; from < n; from += workers * readChunk {
					chunk := make([]read, 0, min(readChunk, n-from))
					for i := from; i < min(from+readChunk, n); i++ {
						chunk = append(chunk, r.read(change(i)))
					}
					select {
					case chunks[w] <- chunk:
					case <-done:
						return
					}
				}
			}()
		}
		defer func() {
			close(done)
			for _, c := range chunks {
				for range c { // until its worker has ended
				}
			}
		}()
		for i := 0; i*readChunk < n; i++ {
			for _, got := range <-chunks[i%workers] {
				if !yield(got) || got.err != nil {
					return
				}
			}
		}
	}
}

// docReader reads documents. It is for one goroutine.
type docReader struct {
	keys   *Keys
	intern interner
}

func newDocReader(keys *Keys) docReader { return docReader{keys, newInterner()} }

func (r docReader) read(c Change) read {
	if c.Kind == catalog.KindKey || c.Kind == catalog.KindProvider {
		_, isHash := tokenHash(c.Key)
		_, isID := providerID(c.Key)
		if c.Kind == catalog.KindKey && !isHash || c.Kind == catalog.KindProvider && !isID {
			return read{err: fmt.Errorf("%s: %w: %w", name(c.Kind, c.Key), errKey, ErrCorrupt)}
		}
	}
	if c.Doc == nil {
		return read{Change: c}
	}
	value, err := r.value(Document(c))
	if err != nil {
		return read{err: err}
	}
	return read{Change: c, value: value, sum: r.keys.Hash(c.Kind, c.Key, c.Doc)}
}

// value returns a document ready for use.
func (r docReader) value(d Document) (any, error) {
	switch d.Kind {
	case catalog.KindKey:
		doc, err := Decode[KeyDoc](d)
		if err != nil {
			return nil, err
		}
		return newKey(doc, r.intern)
	case catalog.KindProvider:
		doc, err := Decode[ProviderDoc](d)
		if err != nil {
			return nil, err
		}
		secret, err := r.keys.Open(doc.SealedAPIKey, sealedField(d.Key))
		if err != nil {
			return nil, err
		}
		doc.SealedAPIKey = ""
		return &Provider{*doc, catalog.NewSecret(secret)}, nil
	case catalog.KindModel:
		return Decode[ModelDoc](d)
	case catalog.KindBinding:
		doc, err := Decode[BindingDoc](d)
		if err != nil {
			return nil, err
		}
		return newBinding(doc), nil
	default:
		return new(struct{}), nil
	}
}
