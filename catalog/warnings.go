package catalog

import (
	"context"
	"slices"
	"time"
)

// Warning is something about a write that was accepted, and that whoever made it
// should know: it may not be what they meant.
type Warning struct {
	Kind    Kind   `json:"kind" doc:"The kind of the resource that it is about."`
	ID      int64  `json:"id,omitzero" doc:"The id of the resource. One that is not created yet has none."`
	Field   string `json:"field,omitempty" doc:"The field that it is about. It is absent where that is no single field."`
	Message string `json:"message" doc:"What should be known. It never holds a value."`
}

// String returns the warning in one line.
func (w Warning) String() string {
	if w.Field == "" {
		return w.Message
	}
	return w.Field + " " + w.Message
}

type warnKey struct{}

// WithWarnings returns a context whose writes report what should be known about
// them: warn is called for each warning after the commit, in the goroutine that writes.
func WithWarnings(ctx context.Context, warn func(Warning)) context.Context {
	return context.WithValue(ctx, warnKey{}, warn)
}

// pendingWarning is a warning of a transaction that is not done. The record may still get an id.
type pendingWarning struct {
	about          record
	field, message string
}

// warn hands out the warnings of a transaction that is done.
func (tx *txn) warn(ctx context.Context) {
	if warn, ok := ctx.Value(warnKey{}).(func(Warning)); ok {
		for _, w := range tx.warned() {
			warn(w)
		}
	}
}

// warned returns the warnings of a transaction.
func (tx *txn) warned() []Warning {
	all := make([]Warning, len(tx.warnings))
	for i, w := range tx.warnings {
		all[i] = Warning{Kind: w.about.kind(), ID: w.about.meta().ID, Field: w.field, Message: w.message}
	}
	return all
}

// warnAbout notes a warning about a record.
func (tx *txn) warnAbout(r record, field, message string) {
	tx.warnings = append(tx.warnings, pendingWarning{r, field, message})
}

// warnExpiry warns of an end that was set and is over.
func warnExpiry(tx *txn, r record, field string, before, end time.Time) {
	if !end.IsZero() && !end.After(tx.now) && !end.Equal(before) {
		tx.warnAbout(r, field, "is in the past: the "+r.kind().Noun()+" has ended already")
	}
}

// budgeted is a record with budgets.
type budgeted interface{ budgets() []Budget }

func (k *Key) budgets() []Budget { return k.Budgets }

func (p *Project) budgets() []Budget { return p.Budgets }

// warnBudgets warns of budgets that were set and allow nothing.
func warnBudgets(tx *txn, r, before record, budgets []Budget) {
	var old []Budget
	if b, ok := before.(budgeted); ok {
		old = b.budgets()
	}
	for i, b := range budgets {
		same := func(o Budget) bool { return o.Window == b.Window && o.Timezone == b.Timezone && o.allowsNothing() }
		if b.allowsNothing() && !slices.ContainsFunc(old, same) {
			tx.warnAbout(r, elementPath("budgets", i)+".limit", "is 0: nothing may be spent")
		}
	}
}

func (b *Budget) allowsNothing() bool {
	return b.Limit != nil && *b.Limit == 0 && b.Action == BudgetBlock
}

type cascadeKey struct{}

// WithCascade returns a context in which renaming or deleting a model renames or
// removes it in the allow-lists that name it, in the same revision. Otherwise they
// stay as they are, and a [Warning] says how many there are.
func WithCascade(ctx context.Context) context.Context {
	return context.WithValue(ctx, cascadeKey{}, true)
}

func cascades(ctx context.Context) bool { return ctx.Value(cascadeKey{}) != nil }
