package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"
)

// PriceHistory is what everything cost at any time that the change feed still tells of. It
// does not follow the catalog, and is safe for concurrent use.
type PriceHistory struct {
	begins    time.Time // before it, nothing is known; zero: it reaches back to the empty catalog
	epoch     Epoch
	revisions []era[struct{}]
	models    map[modelName][]era[*Prices]
	providers map[int64][]era[*providerPrices]
}

// An era says what held from a revision on, until the next era.
type era[T any] struct {
	from     time.Time
	revision Revision
	exists   bool
	value    T
}

// maxPriceChanges is how many changes of prices a history may hold in memory.
const maxPriceChanges = 500_000

// ReadPriceHistory reads the history of prices from the change feed. It returns an error that
// wraps ErrTooMany when more prices have changed than it can hold.
func ReadPriceHistory(ctx context.Context, store Store) (h *PriceHistory, err error) {
	err = store.Read(ctx, func(r Reader) error {
		h, err = readPriceHistory(ctx, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: read the history of prices: %w", err)
	}
	return h, nil
}

func readPriceHistory(ctx context.Context, r Reader) (*PriceHistory, error) {
	first, err := firstRevision(ctx, r)
	if err != nil {
		return nil, err
	}
	h := &PriceHistory{
		epoch: r.Head().Epoch, models: make(map[modelName][]era[*Prices]), providers: make(map[int64][]era[*providerPrices]),
	}
	changes, err := h.readChanges(ctx, r, first)
	if err != nil {
		return nil, err
	}
	if first == 0 {
		h.begins = time.Time{}
	}
	book := NewPriceList()
	if err := book.Load(ctx, r); err != nil {
		return nil, err
	}
	for _, c := range slices.Backward(changes) { // back to what the feed begins with
		book.remove(c.Kind, c.ID)
		if len(c.Before) > 0 {
			before := c
			before.After = c.Before
			book.put(pricedIn(&before))
		}
	}
	h.recordAll(book, first, h.begins)
	for i := 0; i < len(changes); { // and on, revision by revision
		n := i
		for n < len(changes) && changes[n].Revision == changes[i].Revision {
			n++
		}
		names, ids := touchedPrices(book, changes[i:n])
		book.take(changes[i:n], changes[i].Revision)
		more, moreIDs := touchedPrices(book, changes[i:n])
		h.record(book, changes[i].Revision, changes[i].Time, append(names, more...), append(ids, moreIDs...))
		i = n
	}
	return h, nil
}

// firstRevision returns the oldest revision after which the feed has everything.
func firstRevision(ctx context.Context, r Reader) (Revision, error) {
	var failed error
	head := r.Head().Revision
	n := sort.Search(int(head), func(at int) bool { // revisions are pruned from the oldest on
		_, err := r.Changes(ctx, Cursor{Revision: Revision(at)}, 1)
		if err != nil && !errors.Is(err, ErrCompacted) {
			failed = err
		}
		return err == nil
	})
	return Revision(n), failed
}

// readChanges returns the changes of models and providers since a revision, in order, and notes
// when the history begins, and when each revision was made. The clocks of servers may differ:
// a change that comes later is at least as late.
func (h *PriceHistory) readChanges(ctx context.Context, r Reader, after Revision) (all []Change, err error) {
	var latest time.Time
	h.revisions = append(h.revisions, era[struct{}]{revision: after})
	for at := (Cursor{Revision: after}); ; {
		page, err := r.Changes(ctx, at, feedPage)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, c := range page {
			if c.Time.After(latest) {
				latest = c.Time
			}
			if h.begins.IsZero() {
				h.begins = latest
			}
			if c.Revision > h.revisions[len(h.revisions)-1].revision {
				h.revisions = append(h.revisions, era[struct{}]{from: latest, revision: c.Revision})
			}
			if c.Kind == KindModel || c.Kind == KindProvider {
				c.Time = latest
				all = append(all, c)
			}
		}
		if len(all) > maxPriceChanges {
			return nil, fmt.Errorf("more than %d changes of models and providers: %w", maxPriceChanges, ErrTooMany)
		}
		at = page[len(page)-1].Cursor()
	}
	return all, nil
}

// ErrTooMany says that something is larger than it may be.
var ErrTooMany = errors.New("too many")

// touchedPrices returns what of a book some changes are about.
func touchedPrices(book *PriceList, changes []Change) (names []modelName, ids []int64) {
	for _, c := range changes {
		if name, ok := book.names[c.ID]; ok && c.Kind == KindModel {
			names = append(names, name)
		}
		if c.Kind == KindProvider {
			ids = append(ids, c.ID)
		}
	}
	return names, ids
}

// recordAll notes all that a book says from a revision on.
func (h *PriceHistory) recordAll(book *PriceList, revision Revision, from time.Time) {
	h.record(book, revision, from, slices.Collect(maps.Keys(book.models)), slices.Collect(maps.Keys(book.providers)))
}

// record notes what a book says of some names and ids from a revision on.
func (h *PriceHistory) record(book *PriceList, revision Revision, from time.Time, names []modelName, ids []int64) {
	for _, name := range names {
		prices, ok := book.model(name)
		h.models[name] = append(h.models[name], era[*Prices]{from, revision, ok, prices})
	}
	for _, id := range ids {
		p := book.provider(id)
		h.providers[id] = append(h.providers[id], era[*providerPrices]{from, revision, p != nil, p})
	}
}

// Begins returns the time before which the feed does not tell what things cost; zero when it
// reaches back to the empty catalog.
func (h *PriceHistory) Begins() time.Time { return h.begins }

// Quote returns the record that priced a request at a time, as [PriceList.Quote] does now. It is
// not ok before the history begins.
func (h *PriceHistory) Quote(k PriceKey, at time.Time) (q Quote, ok bool) {
	if at.Before(h.begins) {
		return Quote{}, false
	}
	q = Quote{Prices: findPrices(pricesAt{h, at}, k), Epoch: h.epoch}
	if e := eraAt(h.revisions, at); e != nil {
		q.Revision = e.revision
	}
	return q, true
}

// pricesAt are the prices at a time.
type pricesAt struct {
	*PriceHistory
	at time.Time
}

func (p pricesAt) model(name modelName) (*Prices, bool) {
	if e := eraAt(p.models[name], p.at); e != nil {
		return e.value, e.exists
	}
	return nil, false
}

func (p pricesAt) provider(id int64) *providerPrices {
	if e := eraAt(p.providers[id], p.at); e != nil {
		return e.value
	}
	return nil
}

// eraAt returns the last era that had begun at a time; nil when none had.
func eraAt[T any](eras []era[T], at time.Time) *era[T] {
	n := sort.Search(len(eras), func(i int) bool { return eras[i].from.After(at) })
	if n == 0 {
		return nil
	}
	return &eras[n-1]
}
