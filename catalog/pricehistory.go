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
// when the history begins, and when each revision was made.
func (h *PriceHistory) readChanges(ctx context.Context, r Reader, after Revision) (all []Change, err error) {
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
			if c.Revision > h.revisions[len(h.revisions)-1].revision {
				h.revisions = append(h.revisions, era[struct{}]{from: c.Time, revision: c.Revision})
			}
			if c.Kind == KindModel || c.Kind == KindProvider {
				all = append(all, c)
			}
		}
		if len(all) > maxPriceChanges {
			return nil, fmt.Errorf("more than %d changes of models and providers: %w", maxPriceChanges, ErrTooMany)
		}
		at = page[len(page)-1].Cursor()
	}
	made := h.revisions[1:]
	straightenDates(made, r.Now())
	if len(made) > 0 {
		h.begins = made[0].from
	}
	next := 0
	for i := range all {
		for made[next].revision < all[i].Revision {
			next++
		}
		all[i].Time = made[next].from
	}
	return all, nil
}

// straightenDates makes dates follow the order of the revisions. A server whose clock was wrong may
// have dated some ahead of what came after them, or before what came before. As many dates as possible
// are taken for right: the longest series that never goes back, and holds none that is still to come.
// The others become the nearest date that their neighbours in it allow.
func straightenDates(revisions []era[struct{}], now time.Time) {
	var ends []int // ends[n] is the last of the series of n+1 revisions that ends the earliest
	before := make([]int, len(revisions))
	for i, e := range revisions {
		if e.from.After(now) {
			continue
		}
		n := sort.Search(len(ends), func(n int) bool { return revisions[ends[n]].from.After(e.from) })
		if before[i] = -1; n > 0 {
			before[i] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, i)
		} else {
			ends[n] = i
		}
	}
	right, latest := -1, now
	if len(ends) > 0 {
		right = ends[len(ends)-1]
	}
	for i := len(revisions) - 1; i >= 0; i-- {
		e := &revisions[i]
		if i == right {
			latest, right = e.from, before[i]
			continue
		}
		if right >= 0 && e.from.Before(revisions[right].from) {
			e.from = revisions[right].from
		}
		if e.from.After(latest) {
			e.from = latest
		}
		latest = e.from
	}
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
