package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// txn collects the writes of one transaction over one consistent reading.
type txn struct {
	core   *core
	reader Reader // nil in a transaction that does not read
	now    time.Time
	writes []*pendingWrite      // in order; nil where a new entity was deleted again
	places map[place]int        // of each entity's write
	held   map[heldValue]int64  // who holds a unique value by what was written
	listed map[listedBy][]int64 // which entities were written with a value that lists ask for

	ids     []int64 // reserved and not used yet
	missing int     // ids that were not reserved; the transaction has to run again

	groups   map[string]cause    // of providers, whose bindings are to be rendered again
	grown    map[string]*Key     // projects that have more keys, and the last that came
	projects map[string]*Project // that were looked up; nil where there is none
	pinned   map[place]*target   // entities that a plan says all of; nothing else changes them
	caps     []Cap               // that the commit has to keep
	takes    bool                // what is deleted may have something that goes with it
	warnings []pendingWarning
}

// pendingWrite is a write, and the records that it is made from. before is nil when the entity
// is new, after is nil when it is deleted.
type pendingWrite struct {
	Write
	before, after record
}

type place struct {
	kind Kind
	id   int64
}

type heldValue struct {
	kind  Kind
	by    Index
	value string
}

// mode says what a transaction reads, and what its commit depends on.
type mode int

const (
	blind   mode = iota // reads nothing
	guarded             // reads, and depends on the revisions of what it writes
	serial              // reads, and depends on everything: nothing may have come between
)

// transact calls fn and commits what it has written. While others change what
// the commit depends on, it begins again with a new reading, so fn may run again.
//
// Ids cannot be reserved while the reading is held open: it occupies a
// connection, and waiting for a second one may be waiting for ourselves. So a
// run that needs ids is given provisional ones, thrown away, and repeated with
// as many as it needed.
func (c *core) transact(ctx context.Context, m mode, fn func(*txn) error) (Revision, error) {
	var ids []int64
	for try := 1; ; try++ {
		tx := &txn{core: c, now: c.now(), ids: slices.Clone(ids)}
		base, err := tx.run(ctx, m, fn)
		if err != nil {
			return 0, err
		}
		if tx.missing > 0 {
			first, err := c.store.NextIDs(ctx, tx.missing)
			if err != nil {
				return 0, err
			}
			for i := range tx.missing {
				ids = append(ids, first+int64(i))
			}
			continue
		}
		if m != blind && len(tx.places) == 0 {
			tx.warn(ctx)
			return base, nil
		}
		if m != serial {
			base = 0
		}
		revision, err := c.commit(ctx, tx, base)
		if err == nil {
			tx.warn(ctx)
		}
		if m == blind || !tx.overtaken(err, try) {
			return revision, err
		}
		if err := pause(ctx, try); err != nil {
			return 0, err
		}
	}
}

// run calls fn once, and returns the revision that it has read.
func (tx *txn) run(ctx context.Context, m mode, fn func(*txn) error) (base Revision, err error) {
	if m == blind {
		return 0, fn(tx)
	}
	err = tx.core.store.Read(ctx, func(r Reader) error {
		base, tx.reader = r.Head().Revision, r
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.checkGrowth(ctx); err != nil {
			return err
		}
		return tx.checkRendering(ctx)
	})
	return base, err
}

// overtaken reports whether a commit failed, in one of several tries, because of what others
// may have done since it was read. What goes with an entity that is deleted, such as a hold, may
// have come meanwhile: then the entity is still referred to.
func (tx *txn) overtaken(err error, try int) bool {
	if errors.Is(err, ErrReferenced) {
		return tx.takes && !IsDangling(err) && try < maxTakes
	}
	return errors.Is(err, ErrConflict) && try < maxTries
}

// maxTries bounds how often a transaction runs again after a conflict.
const maxTries = 200

// maxTakes bounds how often it runs again because something still refers to what it deletes.
const maxTakes = 3

// pause waits a moment that grows with the number of tries.
func pause(ctx context.Context, try int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(time.Millisecond * time.Duration(min(try, 20)))):
		return nil
	}
}

func (c *core) commit(ctx context.Context, tx *txn, base Revision) (Revision, error) {
	name, reason := ActorFrom(ctx)
	commit := Commit{Base: base, Time: tx.now, Actor: name, Reason: reason, Caps: tx.caps}
	for _, w := range tx.writes {
		if w == nil {
			continue
		}
		if err := w.show(); err != nil {
			return 0, err
		}
		commit.Writes = append(commit.Writes, w.Write)
	}
	return c.store.Commit(ctx, commit)
}

// provisional ids are above all real ones, as new ids are.
const provisional = 1 << 62

// nextID returns an id for a new entity.
func (tx *txn) nextID(ctx context.Context) (int64, error) {
	if tx.reader == nil {
		return tx.core.store.NextIDs(ctx, 1)
	}
	if len(tx.ids) == 0 {
		tx.missing++
		return provisional + int64(tx.missing), nil
	}
	id := tx.ids[0]
	tx.ids = tx.ids[1:]
	return id, nil
}

