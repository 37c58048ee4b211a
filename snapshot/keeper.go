//go:build !noWatcher

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// maxPending is how many bytes of deltas wait for a slow disk. Following
	// the source never waits for it: beyond that the file falls behind, and is made anew.
	maxPending = 64 << 20

	// fileRetry is the pause before a file that failed is made anew.
	fileRetry = time.Minute
)

// keeper writes what a watcher applies to its file, without delaying it.
type keeper struct {
	file lastGood
	src  Source
	keys *Keys
	log  *slog.Logger
	wake chan struct{}

	mu     sync.Mutex
	whole  *Snapshot // to be written first
	deltas []Delta   // that follow on it, or on the file
	bytes  int       // of deltas
	behind bool      // something is missing: the whole is needed
}

func newKeeper(path string, src Source, keys *Keys, log *slog.Logger) *keeper {
	return &keeper{file: newLastGood(path), src: src, keys: keys, log: log, wake: make(chan struct{}, 1)}
}

// restore returns the View in the file; nil when there is none that is good.
func (k *keeper) restore(ctx context.Context, blank *View) (*View, time.Time) {
	v, confirmed, err := k.file.read(blank, k.keys)
	switch {
	case err == nil:
		return v, confirmed
	case !errors.Is(err, os.ErrNotExist):
		k.log.WarnContext(ctx, "the last known good snapshot cannot be used", "error", err)
	}
	return nil, time.Time{}
}

// applied takes what was just applied: a snapshot or a delta, which nobody
// else changes any more.
func (k *keeper) applied(s *Snapshot, d *Delta) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case s != nil:
		k.whole, k.deltas, k.bytes, k.behind = s, nil, 0, false
	case !k.behind:
		k.deltas = append(k.deltas, *d)
		for _, c := range d.Changes {
			k.bytes += len(c.Doc)
		}
		if k.bytes > maxPending {
			k.deltas, k.bytes, k.behind = nil, 0, true
		}
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what is left.
func (k *keeper) run(ctx context.Context) {
	defer func() {
		if err := errors.Join(k.write(), k.file.close()); err != nil {
			k.log.Warn("the last known good snapshot could not be written", "error", err)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		err := k.write()
		for err != nil {
			k.log.WarnContext(ctx, "the last known good snapshot could not be written, will try again", "error", err)
			k.mu.Lock()
			k.whole, k.deltas, k.bytes, k.behind = nil, nil, 0, true
			k.mu.Unlock()
			if sleep(ctx, fileRetry); ctx.Err() != nil {
				return
			}
			err = k.renew(ctx)
		}
	}
}

// write writes all that is pending, with one fsync for all deltas.
func (k *keeper) write() error {
	k.mu.Lock()
	whole, deltas, behind := k.whole, k.deltas, k.behind
	k.whole, k.deltas, k.bytes = nil, nil, 0
	k.mu.Unlock()
	if behind {
		return errBehind
	}
	if whole != nil {
		if err := k.file.replace(whole); err != nil {
			return err
		}
	}
	if len(deltas) == 0 {
		return nil
	}
	return k.file.append(deltas)
}

var errBehind = errors.New("the disk did not keep up")

// renew makes the file anew from what is published, if that is good.
func (k *keeper) renew(ctx context.Context) error {
	k.mu.Lock()
	k.behind = false // deltas from here on follow on what is loaded, or on something after it
	k.mu.Unlock()
	s, err := k.src.Load(ctx)
	if err != nil {
		return err
	}
	if err := k.keys.verify(s); err != nil {
		return err
	}
	if err := k.file.replace(s); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.whole == nil && len(k.deltas) > 0 && !k.deltas[0].From.After(s.Head.Position) && k.deltas[0].From != s.Head.Position {
		k.deltas = k.deltas[1:]
	}
	return nil
}

// confirm notes that the source has confirmed the view at a position.
func (k *keeper) confirm(ctx context.Context) {
	if err := k.file.confirm(time.Now()); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.DebugContext(ctx, "the last known good snapshot could not be dated", "error", err)
	}
}

// verify checks counts, digest and signature of a snapshot. The error wraps
// ErrCorrupt, or catalog.ErrSealed when the key is not held.
func (k *Keys) verify(s *Snapshot) error {
	if err := k.Verify(s.Head); err != nil {
		return err
	}
	k, err := k.Activate(s.Head.Seal)
	if err != nil {
		return err
	}
	var digest Digest
	counts := Counts{}
	for _, d := range s.Docs {
		digest = digest.Add(k.Hash(d.Kind, d.Key, d.Doc))
		counts.add(d.Kind, 1)
	}
	if digest != s.Head.Digest || !counts.equal(s.Head.Counts) {
		return fmt.Errorf("the documents at %s are not those of the head: %w", s.Head.Position, ErrCorrupt)
	}
	return nil
}
