package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// maxTouched bounds the documents of a delta: what has more is published whole.
const maxTouched = MaxParts * MaxPartDocs

// errManyTouched says that too many documents are touched for a delta.
var errManyTouched = errors.New("the change is large")

// docName names a document.
type docName struct {
	kind catalog.Kind
	key  string
}

// touched is what changes of the feed can have touched: entities and names of
// documents, of which some may turn out to be as they were. Its zero value is nothing.
type touched struct {
	providers, keys map[int64]bool
	hashes          set              // names of key documents
	models          set              // natural keys: the model's document and its binding document
	bindings        set              // natural keys: the binding document alone
	projects, holds set              // names of documents: paths and targets
	groups          set              // of providers: bindings that such a group serves
	listed          set              // model ids that providers list: models of that name, whose bindings may be implied
	gone            map[docName]int  // documents whose end the feed tells, by the entity that was deleted
	extra           map[docName]bool // named by others than the feed
	all             bool             // a re-synchronisation
}

// add notes what a change can have touched.
func (t *touched) add(c catalog.Change) {
	switch c.Kind {
	case catalog.KindProvider:
		insert(&t.providers, c.ID)
		before, okBefore := providerSide(c.Before)
		after, okAfter := providerSide(c.After)
		switch {
		case !okBefore || !okAfter || before.Group != after.Group: // created, deleted, or moved
			t.groups.add(c.Touches.Groups...)
			t.listed.add(c.Touches.Models...)
		case !slices.Equal(before.Models, after.Models):
			t.groups.add(c.Touches.Groups...)
			t.listed.add(difference(before.Models, after.Models)...)
			t.listed.add(difference(after.Models, before.Models)...)
		}
	case catalog.KindModel:
		t.models.add(c.Touches.NaturalKeys...)
	case catalog.KindBinding:
		t.bindings.add(c.Touches.Refs...)
	case catalog.KindKey:
		insert(&t.keys, c.ID)
		t.hashes.add(c.Touches.Hashes...)
	case catalog.KindProject:
		t.projects.add(c.Touches.NaturalKeys...)
	case catalog.KindHold:
		t.holds.add(c.Touches.NaturalKeys...)
	case catalog.KindOperator: // never published
	}
	if c.Action == catalog.ActionSync {
		t.all = true
	}
	if c.Action == catalog.ActionDelete {
		if t.gone == nil {
			t.gone = map[docName]int{}
		}
		switch c.Kind {
		case catalog.KindModel: // its binding document goes with it
			for _, name := range c.Touches.NaturalKeys {
				t.gone[docName{catalog.KindModel, name}], t.gone[docName{catalog.KindBinding, name}] = 1, 1
			}
		case catalog.KindKey:
			for _, hash := range c.Touches.Hashes {
				t.gone[docName{catalog.KindKey, hash}] = 1
			}
		case catalog.KindProvider:
			t.gone[docName{catalog.KindProvider, providerKey(c.ID)}] = 1
		case catalog.KindProject, catalog.KindHold:
			for _, name := range c.Touches.NaturalKeys {
				t.gone[docName{c.Kind, name}] = 1
			}
		}
	}
}

// CountTouched returns how many documents are published anew when changes are made, such as those of
// a catalog.Plan, or more than a delta has. The reader shows the catalog as it is before them.
func CountTouched(ctx context.Context, tables *catalog.Tables, reader catalog.Reader,
	changes []catalog.Change) (int, error) {
	var t touched
	for _, c := range changes {
		t.add(c)
	}
	r := &renderer{tables: tables, reader: reader, failed: func(catalog.Kind, int64, error) {}}
	err := t.findBound(ctx, r)
	if err != nil && !errors.Is(err, errManyTouched) {
		return 0, err
	}
	both := 0 // are named as models, whose binding documents count already
	for name := range t.bindings.m {
		if t.models.has(name) {
			both++
		}
	}
	return t.size() - both, nil
}

// size is a lower bound of how many documents are touched.
func (t *touched) size() int {
	return len(t.providers) + max(len(t.keys), t.hashes.len()) + 2*t.models.len() + t.bindings.len() +
		t.projects.len() + t.holds.len()
}

// explained returns how many documents of each kind have gone for a reason that
// the feed tells.
func (t *touched) explained() Counts {
	counts := Counts{}
	for name := range t.gone {
		counts[name.kind]++
	}
	return counts
}