// pending returns what the transaction has written of an entity, or nil.
func (tx *txn) pending(k Kind, id int64) *pendingWrite {
	if i, ok := tx.places[place{k, id}]; ok {
		return tx.writes[i]
	}
	return nil
}

func (tx *txn) get(ctx context.Context, k Kind, id int64) (Entity, error) {
	if w := tx.pending(k, id); w != nil {
		if w.Delete {
			return Entity{}, notFound(k, id)
		}
		return w.Entity, nil
	}
	return tx.reader.Get(ctx, k, id)
}

// fieldOf names a field of a record that is written, after the item of a plan that it comes from.
func (tx *txn) fieldOf(r record, field string) string {
	if t := tx.pinned[place{r.kind(), r.meta().ID}]; t != nil {
		return t.at + "." + field
	}
	return field
}

func notFound(k Kind, id int64) error { return fmt.Errorf("%s %d: %w", k.Noun(), id, ErrNotFound) }

func (tx *txn) find(ctx context.Context, k Kind, by Index, value string) (Entity, error) {
	if id, ok := tx.held[heldValue{k, by, value}]; ok {
		return tx.pending(k, id).Entity, nil
	}
	e, err := tx.reader.Find(ctx, k, by, value)
	if err == nil && tx.pending(k, e.ID) != nil { // it held the value before
		return Entity{}, fmt.Errorf("%s: %w", k.Noun(), ErrNotFound)
	}
	return e, err
}

// hold notes the unique values of a write, and forgets those of the one before it.
func (tx *txn) hold(before, after *pendingWrite) {
	if tx.held == nil {
		tx.held = map[heldValue]int64{}
	}
	each := func(w *pendingWrite, do func(heldValue)) {
		if w == nil || w.Delete {
			return
		}
		e := &w.Entity
		do(heldValue{e.Kind, ByNaturalKey, e.NaturalKey})
		do(heldValue{e.Kind, ByExternalID, e.ExternalID})
		for _, h := range e.Hashes {
			do(heldValue{e.Kind, ByHash, h})
		}
	}
	each(before, func(v heldValue) {
		if tx.held[v] == before.Entity.ID {
			delete(tx.held, v)
		}
	})
	each(after, func(v heldValue) {
		if v.value != "" {
			tx.held[v] = after.Entity.ID
		}
	})
}

func (tx *txn) list(ctx context.Context, k Kind, q Query) ([]Entity, error) {
	limit := q.Limit
	if limit > 0 {
		q.Limit += len(tx.writes) // as many may drop out
	}
	stored, err := tx.reader.List(ctx, k, q)
	if err != nil || len(tx.writes) == 0 {
		return stored, err
	}
	entities := slices.DeleteFunc(stored, func(e Entity) bool { return tx.pending(k, e.ID) != nil })
	for _, id := range tx.candidates(k, q) {
		if w := tx.pending(k, id); w != nil && !w.Delete && q.Match(w.Entity) {
			entities = append(entities, w.Entity)
		}
	}
	slices.SortFunc(entities, func(a, b Entity) int { return cmp.Compare(a.ID, b.ID) })
	if limit > 0 && len(entities) > limit {
		entities = entities[:limit]
	}
	return entities, nil
}

func (tx *txn) count(ctx context.Context, k Kind, q Query) (int64, error) {
	n, err := tx.reader.Count(ctx, k, q)
	if err != nil || len(tx.writes) == 0 {
		return n, err
	}
	written := q // those that it counted, and that were written since
	written.IDs = nil
	for _, w := range tx.writes {
		if w == nil || w.Entity.Kind != k {
			continue
		}
		if w.If != 0 && (len(q.IDs) == 0 || slices.Contains(q.IDs, w.Entity.ID)) {
			written.IDs = append(written.IDs, w.Entity.ID)
		}
		if !w.Delete && q.Match(w.Entity) {
			n++
		}
	}
	if len(written.IDs) == 0 {
		return n, nil
	}
	stale, err := tx.reader.Count(ctx, k, written)
	return n - stale, err
}

// write stores a record, in the place of before unless that is nil, and does
// what follows from it.
func (tx *txn) write(ctx context.Context, before, after record) error {
	if err := tx.put(before, after); err != nil {
		return err
	}
	return after.follow(ctx, tx, before, after)
}

// put writes a record. before is nil when it is new.
func (tx *txn) put(before, after record) error {
	w, err := tx.core.newWrite(before, after)
	if err == nil {
		err = w.show()
	}
	if err == nil {
		tx.record(w)
	}
	return err
}

// putQuietly writes a record of which people see no more and no less than before.
func (tx *txn) putQuietly(before, after record) error {
	w, err := tx.core.newWrite(before, after)
	if err != nil {
		return err
	}
	w.Quiet, after.meta().Revision = true, before.meta().Revision
	if err := w.show(); err != nil {
		return err
	}
	tx.record(w)
	return nil
}

