package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ez-api/ez-api/catalog"
)

// maxDifferent is how many documents may be different in the region before the
// whole is published there.
const maxDifferent = 10_000

// errDifferent says that more are.
var errDifferent = errors.New("too many documents are different")

// carryWhole makes the region what the source has. Where the region's head is good, what is
// different is written alone: no data plane has to load anew.
func (m *Mirror) carryWhole(ctx context.Context) error {
	m.mu.Lock()
	m.held = nil
	m.mu.Unlock()
	base, region, err := m.region(ctx)
	if err != nil {
		return err
	}
	l := &mirrorLoader{m: m, ctx: ctx, base: base, region: region, compare: true}
	defer l.discard()
	err = m.src.Load(ctx, l)
	if errors.Is(err, errDifferent) || errors.Is(err, errRegion) || errors.Is(err, ErrTooLarge) {
		m.log.DebugContext(ctx, "the whole is published in the region", "error", err)
		l.compare = false
		err = m.src.Load(ctx, l)
	}
	if err != nil {
		return fmt.Errorf("carry the whole: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at, m.held = l.head, &l.held
	m.status.Wholes += l.wholes
	m.status.Repaired += l.repaired
	return nil
}

// region returns the base of what the region has, and its head; the zero Head
// when there is none that is worth anything.
func (m *Mirror) region(ctx context.Context) (Base, Head, error) {
	head, err := m.dst.Head(ctx)
	switch {
	case errors.Is(err, ErrNone):
		return Base{}, Head{}, nil
	case errors.Is(err, ErrCorrupt):
		return head.Base(), Head{}, nil
	case err != nil:
		return Base{}, Head{}, fmt.Errorf("read the region's head: %w", err)
	}
	if err := m.verify(head); err != nil {
		m.log.WarnContext(ctx, "the region's head does not verify and is replaced", "error", err)
		return head.Base(), Head{}, nil
	}
	return head.Base(), head, nil
}

var (
	// errRegion says that the region's documents cannot be read, because a key there is of another type,
	// say, or that they do not add up.
	errRegion = errors.New("the region's documents are damaged")

	// errBefore says that the source is not as far as the region.
	errBefore = errors.New("the source is before what the region has; waiting for it")
)

// mirrorLoader publishes in the region what it is given: only what is different there, or
// the whole.
type mirrorLoader struct {
	m       *Mirror
	ctx     context.Context // of the load, which is the loader's life
	base    Base            // of what the region has
	region  Head            // the same; zero when it is worth nothing
	compare bool            // write what is different alone, where that can be

	held      carried // documents of the source
	comparing bool
	there     carried            // documents of the region, while comparing
	different map[docName][]byte // what to write there; nil is to be deleted
	staging   Staging            // while not comparing

	head             Head
	wholes, repaired int64
}

func (l *mirrorLoader) Begin(head Head) ([]catalog.Kind, error) {
	l.discard()
	if err := l.m.verify(head); err != nil {
		return nil, err
	}
	if err := l.mayReplace(head); err != nil && !l.m.outlasts(l.region, head, time.Now()) {
		return nil, err
	} else if err != nil {
		l.m.log.WarnContext(l.ctx, "the region's head is damaged and is replaced", "error", err)
		l.region = Head{}
	}
	known := l.region.Format != 0
	kinds := slices.Sorted(maps.Keys(head.Counts))
	l.held = newCarried(l.m.keys, head)
	l.comparing = l.compare && known && l.region.Store == head.Store && l.region.Seal == head.Seal &&
		(l.region.Position != head.Position || l.region.Equal(head))
	if l.comparing {
		l.there, l.different = newCarried(l.m.keys, head), map[docName][]byte{}
		return kinds, l.readRegion(kinds)
	}
	staging, err := l.m.dst.Stage(l.ctx)
	if err != nil { // then what else was returned is nothing to be discarded
		return nil, publishError(err)
	}
	l.staging = staging
	return kinds, nil
}

// mayReplace says what keeps a head of the source from the place of the region's.
func (l *mirrorLoader) mayReplace(head Head) error {
	switch {
	case l.region.Format == 0:
		return nil
	case head.Store != l.region.Store && !head.Forced:
		return fmt.Errorf("the source has another catalog than the region, and nobody forced that: %w", errRefused)
	case l.region.Position.After(head.Position):
		return fmt.Errorf("the source is at %s, the region at %s: %w", head.Position, l.region.Position, errBefore)
	}
	return nil
}

// doubt is a head of the region that stands in the source's way.
type doubt struct {
	head  Head
	since time.Time
}

// outlasts reports whether a head of the region that stands in the source's way is damage, and not
// something newer. A head that a mirror with keys has verified is never damage. Any other head,
// also one that this mirror has carried, is damage if it stays the same for as long as a failover
// of the source may take, while beats of the source still come: its control planes would publish
// beyond whatever they had published. The head of another catalog is damage only if this
// mirror has already carried the source's catalog, or if the head names the very commit that the
// source has.
func (m *Mirror) outlasts(region, head Head, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	carried := m.at.Store == head.Store
	switch {
	case m.keys.Active() != "":
		return false
	case region.Store != head.Store && !carried && region.Mark != head.Mark:
		return false
	}
	if !m.doubted.head.Equal(region) {
		m.doubted = doubt{region, now}
	}
	patience := lifePatience
	if carried && !m.at.Equal(region) {
		patience = oddPatience
	}
	return now.Sub(m.doubted.since) >= patience && now.Sub(m.beatCame) < lifePatience
}

// readRegion notes what the region has.
func (l *mirrorLoader) readRegion(kinds []catalog.Kind) error {
	for _, kind := range kinds {
		for d, err := range l.m.dst.Documents(l.ctx, kind) {
			if err != nil {
				return regionError(err)
			}
			l.there.take([]Change{Change(d)})
		}
		l.there.begin(kind)
	}
	return nil
}

func (l *mirrorLoader) Add(changes []Change) error {
	l.held.take(changes)
	if !l.comparing {
		if err := l.staging.Add(l.ctx, changes); err != nil {
			return publishError(err)
		}
		return nil
	}
	for _, c := range changes {
		was, there := l.there.see(c.Kind, c.Key)
		name := docName{c.Kind, c.Key}
		if same := there == (c.Doc != nil) && (!there || was == l.there.hash(c)); same {
			delete(l.different, name)
		} else {
			l.different[name] = c.Doc
		}
	}
	if len(l.different) > maxDifferent {
		return errDifferent
	}
	return nil
}

func (l *mirrorLoader) End(head Head) error {
	if err := l.m.verify(head); err != nil {
		return err
	}
	if err := l.held.fits(head); err != nil {
		return err
	}
	var err error
	if l.comparing {
		err = l.publishDifferent(head)
	} else {
		err = l.staging.Publish(l.ctx, l.base, head)
		l.wholes++
	}
	if errors.Is(err, ErrCorrupt) {
		return regionError(err)
	}
	if err != nil {
		return publishError(err)
	}
	l.head = head
	return nil
}

// publishDifferent writes what is different, at the region's position when the
// source is there, else as a delta.
func (l *mirrorLoader) publishDifferent(head Head) error {
	if err := l.findSurplus(head); err != nil {
		return err
	}
	if len(l.different) > maxDifferent {
		return errDifferent
	}
	changes := make([]Change, 0, len(l.different))
	for name, doc := range l.different {
		changes = append(changes, Change{name.kind, name.key, doc})
	}
	changes = inOrder(changes)
	if l.region.Equal(head) {
		if l.repaired = int64(len(changes)); l.repaired == 0 {
			return nil
		}
		return l.m.dst.Repair(l.ctx, l.base, changes)
	}
	return l.m.dst.Apply(l.ctx, l.base, Delta{From: l.region.Position, Head: head, Changes: changes})
}

// regionError says what an error of reading the region's documents means, or one that says that
// they do not add up.
func regionError(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %v", errRegion, err) // not ErrCorrupt: nothing of the source is to be read again
	}
	return fmt.Errorf("read the region: %w", err)
}

func publishError(err error) error { return fmt.Errorf("publish in the region: %w", err) }

// findSurplus finds documents of the region that the source does not have.
func (l *mirrorLoader) findSurplus(head Head) error {
	for kind := range head.Counts {
		if l.there.unseen(kind) == 0 {
			continue
		}
		for d, err := range l.m.dst.Documents(l.ctx, kind) {
			if err != nil {
				return regionError(err)
			}
			if _, held := l.held.get(kind, d.Key); !held {
				l.different[docName{kind, d.Key}] = nil
			}
			if len(l.different) > maxDifferent || !utf8.ValidString(d.Key) { // such a name cannot be written
				return errDifferent
			}
		}
	}
	return nil
}

func (l *mirrorLoader) discard() {
	if l.staging != nil {
		l.staging.Discard(l.ctx)
		l.staging = nil
	}
}
