package catalog

import "context"

// Warning is something about a write that was accepted, and that whoever made it
// should know: it may not be what they meant.
type Warning struct {
	Kind    Kind   `json:"kind"`
	ID      int64  `json:"id"`              // of what was written
	Field   string `json:"field,omitempty"` // empty where it is about no single field
	Message string `json:"message"`         // "is below 0.0001 USD per million tokens"; never a value
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

// warn hands out the warnings of a transaction that is done.
func (tx *txn) warn(ctx context.Context) {
	if warn, ok := ctx.Value(warnKey{}).(func(Warning)); ok {
		for _, w := range tx.warnings {
			warn(w)
		}
	}
}

// warnAbout notes a warning about a record.
func (tx *txn) warnAbout(r record, field, message string) {
	tx.warnings = append(tx.warnings, Warning{Kind: r.kind(), ID: r.meta().ID, Field: field, Message: message})
}

type cascadeKey struct{}

// WithCascade returns a context in which renaming or deleting a model renames or
// removes it in the allow-lists that name it, in the same revision. Otherwise they
// stay as they are, and a [Warning] says how many there are.
func WithCascade(ctx context.Context) context.Context {
	return context.WithValue(ctx, cascadeKey{}, true)
}

func cascades(ctx context.Context) bool { return ctx.Value(cascadeKey{}) != nil }
