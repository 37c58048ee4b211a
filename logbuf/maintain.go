package logbuf

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// A Maintainer is a [Sink] that has something to do now and then: it tidies
// up behind writes, makes room ahead of them, and forgets what is too old.
type Maintainer interface {
	// Tasks lists what there is to do, in the order in which it should be tried.
	// It MUST return the same names each time, without asking the database.
	//
	// Tasks are independent: that one fails or runs out of time MUST NOT keep
	// another from being done, and one poison row MUST NOT stop its task. Each MUST
	// be harmless while others write and read, and MUST NOT change what Usage
	// answers. What forgets comes before what adds up, so that a backlog of the one
	// never delays the other.
	Tasks() []Task
}

// A Task is one thing that a [Maintainer] does.
type Task struct {
	// Name is short, in lower case, and a metric's label: "drop", "fold".
	Name string

	// Bound is how long one run may take; its context ends then, and what is done
	// by then MUST stay done. Defaults to a minute.
	Bound time.Duration

	// Run does what is due, at most some bounded part of it. It MUST return an error
	// that wraps [ErrBusy] when another process is at the same task, and an error
	// that wraps [ErrPaused] when an operator has to mend something first.
	Run func(ctx context.Context, o MaintenanceOptions) (TaskReport, error)
}

// MaintenanceOptions say what is too old. A task MUST NOT ask the clock of its process
// for that.
type MaintenanceOptions struct {
	// Now is the time by the clock that maintenance goes by: the store's, where it
	// tells it. Never zero.
	Now time.Time

	// Before is the time before which entries are forgotten, but not their usage, and
	// dead letters with them; the zero time forgets none. Days in UTC go as a whole,
	// once they ended before that time. It never lies after the time of an entry which
	// may still be written, because a duplicate of what is forgotten is not recognised.
	Before time.Time

	// UsageBefore is the time before which usage is no longer kept by the quarter of an
	// hour, only by the day; the zero time keeps all.
	UsageBefore time.Time
}

// A TaskReport says how a task stands after a run.
type TaskReport struct {
	// Done counts what was done, in the task's own unit: rows, partitions.
	Done int64

	// Behind is how far the task is behind what is due: the age of the oldest
	// usage that is not folded, how long ago the oldest partition should have gone. Zero
	// when nothing is left.
	Behind time.Duration

	// Aside counts what was put out of the way of the rest, in the task's own unit, and waits
	// for an operator.
	Aside int64

	// Warning is what an operator should know although the task works; empty when there is nothing.
	Warning string
}

// A TaskResult is what became of one task.
type TaskResult struct {
	Name   string
	Report TaskReport
	Took   time.Duration
	Err    error // nil when it worked; wraps ErrBusy when another process was at it
}

// defaultBound is how long a task may run that does not say.
const defaultBound = time.Minute

// Maintain runs all tasks of a sink once, each within its bound, and returns what
// became of each, in order. It stops before the next task when ctx ends. A task that
// panics has failed.
func Maintain(ctx context.Context, m Maintainer, o MaintenanceOptions) []TaskResult {
	var results []TaskResult
	for _, t := range m.Tasks() {
		if ctx.Err() != nil {
			break
		}
		results = append(results, t.run(ctx, o))
	}
	return results
}

// MaintenanceError joins what failed; nil when all tasks worked or others were at them.
func MaintenanceError(results []TaskResult) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil && !errors.Is(r.Err, ErrBusy) {
			errs = append(errs, fmt.Errorf("task %s: %w", r.Name, r.Err))
		}
	}
	return errors.Join(errs...)
}

func (t Task) run(ctx context.Context, o MaintenanceOptions) (r TaskResult) {
	bound := t.Bound
	if bound <= 0 {
		bound = defaultBound
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	start := time.Now()
	r.Name = t.Name
	defer func() {
		r.Took = time.Since(start)
		if p := recover(); p != nil {
			r.Err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	r.Report, r.Err = t.Run(ctx, o)
	return r
}
