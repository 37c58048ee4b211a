package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Tables are typed access to a [Store]: they know the rules. A Tables is safe
// for concurrent use.
type Tables struct {
	Nouns

	core *core
}

// Nouns are a table for each of [Kinds].
type Nouns struct {
	Projects  Table[Project]
	Providers Table[Provider]
	Models    Table[Model]
	Bindings  Table[Binding]
	Keys      Keys
	Operators Operators
	Holds     Table[Hold]
}

// Options are the settings of [NewTables].
type Options struct {
	// AllowPrivateUpstreams accepts providers whose base_url is plain http or
	// leads to a loopback, private, link-local or other special address.
	// Defaults to false.
	AllowPrivateUpstreams bool

	// Clock tells the time. What is written is dated by the store's clock, see [Tables.Now]. Defaults
	// to time.Now.
	Clock func() time.Time

	// Logger is told what became of a commit that was answered with [ErrUnconfirmed]. Defaults to
	// [slog.Default].
	Logger *slog.Logger
}

type core struct {
	store  Store
	keeper Keeper
	rules  rules
	clock  storeClock
	seals  sealCounts
	hasher Hasher
	logger *slog.Logger

	commits commits
}

// NewTables returns typed access to the store. The keeper seals secrets before
// they reach it. A nil opts means the defaults.
func NewTables(store Store, keeper Keeper, opts *Options) *Tables {
	if opts == nil {
		opts = &Options{}
	}
	c := &core{store: store, keeper: keeper, rules: rules{opts.AllowPrivateUpstreams}, clock: storeClock{ours: opts.Clock}}
	if c.logger = opts.Logger; c.logger == nil {
		c.logger = slog.Default()
	}
	if c.clock.ours == nil {
		c.clock.ours = time.Now
	}
	var ok bool
	if c.hasher, ok = keeper.(Hasher); !ok {
		c.hasher = NewRandomKeyRing()
	}
	return &Tables{c.nouns(nil), c}
}

func (c *core) nouns(tx *txn) Nouns {
	return Nouns{
		Projects: Table[Project]{c, tx}, Providers: Table[Provider]{c, tx}, Models: Table[Model]{c, tx},
		Bindings: Table[Binding]{c, tx}, Keys: Keys{Table[Key]{c, tx}}, Operators: Operators{Table[Operator]{c, tx}},
		Holds: Table[Hold]{c, tx},
	}
}

// Store returns the store behind the tables.
func (t *Tables) Store() Store { return t.core.store }

// Tx gives access to the tables within one transaction: what was written in it
// is what is read in it. A Tx is not safe for concurrent use and not valid after the
// function that got it.
type Tx struct{ Nouns }

// Update calls fn and, if fn returns nil, commits everything that fn has written as one revision,
// which it returns; without writes it returns the revision that was read. When the catalog has
// changed meanwhile, fn runs again on the new state, so it should do nothing but use the Tx; after
// 200 tries the error wraps ErrConflict. Entities that fn writes get their new Revision only with
// the commit.
func (t *Tables) Update(ctx context.Context, fn func(*Tx) error) (Revision, error) {
	return t.core.transact(ctx, serial, func(tx *txn) error { return fn(&Tx{t.core.nouns(tx)}) })
}

// Table is typed access to the entities of one noun. What goes in or comes out
// shares no memory with the store. Errors wrap the sentinels of this package.
type Table[T Noun] struct {
	core *core
	tx   *txn // nil: every call is its own transaction
}

// Get returns the entity with the id, or ErrNotFound.
func (t Table[T]) Get(ctx context.Context, id int64) (v T, err error) {
	err = t.read(ctx, func(tx *txn) error {
		e, err := t.get(ctx, tx, id)
		if err == nil {
			v, err = t.show(e)
		}
		return err
	})
	return v, err
}

// Find returns the entity that holds value in a unique index, or ErrNotFound.
// See [ModelKey], [BindingKey] and [HashToken] for values.
func (t Table[T]) Find(ctx context.Context, by Index, value string) (v T, err error) {
	err = t.read(ctx, func(tx *txn) error {
		e, err := t.find(ctx, tx, by, value)
		if err == nil {
			v, err = t.show(e)
		}
		return err
	})
	return v, err
}

// Count returns how many entities q selects when its After and its Limit are left
// aside. In a transaction, what was written in it counts.
func (t Table[T]) Count(ctx context.Context, q Query) (n int64, err error) {
	q.After, q.Limit = 0, 0
	err = t.read(ctx, func(tx *txn) error {
		n, err = t.count(ctx, tx, q)
		return err
	})
	return n, err
}

// Create adds v and returns it as it was stored, with its defaults. ID,
// CreatedAt, UpdatedAt and Revision of v do not matter. The error wraps
// ErrInvalid, ErrExists or ErrReferenced.
func (t Table[T]) Create(ctx context.Context, v T) (T, error) {
	m := blind
	if asRecord(&v).reads() {
		m = guarded
	}
	return t.write(ctx, m, func(tx *txn) (T, error) { return t.create(ctx, tx, v) })
}

