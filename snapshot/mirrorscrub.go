package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// scrubAlways compares what the region has with what was carried there, until ctx ends: often
// while there are few documents, and at once when a data plane complains.
func (m *Mirror) scrubAlways(ctx context.Context) {
	var next time.Time
	for ctx.Err() == nil {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-m.scrubs:
			asked = true
		case <-time.After(between(scrubOften, scrubOften*9/8)):
		}
		start := time.Now()
		if !asked && start.Before(next) {
			continue
		}
		documents, err := m.scrub(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.WarnContext(ctx, "the region could not be compared with its source", "error", err)
		}
		if next = start; documents > scrubFew {
			next = start.Add(scrubRarely)
		}
	}
}

func (m *Mirror) askScrub() {
	select {
	case m.scrubs <- struct{}{}:
	default: // it is asked for
	}
}

// scrub compares once, and repairs. It returns how many documents there are.
func (m *Mirror) scrub(ctx context.Context) (documents int, err error) {
	m.mu.Lock()
	at, held := m.at, m.held
	m.mu.Unlock()
	if held == nil {
		return 0, nil
	}
	documents = at.Counts.Total()
	pace := newPace(documents, func() {})
	for kind := range at.Counts {
		suspects, missing, err := m.compare(ctx, held, kind, pace)
		if err == nil && missing {
			err = errDifferent
		}
		if err == nil && len(suspects) > 0 {
			err = m.mend(ctx, kind, suspects)
		}
		if errors.Is(err, errDifferent) || errors.Is(err, errRegion) {
			m.log.WarnContext(ctx, "documents are missing or damaged in the region, which is made anew", "kind", string(kind))
			m.mu.Lock()
			m.held = nil // the next step compares all
			if m.interrupt != nil {
				m.interrupt(errElsewhere)
			}
			m.mu.Unlock()
			return documents, nil
		}
		if err != nil {
			return documents, err
		}
	}
	return documents, nil
}

// compare returns the keys of documents that are not as they were carried, and whether some are
// missing. What is carried meanwhile may be among them.
func (m *Mirror) compare(ctx context.Context, held *carried, kind catalog.Kind, pace *pace) (suspects []string,
	missing bool, err error) {
	m.mu.Lock()
	held.begin(kind)
	m.mu.Unlock()
	batch := make([]Change, 0, scrubBatch)
	check := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range batch {
			if want, ok := held.see(kind, c.Key); !ok || want != held.hash(c) {
				suspects = append(suspects, c.Key)
			}
		}
		batch = batch[:0]
	}
	for d, err := range m.dst.Documents(ctx, kind) {
		if err != nil {
			return nil, false, regionError(err)
		}
		if batch = append(batch, Change(d)); len(batch) == scrubBatch {
			check()
			if !pace.rest(ctx, scrubBatch) {
				return nil, false, ctx.Err()
			}
		}
		if len(suspects) > maxDifferent {
			return nil, true, nil
		}
	}
	check()
	m.mu.Lock()
	defer m.mu.Unlock()
	return suspects, held.unseen(kind) > 0, nil
}

// mend looks at suspects again, while nothing is carried, and writes those that are still wrong.
func (m *Mirror) mend(ctx context.Context, kind catalog.Kind, suspects []string) error {
	for part := range slices.Chunk(suspects, scrubBatch) {
		n, err := m.mendSome(ctx, kind, part)
		switch {
		case errors.Is(err, ErrStale):
			return nil // it has moved meanwhile; the next pass finds what is left
		case err != nil:
			return err
		}
		if n > 0 {
			m.log.WarnContext(ctx, "documents of the region were put right", "kind", string(kind), "documents", n)
		}
	}
	return nil
}

func (m *Mirror) mendSome(ctx context.Context, kind catalog.Kind, suspects []string) (n int, err error) {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	at, held := m.at, m.held // nobody changes it while this writes
	m.mu.Unlock()
	if held == nil {
		return 0, nil // the next step compares all
	}
	there, err := lookupAll(ctx, m.dst, kind, suspects)
	if err != nil {
		return 0, regionError(err)
	}
	var wrong []string
	var changes []Change
	for _, key := range suspects {
		want, wanted := held.get(kind, key)
		doc, found := there[key]
		switch {
		case !wanted && found:
			changes = append(changes, Change{Kind: kind, Key: key})
		case wanted && (!found || held.hash(Change{kind, key, doc}) != want):
			wrong = append(wrong, key)
		}
	}
	good, err := lookupAll(ctx, m.src, kind, wrong)
	if err != nil {
		return 0, fmt.Errorf("read the source: %w", err)
	}
	for key, doc := range good {
		c := Change{kind, key, doc}
		if want, ok := held.get(kind, key); ok && held.hash(c) == want { // else the source has moved on
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return 0, nil
	}
	if err := m.dst.Repair(ctx, at.Base(), changes); err != nil {
		return 0, fmt.Errorf("repair the region: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Repaired += int64(len(changes))
	return len(changes), nil
}

// lookupAll returns single documents by their keys.
func lookupAll(ctx context.Context, src Source, kind catalog.Kind, keys []string) (map[string][]byte, error) {
	docs := map[string][]byte{}
	if len(keys) == 0 {
		return docs, nil
	}
	found, err := src.Lookup(ctx, kind, keys...)
	for _, d := range found {
		docs[d.Key] = d.Doc
	}
	return docs, err
}
