package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A quietHandler passes a warning or an error on when it happens first, and then holds back the
// same one for as long as it keeps coming: what fails while something is down is tried again every
// second, and needs to be said once. When it has not come for a while, the handler says that, and
// how often it came. Warnings are the same when they differ only in attributes called error. One that
// has a request_id is about one request, and is always passed on.
type quietHandler struct {
	slog.Handler
	shared *quiet
	bound  string // what WithAttrs and WithGroup have added
}

// quiet is what a quietHandler shares with those that are derived from it.
type quiet struct {
	over    time.Duration // without a repetition for that long, it is over
	remind  time.Duration // after that long it is said again
	mu      sync.Mutex
	repeats map[string]*repeat
}

// A repeat is a warning that may come again.
type repeat struct {
	first, said, last time.Time
	count             int // in all
	timer             *time.Timer
}

// maxRepeats bounds how many different warnings are remembered. Beyond it all are passed on.
const maxRepeats = 1000

func newQuietHandler(next slog.Handler, over, remind time.Duration) *quietHandler {
	return &quietHandler{
		Handler: next,
		shared:  &quiet{over: over, remind: remind, repeats: map[string]*repeat{}},
	}
}

func (h *quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &quietHandler{h.Handler.WithAttrs(attrs), h.shared, h.bound + fmt.Sprint(attrs)}
}

func (h *quietHandler) WithGroup(name string) slog.Handler {
	return &quietHandler{h.Handler.WithGroup(name), h.shared, h.bound + name + "."}
}

func (h *quietHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || isOfRequest(r) {
		return h.Handler.Handle(ctx, r)
	}
	count, pass := h.note(h.key(r), r)
	if !pass {
		return nil
	}
	if count > 1 {
		r = r.Clone()
		r.AddAttrs(slog.Int("times", count))
	}
	return h.Handler.Handle(ctx, r)
}

// isOfRequest reports whether a record is about one request.
func isOfRequest(r slog.Record) (is bool) {
	r.Attrs(func(a slog.Attr) bool {
		is = a.Key == "request_id"
		return !is
	})
	return is
}

// key returns what two warnings that are the same have in common.
func (h *quietHandler) key(r slog.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", h.bound, r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "error" && a.Value.Kind() != slog.KindDuration {
			fmt.Fprintf(&b, " %s", a)
		}
		return true
	})
	return b.String()
}

// note counts a warning, and reports whether it is to be passed on.
func (h *quietHandler) note(key string, r slog.Record) (count int, pass bool) {
	q := h.shared
	q.mu.Lock()
	defer q.mu.Unlock()
	seen := q.repeats[key]
	if seen == nil {
		if len(q.repeats) < maxRepeats {
			q.repeats[key] = &repeat{
				first: r.Time, said: r.Time, last: time.Now(), count: 1,
				timer: time.AfterFunc(q.over, func() { h.end(key, r) }),
			}
		}
		return 1, true
	}
	seen.count++
	seen.last = time.Now()
	seen.timer.Reset(q.over)
	if r.Time.Sub(seen.said) < q.remind {
		return seen.count, false
	}
	seen.said = r.Time
	return seen.count, true
}

// end forgets a warning that has not come again. If it came more than once, that it is over is
// worth a line.
func (h *quietHandler) end(key string, r slog.Record) {
	q := h.shared
	q.mu.Lock()
	seen := q.repeats[key]
	if seen == nil || time.Since(seen.last) < q.over { // it came while the timer ran out
		q.mu.Unlock()
		return
	}
	delete(q.repeats, key)
	q.mu.Unlock()
	if seen.count == 1 || !h.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	over := slog.NewRecord(time.Now(), slog.LevelInfo, fmt.Sprintf("not repeated for %s: %s", q.over, r.Message), 0)
	over.AddAttrs(slog.Int("times", seen.count),
		slog.String("lasted", seen.last.Sub(seen.first).Round(time.Second).String()))
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "error" {
			over.AddAttrs(a)
		}
		return true
	})
	_ = h.Handler.Handle(context.Background(), over) // as slog does with what cannot be written
}