// note is put for records that nobody else has: what the feed shows is made when it is committed,
// so that a plan that is only looked at costs less.
func (tx *txn) note(before, after record) error {
	w, err := tx.core.newWrite(before, after)
	if err == nil {
		tx.record(w)
	}
	return err
}

// newWrite makes the write of a record, but for what the feed shows of it. before is nil when it
// is new.
func (c *core) newWrite(before, after record) (*pendingWrite, error) {
	e, err := after.encode(c.keeper)
	if err != nil {
		return nil, err
	}
	change := Change{Action: ActionCreate, Kind: e.Kind, ID: e.ID, Touches: after.touches()}
	after.meta().Revision = 0 // it will be the change's
	if before != nil {
		change.Action, change.Touches = ActionUpdate, change.Touches.union(before.touches())
	}
	return &pendingWrite{Write{Entity: e, If: e.Revision, Change: change}, before, after}, nil
}

// show completes what the feed shows of the write.
func (w *pendingWrite) show() (err error) {
	c := &w.Change
	if w.before != nil && c.Before == nil {
		if c.Before, err = plainJSON(w.before); err != nil {
			return err
		}
	}
	if w.after != nil && c.After == nil {
		c.After, err = plainJSON(w.after)
	}
	return err
}

// delete removes a stored record, and does what follows from that.
func (tx *txn) delete(ctx context.Context, r record) error {
	if err := tx.remove(r); err != nil {
		return err
	}
	return tx.afterRemoval(ctx, r)
}

// afterRemoval removes what goes with records that were removed, and does what else follows.
func (tx *txn) afterRemoval(ctx context.Context, removed ...record) error {
	for _, k := range Kinds() {
		if !k.facts().goes {
			continue
		}
		var refs []string
		for _, r := range removed {
			if ref := k.RefTo(Entity{Kind: r.kind(), ID: r.meta().ID, NaturalKey: r.naturalKey()}); ref != "" {
				refs = append(refs, ref)
			}
		}
		tx.takes = tx.takes || len(refs) > 0
		for some := range slices.Chunk(refs, fetchSize) {
			if err := tx.removeReferring(ctx, k, some); err != nil {
				return err
			}
		}
	}
	for _, r := range removed {
		if err := r.follow(ctx, tx, r, nil); err != nil {
			return err
		}
	}
	return nil
}

// removeReferring removes the entities of a kind that have one of the Refs.
func (tx *txn) removeReferring(ctx context.Context, k Kind, refs []string) error {
	entities, err := tx.list(ctx, k, Query{Refs: refs})
	if err != nil {
		return err
	}
	for _, e := range entities {
		dependent, err := show(e, tx.core.keeper)
		if err != nil {
			return err
		}
		if err := tx.remove(dependent); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a stored record.
func (tx *txn) remove(before record) error {
	m := before.meta()
	w := &pendingWrite{Write{
		Entity: Entity{Kind: before.kind(), ID: m.ID}, Delete: true, If: m.Revision,
		Change: Change{Action: ActionDelete, Kind: before.kind(), ID: m.ID, Touches: before.touches()},
	}, before, nil}
	if err := w.show(); err != nil {
		return err
	}
	tx.record(w)
	return nil
}

// record adds a write. An entity is written once in a transaction: a second
// write takes the place of the first, and a new entity that is deleted again
// was never there.
func (tx *txn) record(w *pendingWrite) {
	at := place{w.Entity.Kind, w.Entity.ID}
	earlier := tx.pending(at.kind, at.id)
	tx.hold(earlier, w)
	tx.enlist(w)
	if at.kind == KindProject {
		tx.projects = nil // they may be other ones now
	}
	switch {
	case earlier == nil:
		if tx.places == nil {
			tx.places = map[place]int{}
		}
		tx.places[at] = len(tx.writes)
		tx.writes = append(tx.writes, w)
	case w.Delete && earlier.If == 0:
		tx.writes[tx.places[at]] = nil
		delete(tx.places, at)
	default:
		w.If, w.before = earlier.If, earlier.before
		w.Change.Before = earlier.Change.Before
		w.Change.Touches = w.Change.Touches.union(earlier.Change.Touches)
		if earlier.Change.Action == ActionCreate {
			w.Change.Action = ActionCreate
		}
		*earlier = *w
	}
}

// identify gives new entities their real ids in the place of the provisional ones, which are
// numbered from 1 on. What was written is made anew, because secrets are sealed with the id.
func (tx *txn) identify(first int64) error {
	for _, w := range tx.writes {
		if w == nil || w.Entity.ID <= provisional {
			continue
		}
		w.after.meta().ID = first + w.Entity.ID - provisional - 1
		final, err := tx.core.newWrite(nil, w.after)
		if err != nil {
			return err
		}
		*w = *final
	}
	return nil
}
