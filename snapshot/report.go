package snapshot

import (
	"context"
	"errors"
	"time"
)

const (
	// heartbeat is the time from one report to the next when there is no news.
	heartbeat = 5 * time.Second

	// maxHeartbeat leaves time for a report to arrive while the last still counts, see Liveness.
	maxHeartbeat = 12 * time.Second

	// minReports is the least time from one report to the next, and reportShare what
	// each node that is live adds to it: all together report 2,000 times a second at most.
	minReports  = time.Second
	reportShare = time.Second / 2000

	// lookAgain is when a head that is elsewhere is looked at for the second time.
	lookAgain = time.Second

	callTimeout  = 5 * time.Second // of a report, and over HTTP of a head or a beat
	leaveTimeout = 2 * time.Second // of the last one
)

// reporter is what reporting needs beside the Watcher. It is for one goroutine.
type reporter struct {
	*Watcher
	arrived bool      // at least one report did
	last    time.Time // when the last was sent
	missed  elsewhere
}

// elsewhere says that the source was found elsewhere than the view, and where the view was then.
type elsewhere struct {
	found bool
	own   Position
}

// report says what was applied, at once and then regularly, until ctx ends, and then takes the
// report away.
func (w *Watcher) report(ctx context.Context) {
	r := reporter{Watcher: w}
	defer r.leave()
	due := time.Now().Add(between(0, minBackoff))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.news:
			if soon := time.Now().Add(r.rest()); soon.Before(due) {
				due = soon
			}
		case <-timer.C:
			due = time.Now().Add(r.send(ctx))
		}
		timer.Reset(time.Until(due))
	}
}

// share is what all nodes that are live leave for one report of this one.
func (w *Watcher) share() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(time.Duration(w.live)*reportShare, maxHeartbeat)
}

// rest returns how long news has to wait. All nodes have the same news at the same time, so
// they spread what they say about it.
func (r *reporter) rest() time.Duration {
	share := r.share()
	return max(time.Until(r.last.Add(max(minReports, share))), 0) + between(0, share)
}

// period returns when to report though there is no news.
func (r *reporter) period() time.Duration {
	share := r.share()
	p := max(heartbeat, share)
	if r.opts.MaxStale > 0 { // the answer has the beat
		p = max(min(p, r.opts.MaxStale/3), minReports, share)
	}
	return between(p*9/10, p*11/10)
}

// send reports, and heeds the answer. It returns when to report again.
func (r *reporter) send(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r.last = time.Now()
	answer, err := r.src.Report(ctx, r.node())
	if r.noteReport(ctx, err); err != nil {
		if r.opts.MaxStale > 0 && ctx.Err() == nil {
			if beat, err := r.src.LastBeat(ctx); err == nil {
				r.beats.learn(beat, r.view.Load().head)
			}
		}
		return r.period()
	}
	r.arrived = true
	return r.heed(answer)
}

// node returns what there is to report, signed.
func (w *Watcher) node() Node {
	v := w.view.Load()
	n := Node{
		ID: w.id, Position: v.head.Position, Head: v.head.Sig, Version: w.opts.Version,
		Error: w.problem(), Kinds: Kinds(), Store: v.head.Store,
	}
	w.sign(&n, v.head.Seal)
	return n
}

// sign signs with the key of the head that is served, before there is one with the first.
func (w *Watcher) sign(n *Node, seal string) {
	keys := w.opts.Keys
	if seal != "" {
		if active, err := keys.Activate(seal); err == nil {
			keys = active
		}
	}
	keys.SignNode(n)
}

// noteReport logs once that reports do not arrive, and once that they do again.
func (r *reporter) noteReport(ctx context.Context, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // stopped
	}
	text := ""
	if err != nil {
		text = plainText(err.Error())
	}
	r.mu.Lock()
	before := r.status.ReportError
	r.status.ReportError = text
	r.mu.Unlock()
	switch {
	case text != "" && before == "":
		r.log.WarnContext(ctx, "reports to the source do not arrive, so nobody knows what this node has applied", "error",
			err)
	case text == "" && before != "":
		r.log.InfoContext(ctx, "reports to the source arrive again")
	}
}

// heed acts on the answer to a report. When two answers in a row show another head, be it the same
// or not, and the view has not moved, the Next under way has missed something: it is ended with
// ErrUntold. heed returns how long to wait before the next report.
func (r *reporter) heed(a Answer) time.Duration {
	v := r.view.Load()
	r.mu.Lock()
	r.live = min(max(a.Live, 0), MaxNodes)
	r.mu.Unlock()
	r.beats.learn(a.Beat, v.head)
	if r.keeper != nil {
		r.keeper.confirmed(r.beats.latest())
	}
	switch {
	case v.refusal != "" && a.Head == Base{}: // nothing is published, and nothing is served
		r.missed = elsewhere{}
		return r.period()
	case v.refusal == "" && a.Head == v.head.Base():
		r.missed = elsewhere{}
		r.current(v.head.Position)
		return r.period()
	}
	if missed := (elsewhere{true, v.head.Position}); r.missed != missed {
		r.missed = missed
		return min(max(lookAgain, r.share()), r.period())
	}
	r.missed = elsewhere{}
	r.mu.Lock()
	if r.interrupt != nil {
		r.interrupt()
	}
	r.mu.Unlock()
	return r.period()
}

// leave takes the report away: nobody has to wait for this node any more.
func (r *reporter) leave() {
	if !r.arrived {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	n := r.node()
	n.Leaving, n.Sig = true, ""
	r.sign(&n, r.view.Load().head.Seal)
	if _, err := r.src.Report(ctx, n); err != nil {
		r.log.Warn("the report could not be taken away", "error", err)
	}
}
