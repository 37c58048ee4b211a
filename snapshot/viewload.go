package snapshot

import (
	"context"

	"github.com/ez-api/ez-api/catalog"
)

// LoadView makes a View of what a source has, after it has verified the signature, counts,
// digests and every document. The keys open its secrets; nil is clear text.
// The error wraps [ErrCorrupt], [catalog.ErrSealed] when a sync key is
// missing, [ErrFormat], or is the source's.
func LoadView(ctx context.Context, src Source, keys *Keys) (*View, error) {
	l := &viewLoader{base: emptyView(nil), keys: keys}
	if err := src.Load(ctx, l); err != nil {
		return nil, err
	}
	return l.view, nil
}

// viewLoader is a [Loader] that makes a View in one pass: no document is kept as
// it came.
type viewLoader struct {
	base  *View // lends its settings, and the documents that are as they were
	keys  *Keys
	admit func(Head) error // whether a head may be served; nil is any that is verified
	copy  loadCopy         // also gets what is loaded; nil is nobody

	made *viewBuilder
	view *View // when loading has succeeded
}

var _ Loader = (*viewLoader)(nil)

// loadCopy is told what a loader is told.
type loadCopy interface {
	begin(head Head)
	add(changes []Change)
	end(head Head)
}

func (l *viewLoader) Begin(head Head) ([]catalog.Kind, error) {
	if err := l.check(head); err != nil {
		return nil, err
	}
	keys, err := l.keys.Activate(head.Seal)
	if err != nil {
		return nil, err
	}
	known := l.base
	if known.head.Seal != head.Seal {
		known = l.base.blank() // its hashes are others
	}
	l.made = newViewBuilder(l.base.blank(), known, keys)
	if l.copy != nil {
		l.copy.begin(head)
	}
	var kinds []catalog.Kind
	for _, kind := range Kinds() {
		if _, published := head.Counts[kind]; published {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

func (l *viewLoader) check(head Head) error {
	if err := checkFormat(head); err != nil {
		return err
	}
	if err := l.keys.VerifyHead(head); err != nil {
		return err
	}
	if l.admit != nil {
		return l.admit(head)
	}
	return nil
}

func (l *viewLoader) Add(changes []Change) error {
	if l.copy != nil {
		l.copy.add(changes)
	}
	return l.made.add(changes)
}

func (l *viewLoader) End(head Head) error {
	if err := l.check(head); err != nil {
		return err
	}
	if err := l.made.fits(head); err != nil {
		return err
	}
	l.view = l.made.done(head)
	if l.copy != nil {
		l.copy.end(head)
	}
	return nil
}
