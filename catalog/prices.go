package catalog

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// PriceList is a small table of what the models cost, kept in memory and
// following the catalog, for whoever has to know without asking a database. It is empty until
// the first Refresh. A PriceList is safe for concurrent use.
type PriceList struct {
	tables *Tables
	state  atomic.Pointer[priceState]
}

type priceState struct {
	head   Head
	models map[modelName]Prices
}

type modelName struct{ namespace, name string }

// NewPriceList returns an empty list of the prices in the catalog.
func NewPriceList(t *Tables) *PriceList {
	l := &PriceList{tables: t}
	l.state.Store(&priceState{})
	return l
}

// Get returns the prices of a model and the revision of the catalog that they
// were read at. It takes no lock and does not wait.
func (l *PriceList) Get(namespace, name string) (Prices, Revision, bool) {
	s := l.state.Load()
	p, ok := s.models[modelName{namespace, name}]
	return p, s.head.Revision, ok
}

// Refresh brings the list up to date and returns the revision it is at.
func (l *PriceList) Refresh(ctx context.Context) (Revision, error) {
	old := l.state.Load()
	fresh := &priceState{}
	err := l.tables.core.store.Read(ctx, func(r Reader) error {
		fresh.head, fresh.models = r.Head(), old.models
		if unchanged(ctx, r, old.head) {
			return nil
		}
		entities, err := r.List(ctx, KindModel, Query{})
		if err != nil {
			return err
		}
		fresh.models = make(map[modelName]Prices, len(entities))
		for _, e := range entities {
			m, err := l.tables.Models.Decode(e)
			if err != nil {
				return err
			}
			fresh.models[modelName{m.Namespace, m.Name}] = m.Prices
		}
		return nil
	})
	if err != nil {
		return old.head.Revision, err
	}
	if !l.state.CompareAndSwap(old, fresh) { // another was faster, and may know what is newer
		return l.Refresh(ctx)
	}
	return fresh.head.Revision, nil
}

// unchanged reports whether no model has changed since the head that was read
// last, of the same history. Any doubt counts as a change.
func unchanged(ctx context.Context, r Reader, since Head) bool {
	const few = 100 // beyond that, reading all models is no dearer
	head := r.Head()
	if since.Store != head.Store || head.Revision < since.Revision {
		return false
	}
	if mark, err := r.MarkAt(ctx, since.Revision); err != nil || mark != since.Mark {
		return false
	}
	changes, err := r.Changes(ctx, since.Revision, few)
	if err != nil || head.Revision > since.Revision && (len(changes) == 0 || changes[len(changes)-1].Revision != head.Revision) {
		return false
	}
	for _, c := range changes {
		if c.Kind == KindModel {
			return false
		}
	}
	return true
}

// Run follows the catalog until ctx ends, and returns nil then. While the store
// does not answer, the list stays as it is.
func (l *PriceList) Run(ctx context.Context, logger *slog.Logger) error {
	for ctx.Err() == nil {
		at, err := l.Refresh(ctx)
		if err == nil {
			_, err = l.tables.core.store.Wait(ctx, at)
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "price list: cannot follow the catalog", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}