// Put creates v, or makes the entity with the same external id, or else with the
// same natural key, equal to v. An entity that is equal already stays as it is. A
// provider without APIKey keeps the stored one, a key keeps its tokens.
func (t Table[T]) Put(ctx context.Context, v T) (T, error) {
	v, _, err := t.Upsert(ctx, v, 0)
	return v, err
}

// Upsert is Put, and says whether v was created. If match is not 0, the entity must
// be there and at that revision, or at any with [AnyRevision], or not be there with
// [NoRevision], else the error wraps ErrConflict.
func (t Table[T]) Upsert(ctx context.Context, v T, match Revision) (put T, created bool, err error) {
	for try := 1; ; try++ {
		put, created, err = t.upsert(ctx, v, match)
		if !created || !errors.Is(err, ErrExists) || t.tx != nil || try == maxCollisions {
			return put, created && err == nil, err
		}
		// Another has created it since we looked: now it is there to be found.
	}
}

// upsert tries once, and says whether it found nothing to replace.
func (t Table[T]) upsert(ctx context.Context, v T, match Revision) (_ T, created bool, err error) {
	v, err = t.write(ctx, guarded, func(tx *txn) (T, error) {
		v := v // fn may run again
		before, err := t.findLike(ctx, tx, v)
		if created = errors.Is(err, ErrNotFound); created {
			if err := matches(match, 0); err != nil {
				return v, err
			}
			return t.create(ctx, tx, v)
		}
		if err != nil {
			return v, err
		}
		if err := matches(match, t.Meta(before).Revision); err != nil {
			return v, err
		}
		return t.succeed(ctx, tx, before, v, nil)
	})
	return v, created, err
}

// Edit changes the entity with the id by calling edit on it. edit runs again
// when somebody else has changed the entity meanwhile, and its error is returned
// as it is. ID, CreatedAt, UpdatedAt and Revision cannot be changed. An edit that
// changes nothing is not stored.
func (t Table[T]) Edit(ctx context.Context, id int64, edit func(*T) error) (T, error) {
	return t.write(ctx, guarded, func(tx *txn) (T, error) {
		e, err := t.get(ctx, tx, id)
		if err != nil {
			return *new(T), err
		}
		before, err := t.whole(e)
		if err != nil {
			return before, err
		}
		after, err := t.Decode(e)
		if err == nil {
			err = edit(&after)
		}
		if err != nil {
			return after, err
		}
		return t.replace(ctx, tx, before, after)
	})
}

// Patch applies an RFC 7396 merge patch in the form of the API to the entity
// with the id: null restores a field's default. If match is not 0, the entity must be at that
// revision, else the error wraps ErrConflict.
func (t Table[T]) Patch(ctx context.Context, id int64, match Revision, patch []byte) (T, error) {
	return t.write(ctx, guarded, func(tx *txn) (T, error) {
		e, err := t.get(ctx, tx, id)
		if err != nil {
			return *new(T), err
		}
		if err := matches(match, e.Revision); err != nil {
			return *new(T), err
		}
		before, err := t.whole(e)
		if err != nil {
			return before, err
		}
		after, named, err := merge(before, patch)
		if err != nil {
			return after, err
		}
		return t.succeed(ctx, tx, before, after, named)
	})
}