// kinds returns the kinds of documents that are touched, sorted.
func (t *touched) kinds() []catalog.Kind {
	if t.all {
		return Kinds()
	}
	var kinds []catalog.Kind
	if len(t.providers) > 0 {
		kinds = append(kinds, catalog.KindProvider)
	}
	if len(t.keys) > 0 {
		kinds = append(kinds, catalog.KindKey)
	}
	if t.models.len() > 0 {
		kinds = append(kinds, catalog.KindModel)
	}
	if t.models.len()+t.bindings.len()+t.groups.len()+t.listed.len() > 0 {
		kinds = append(kinds, catalog.KindBinding)
	}
	if t.projects.len() > 0 {
		kinds = append(kinds, catalog.KindProject)
	}
	if t.holds.len() > 0 {
		kinds = append(kinds, catalog.KindHold)
	}
	slices.Sort(kinds)
	return kinds
}

type providerFields struct {
	Group  string   `json:"group"`
	Models []string `json:"models"`
}

// providerSide reads what binding documents know of a provider.
func providerSide(text []byte) (side providerFields, ok bool) {
	return side, len(text) > 0 && json.Unmarshal(text, &side) == nil
}

// difference returns what is in a and not in b.
func difference(a, b []string) []string {
	in := make(map[string]bool, len(b))
	for _, v := range b {
		in[v] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(v string) bool { return in[v] })
}

// render renders what is touched, as it is at the reader's revision. Documents
// that are not there (any more) are emitted without Doc. It returns errManyTouched,
// perhaps after some were emitted, when they are too many.
func (t *touched) render(ctx context.Context, r *renderer) error {
	if err := t.findBound(ctx, r); err != nil {
		return err
	}
	if t.size() > maxTouched {
		return errManyTouched
	}
	there := map[docName]bool{}
	emit := r.emit
	r.emit = func(c Change) {
		there[docName{c.Kind, c.Key}] = true
		emit(c)
	}
	defer func() { r.emit = emit }()
	if err := t.renderThere(ctx, r); err != nil {
		return err
	}
	absent := func(kind catalog.Kind, key string) {
		if name := (docName{kind, key}); !there[name] {
			there[name] = true
			emit(Change{Kind: kind, Key: key})
		}
	}
	for id := range t.providers {
		absent(catalog.KindProvider, providerKey(id))
	}
	for hash := range t.hashes.m {
		absent(catalog.KindKey, hash)
	}
	for name := range t.models.m {
		absent(catalog.KindModel, name)
		absent(catalog.KindBinding, name)
	}
	for name := range t.bindings.m {
		absent(catalog.KindBinding, name)
	}
	for name := range t.projects.m {
		absent(catalog.KindProject, name)
	}
	for target := range t.holds.m {
		absent(catalog.KindHold, target)
	}
	for name := range t.extra {
		absent(name.kind, name.key)
	}
	return nil
}

