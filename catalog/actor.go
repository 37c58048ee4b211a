package catalog

import "context"

type actorKey struct{}

type actor struct{ name, reason string }

// WithActor returns a context whose commits are recorded as done by name, for
// a reason that may be empty.
func WithActor(ctx context.Context, name, reason string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor{name, reason})
}

// ActorFrom returns what [WithActor] has put into ctx; the name is "unknown"
// where nothing was.
func ActorFrom(ctx context.Context) (name, reason string) {
	if a, ok := ctx.Value(actorKey{}).(actor); ok && a.name != "" {
		return a.name, a.reason
	}
	return "unknown", ""
}
