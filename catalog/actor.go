package catalog

import (
	"context"
	"strings"
	"unicode/utf8"
)

type actorKey struct{}

type actor struct {
	name, reason string
	machine      bool
}

const (
	maxActor  = 256 // bytes
	maxReason = 1024
)

// WithActor returns a context whose commits are recorded as done by name, for
// a reason that may be empty. Names of more than 256 bytes and reasons of more than
// 1024 are cut, and what no name may hold in them becomes U+FFFD: who did something
// is no reason to refuse it.
func WithActor(ctx context.Context, name, reason string) context.Context {
	return withActor(ctx, actor{name: name, reason: reason})
}

// WithMachine is WithActor for what the control plane does by itself, such as holds that follow a
// budget. Stores may forget such changes of holds and operators early, see [Pruner.ThinChanges].
func WithMachine(ctx context.Context, name, reason string) context.Context {
	return withActor(ctx, actor{name: name, reason: reason, machine: true})
}

func withActor(ctx context.Context, a actor) context.Context {
	a.name, a.reason = PlainText(a.name, maxActor), PlainText(a.reason, maxReason)
	return context.WithValue(ctx, actorKey{}, a)
}

// isMachine reports whether ctx is from [WithMachine].
func isMachine(ctx context.Context) bool {
	a, _ := ctx.Value(actorKey{}).(actor)
	return a.machine
}

// PlainText returns a text that every store keeps and every reader can see: what no name may hold in it
// becomes U+FFFD, and what is beyond so many bytes is cut.
func PlainText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if refusedRune(r) != "" {
			return utf8.RuneError
		}
		return r
	}, s)
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// ActorFrom returns what [WithActor] or [WithMachine] has put into ctx; the name is "unknown"
// where nothing was.
func ActorFrom(ctx context.Context) (name, reason string) {
	if a, ok := ctx.Value(actorKey{}).(actor); ok && a.name != "" {
		return a.name, a.reason
	}
	return "unknown", ""
}