// renderThere renders what is there.
func (t *touched) renderThere(ctx context.Context, r *renderer) error {
	for part := range slices.Chunk(slices.Sorted(maps.Keys(t.providers)), queryChunk) {
		if err := pages(ctx, r, r.tables.Providers, catalog.Query{IDs: part}, r.providerDocs); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(t.keys)), queryChunk) {
		if err := pages(ctx, r, r.tables.Keys.Table, catalog.Query{IDs: part}, r.keyDocs); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(t.projects.list(), queryChunk) {
		if err := pages(ctx, r, r.tables.Projects, catalog.Query{NaturalKeys: part}, r.projectDocs); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(t.holds.list(), queryChunk) {
		if err := r.holdDocs(ctx, catalog.Query{Names: part}); err != nil {
			return err
		}
	}
	names := set{m: maps.Clone(t.models.m)}
	names.add(slices.Collect(maps.Keys(t.bindings.m))...)
	for part := range slices.Chunk(names.list(), queryChunk) {
		err := pages(ctx, r, r.tables.Models, catalog.Query{NaturalKeys: part}, func(models []catalog.Model) error {
			return r.modelDocs(ctx, models, t.models.has)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lead brings what the resolver knows of the touched providers to the reader's
// revision. It returns what undoes that.
func (t *touched) lead(ctx context.Context, r *renderer) (undo func(), err error) {
	r.resolve.sweep()
	before := map[int64]*servant{}
	undo = func() {
		for id, p := range before {
			r.resolve.set(id, p)
		}
	}
	note := func(id int64, p *servant) {
		was := r.resolve.set(id, p)
		if _, noted := before[id]; !noted {
			before[id] = was
		}
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(t.providers)), queryChunk) {
		for _, id := range part {
			note(id, nil)
		}
		err := pages(ctx, r, r.tables.Providers, catalog.Query{IDs: part}, func(providers []catalog.Provider) error {
			for i := range providers {
				note(providers[i].ID, servantOf(&providers[i]))
			}
			return nil
		})
		if err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// findBound adds the binding documents that depend on providers of the groups,
// or, being implied, on providers that list a model.
func (t *touched) findBound(ctx context.Context, r *renderer) error {
	for part := range slices.Chunk(t.groups.list(), queryChunk) {
		err := pages(ctx, r, r.tables.Bindings, catalog.Query{Groups: part}, func(bindings []catalog.Binding) error {
			for _, b := range bindings {
				if t.groups.has(b.ProviderGroup) {
					t.bindings.add(catalog.ModelKey(b.Namespace, b.Model))
				}
			}
			return t.bounded()
		})
		if err != nil {
			return err
		}
	}
	bind := func(models []catalog.Model) error {
		for _, m := range models {
			t.bindings.add(catalog.ModelKey(m.Namespace, m.Name))
		}
		return t.bounded()
	}
	var literal, beginnings []string
	for _, model := range t.listed.list() {
		if beginning, all := strings.CutSuffix(model, "*"); all {
			beginnings = append(beginnings, beginning)
		} else {
			literal = append(literal, model)
		}
	}
	for part := range slices.Chunk(literal, queryChunk) {
		if err := pages(ctx, r, r.tables.Models, catalog.Query{Names: part}, bind); err != nil {
			return err
		}
	}
	if len(beginnings) == 0 {
		return nil
	}
	return pages(ctx, r, r.tables.Models, catalog.Query{}, func(models []catalog.Model) error {
		return bind(slices.DeleteFunc(models, func(m catalog.Model) bool {
			return !slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(m.Name, b) })
		}))
	})
}

func (t *touched) bounded() error {
	if t.size() > maxTouched {
		return errManyTouched
	}
	return nil
}

// readFeed calls fn with all changes after a revision until the reader's head.
func readFeed(ctx context.Context, reader catalog.Reader, after catalog.Revision, fn func(catalog.Change) error) error {
	if err := reader.Head().Leads(after); err != nil {
		return err
	}
	return readHistory(ctx, reader, after, fn)
}

// readHistory is readFeed without what was thinned out.
func readHistory(
	ctx context.Context, reader catalog.Reader, after catalog.Revision, fn func(catalog.Change) error,
) error {
	at := catalog.Cursor{Revision: after}
	for {
		page, err := reader.Changes(ctx, at, queryChunk)
		if err != nil {
			return err
		}
		for _, c := range page {
			if !at.Before(c) {
				return fmt.Errorf("the feed after %s goes on at %s", at, c.Cursor())
			}
			at = c.Cursor()
			if err := fn(c); err != nil {
				return err
			}
		}
		if len(page) == 0 {
			break
		}
	}
	if head := reader.Head().Revision; at.Revision < head {
		return fmt.Errorf("the feed ends at revision %d, the catalog is at %d", at.Revision, head)
	}
	return nil
}

func insert(ids *map[int64]bool, id int64) {
	if *ids == nil {
		*ids = map[int64]bool{}
	}
	(*ids)[id] = true
}

// set is a set of strings.
type set struct{ m map[string]struct{} }

func (s *set) add(values ...string) {
	if s.m == nil {
		s.m = map[string]struct{}{}
	}
	for _, v := range values {
		s.m[v] = struct{}{}
	}
}

func (s *set) has(v string) bool {
	_, there := s.m[v]
	return there
}

func (s *set) len() int { return len(s.m) }

func (s *set) list() []string { return slices.Sorted(maps.Keys(s.m)) }

// addNames adds documents by their names.
func (t *touched) addNames(ctx context.Context, reader catalog.Reader, names []docName) error {
	for _, name := range names {
		if t.extra == nil {
			t.extra = map[docName]bool{}
		}
		t.extra[name] = true
		switch name.kind {
		case catalog.KindProvider:
			if id, ok := providerID(name.key); ok {
				insert(&t.providers, id)
			}
		case catalog.KindModel, catalog.KindBinding:
			t.models.add(name.key)
		case catalog.KindProject:
			t.projects.add(name.key)
		case catalog.KindHold:
			t.holds.add(name.key)
		case catalog.KindKey:
			e, err := reader.Find(ctx, catalog.KindKey, catalog.ByHash, name.key)
			if err == nil {
				insert(&t.keys, e.ID)
			} else if !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}