// Delete removes the entity with the id and returns the revision in which it
// went. If match is not 0, the entity must be at that revision, else the error
// wraps ErrConflict. A model with bindings cannot go, nor a project with keys, operators or
// projects below it: ErrReferenced. The holds of what is deleted go with it. What has
// the label protected=true cannot go: ErrProtected.
func (t Table[T]) Delete(ctx context.Context, id int64, match Revision) (Revision, error) {
	return t.transact(ctx, guarded, func(tx *txn) error {
		e, err := t.get(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := matches(match, e.Revision); err != nil {
			return err
		}
		before, err := t.show(e)
		if err != nil {
			return err
		}
		if protected(e.Labels) {
			return fmt.Errorf("%s %d has the label %s=true: %w", t.Kind().Noun(), id, LabelProtected, ErrProtected)
		}
		if err := tx.permit(ctx, asRecord(&before), nil); err != nil {
			return err
		}
		return tx.delete(ctx, asRecord(&before))
	})
}

// Preconditions beside a revision that an entity must be at.
const (
	AnyRevision Revision = -1 // every entity meets it that is there
	NoRevision  Revision = -2 // only what is not there meets it
)

// matches checks a precondition of the caller's. What is not there is at the revision 0.
func matches(match, is Revision) error {
	if match == NoRevision {
		if is == 0 {
			return nil
		}
		return fmt.Errorf("it is there already: %w", ErrConflict)
	}
	if match == AnyRevision && is == 0 {
		return fmt.Errorf("it is not there: %w", ErrConflict)
	}
	if match != 0 && match != AnyRevision && match != is {
		return fmt.Errorf("the revision is %d: %w", is, ErrConflict)
	}
	return nil
}

// Decode turns an entity of the table's kind, as a [Reader] returns it, into
// the noun, with its secret opened. The error wraps [ErrDamaged] when the entity cannot be read;
// what reads for people shows it all the same, with Meta.Damaged set.
func (t Table[T]) Decode(e Entity) (v T, err error) {
	err = asRecord(&v).decode(e, t.core.keeper)
	return v, err
}

// Kind returns the kind of the table's entities.
func (t Table[T]) Kind() Kind { return asRecord(new(T)).kind() }

// Meta returns what v has in common with all nouns.
func (t Table[T]) Meta(v T) Meta { return *asRecord(&v).meta() }

func (t Table[T]) create(ctx context.Context, tx *txn, v T) (T, error) {
	r := asRecord(&v)
	r.normalize()
	if err := append(r.check(t.core.rules), r.succeed(nil, nil)...).err(); err != nil {
		return v, err
	}
	id, err := tx.nextID(ctx)
	if err != nil {
		return v, err
	}
	m := r.meta()
	m.ID, m.CreatedAt, m.UpdatedAt, m.Revision = id, tx.now, tx.now, 0
	if err := tx.permit(ctx, nil, r); err != nil {
		return v, err
	}
	return v, tx.write(ctx, nil, r)
}

// succeed stores what a caller has described in the place of what is there.
func (t Table[T]) succeed(ctx context.Context, tx *txn, before, after T, named map[string]bool) (T, error) {
	r := asRecord(&after)
	r.normalize() // what decides where a secret goes is compared in its normal form
	if errs := r.succeed(asRecord(&before), named); len(errs) > 0 {
		return after, append(r.check(t.core.rules), errs...)
	}
	return t.replace(ctx, tx, before, after)
}

// replace stores after in the place of before, if anything has changed.
func (t Table[T]) replace(ctx context.Context, tx *txn, before, after T) (T, error) {
	old, r := asRecord(&before), asRecord(&after)
	m := r.meta()
	m.continues(old.meta())
	r.normalize()
	if err := r.check(t.core.rules).err(); err != nil {
		return after, err
	}
	if same(old, r) {
		return after, nil
	}
	m.UpdatedAt = tx.now
	if err := tx.permit(ctx, old, r); err != nil {
		return after, err
	}
	return after, tx.write(ctx, old, r)
}

// findLike returns the entity that Put is to replace.
func (t Table[T]) findLike(ctx context.Context, tx *txn, v T) (T, error) {
	r := asRecord(&v)
	r.normalize()
	if err := r.check(t.core.rules).err(); err != nil {
		return v, err
	}
	externalID, key := r.meta().ExternalID, r.naturalKey()
	if externalID == "" && key == "" {
		return v, &FieldError{Field: "external_id", Message: "is required, because nothing else tells whether " +
			"the " + t.Kind().Noun() + " exists already"}
	}
	if err := tx.permit(ctx, nil, r); err != nil { // before anybody is told what there is
		return v, err
	}
	found, err, by := Entity{}, error(ErrNotFound), ByExternalID
	if externalID != "" {
		found, err = tx.find(ctx, t.Kind(), ByExternalID, externalID)
	}
	if errors.Is(err, ErrNotFound) && key != "" {
		by = ByNaturalKey
		found, err = tx.find(ctx, t.Kind(), by, key)
		if err == nil && found.ExternalID != "" { // whoever gave it that knows it by it
			return v, Exists(t.Kind(), by)
		}
	}
	if err != nil {
		return v, err
	}
	switch sees, err := tx.sees(ctx, found); {
	case err != nil:
		return v, err
	case !sees:
		return v, Exists(t.Kind(), by)
	}
	return t.show(found)
}

// read calls fn in the table's transaction, or in one that only reads.
func (t Table[T]) read(ctx context.Context, fn func(*txn) error) error {
	if t.tx != nil {
		return fn(t.tx)
	}
	return t.core.read(ctx, func(r Reader) error { return fn(&txn{core: t.core, reader: r}) })
}

// write calls fn in a transaction, and returns what fn does, with the revision
// that it got.
func (t Table[T]) write(ctx context.Context, m mode, fn func(*txn) (T, error)) (T, error) {
	var v T
	var wrote bool
	revision, err := t.transact(ctx, m, func(tx *txn) (err error) {
		v, err = fn(tx)
		wrote = len(tx.places) > 0
		return err
	})
	if err != nil {
		return *new(T), err
	}
	if t.tx == nil && wrote {
		asRecord(&v).meta().Revision = revision
	}
	return v, nil
}

// transact calls fn in the table's transaction, or in one of its own.
func (t Table[T]) transact(ctx context.Context, m mode, fn func(*txn) error) (Revision, error) {
	if t.tx != nil {
		return 0, fn(t.tx)
	}
	return t.core.transact(ctx, m, fn)
}
