package snapshot

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// maxPending is how many bytes of deltas wait for a slow disk. Following
	// the source never waits for it: beyond that the file falls behind, and is made anew.
	maxPending = 64 << 20

	// maxLoading is how many bytes of a load wait for the disk; loading
	// waits for maxStall in all then, before the file falls behind.
	maxLoading = 16 << 20
	maxStall   = 5 * time.Second

	// fileRetry is the pause before a file that failed is made anew.
	fileRetry = time.Minute
)

// keeper writes what a watcher applies to its file, beside the watcher.
type keeper struct {
	file    lastGood
	src     Source
	keys    *Keys
	log     *slog.Logger
	serving func() *View                  // what the watcher serves
	admit   func(now *View, h Head) error // whether it would take a head over that

	wake    chan struct{} // there is something to write
	drained chan struct{} // something was written

	mu     sync.Mutex
	queue  []fileStep
	bytes  int           // of documents in the queue
	stall  time.Duration // that the load under way may still wait
	behind bool          // something is missing in the file: a whole is needed
	errs   string        // why the file is not up to date
	beat   Beat          // the last that was noted

	draft *draft // of the whole that is being written; run's alone
}

// fileStep is something to write. Exactly one field counts.
type fileStep struct {
	begin  *Head // of a whole
	add    []Change
	end    *Head
	giveUp bool // of the whole that was begun
	delta  *Delta
	beat   *Beat
}

func newKeeper(path string, src Source, keys *Keys, log *slog.Logger) *keeper {
	return &keeper{
		file: newLastGood(path), src: src, keys: keys, log: log,
		wake: make(chan struct{}, 1), drained: make(chan struct{}, 1),
	}
}

// restore returns the View in the file and its last beat; nil when there is no file.
func (k *keeper) restore(blank *View) (*View, Beat, error) {
	v, beat, err := k.file.read(blank, k.keys)
	if errors.Is(err, os.ErrNotExist) {
		return nil, Beat{}, nil
	}
	k.beat = beat
	return v, beat, err
}

// problem returns why the file is not up to date.
func (k *keeper) problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.errs
}

// begin, add, end and giveUp take a whole as it is loaded.
func (k *keeper) begin(head Head) {
	k.mu.Lock()
	k.queue, k.bytes, k.stall = append(k.queue, fileStep{begin: &head}), 0, maxStall
	k.mu.Unlock()
	k.wakeUp()
}

func (k *keeper) add(changes []Change) {
	changes = knownChanges(changes)
	for {
		begun := time.Now()
		k.mu.Lock()
		full, stall := k.bytes > maxLoading, k.stall
		if !full || stall <= 0 {
			k.push(fileStep{add: changes}, changes, maxLoading)
			k.mu.Unlock()
			k.wakeUp()
			return
		}
		k.mu.Unlock()
		select {
		case <-k.drained:
		case <-time.After(stall):
		}
		k.mu.Lock()
		k.stall -= time.Since(begun)
		k.mu.Unlock()
	}
}

func (k *keeper) end(head Head) { k.step(fileStep{end: &head}) }
func (k *keeper) giveUp()       { k.step(fileStep{giveUp: true}) }

// applied takes a delta that was just applied.
func (k *keeper) applied(d Delta) {
	k.mu.Lock()
	k.push(fileStep{delta: &d}, d.Changes, maxPending)
	k.mu.Unlock()
	k.wakeUp()
}

// confirmed takes the beat until which what is served was confirmed.
func (k *keeper) confirmed(b Beat) {
	k.mu.Lock()
	known := b.At.IsZero() || b.Equal(k.beat)
	k.beat = b
	k.mu.Unlock()
	if !known {
		k.step(fileStep{beat: &b})
	}
}

func (k *keeper) step(s fileStep) {
	k.mu.Lock()
	k.push(s, nil, maxPending)
	k.mu.Unlock()
	k.wakeUp()
}

// push is called with mu held. It falls behind rather than to keep more than most bytes.
func (k *keeper) push(s fileStep, docs []Change, most int) {
	for _, c := range docs {
		k.bytes += len(c.Key) + len(c.Doc)
	}
	if k.bytes > 2*most {
		k.queue, k.bytes, k.behind = []fileStep{{giveUp: true}}, 0, true
		return
	}
	k.queue = append(k.queue, s)
}

func (k *keeper) wakeUp() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what is left.
func (k *keeper) run(ctx context.Context) {
	defer k.finish()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		err := k.write()
		for err != nil {
			k.failed(ctx, err)
			if !rest(ctx, fileRetry) {
				return
			}
			err = k.renew(ctx)
		}
		k.note("")
	}
}

func (k *keeper) finish() {
	err := k.write()
	if k.draft != nil {
		err = errors.Join(err, k.draft.discard())
		k.draft = nil
	}
	if err = errors.Join(err, k.file.close()); err != nil && !errors.Is(err, errBehind) {
		k.log.Warn("the last known good snapshot could not be written", "error", err)
	}
}

func (k *keeper) failed(ctx context.Context, err error) {
	k.log.WarnContext(ctx, "the last known good snapshot could not be written, will try again", "error", err)
	k.note(err.Error())
	k.mu.Lock()
	k.queue, k.bytes, k.behind = nil, 0, true
	k.mu.Unlock()
	if k.draft != nil {
		_ = k.draft.discard() // it is of no use
		k.draft = nil
	}
}

func (k *keeper) note(problem string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs = problem
}

var errBehind = errors.New("the disk did not keep up")

// write writes all that is pending, with one fsync for deltas that follow one another.
func (k *keeper) write() error {
	k.mu.Lock()
	queue := k.queue
	k.queue, k.bytes = nil, 0
	k.mu.Unlock()
	select {
	case k.drained <- struct{}{}:
	default:
	}
	var deltas []Delta
	for _, s := range queue {
		if s.delta != nil {
			if !k.isBehind() {
				deltas = append(deltas, *s.delta)
			}
			continue
		}
		if err := k.appendAll(&deltas); err != nil {
			return err
		}
		if err := k.writeStep(s); err != nil {
			return err
		}
	}
	if err := k.appendAll(&deltas); err != nil {
		return err
	}
	if k.isBehind() && k.draft == nil {
		return errBehind
	}
	return nil
}

func (k *keeper) isBehind() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.behind
}

func (k *keeper) appendAll(deltas *[]Delta) error {
	if len(*deltas) == 0 {
		return nil
	}
	err := k.file.append(*deltas)
	*deltas = nil
	return err
}

func (k *keeper) writeStep(s fileStep) (err error) {
	switch {
	case s.begin != nil:
		if k.draft != nil {
			_ = k.draft.discard() // loading began anew
		}
		k.draft, err = k.file.draft(*s.begin)
		return err
	case k.draft == nil && s.beat == nil: // given up
		return nil
	case s.add != nil:
		return writeChanges(k.draft.out, s.add)
	case s.end != nil:
		d := k.draft
		k.draft = nil
		if err := k.file.adopt(d, *s.end); err != nil {
			return err
		}
		k.mu.Lock()
		k.behind = false
		k.mu.Unlock()
		return nil
	case s.giveUp:
		d := k.draft
		k.draft = nil
		return d.discard()
	case s.beat != nil && k.draft == nil && !k.isBehind():
		return k.file.note(*s.beat)
	}
	return nil
}

// renew makes the file anew from what is published, if the watcher would serve that.
func (k *keeper) renew(ctx context.Context) error {
	k.mu.Lock()
	k.behind = false // deltas from here on follow on what is loaded, or on something after it
	k.mu.Unlock()
	direct, now := &fileCopy{file: &k.file}, k.serving()
	err := k.src.Load(ctx, &viewLoader{base: now, keys: k.keys, copy: direct, admit: func(h Head) error {
		if err := k.admit(now, h); !errors.Is(err, errUnchanged) {
			return err
		}
		return nil
	}})
	if err = errors.Join(err, direct.err); err != nil {
		if direct.draft != nil {
			err = errors.Join(err, direct.draft.discard())
		}
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.queue) > 0 {
		d := k.queue[0].delta
		if d == nil || !k.file.at.After(d.From) {
			break
		}
		k.queue = k.queue[1:]
	}
	k.wakeUp()
	return nil
}

// fileCopy writes a whole to the file as it is loaded.
type fileCopy struct {
	file  *lastGood
	draft *draft
	err   error
}

func (c *fileCopy) begin(head Head) {
	if c.draft != nil {
		_ = c.draft.discard()
	}
	c.draft, c.err = c.file.draft(head)
}

func (c *fileCopy) add(changes []Change) {
	if c.err == nil {
		c.err = writeChanges(c.draft.out, knownChanges(changes))
	}
}

func (c *fileCopy) end(head Head) {
	if c.err == nil {
		c.err = c.file.adopt(c.draft, head)
		c.draft = nil
	}
}
