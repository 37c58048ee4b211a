package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// NodeState says how far a data plane has come.
type NodeState string

// The states of a data plane.
const (
	NodeApplied    NodeState = "applied"    // serves what is asked for, or something later
	NodeLagging    NodeState = "lagging"    // does not yet, or refuses it
	NodeLost       NodeState = "lost"       // was not heard of for Liveness
	NodeUnverified NodeState = "unverified" // its report is not signed: it answers for nobody
)

// Standing counts data planes by their state.
type Standing struct {
	Applied, Lagging, Lost, Unverified int

	// Crowded says that live data planes may not be known, because there are too
	// many: nobody can tell what was applied everywhere.
	Crowded bool
}

// NodeStatus is what is known of a data plane.
type NodeStatus struct {
	Node
	State NodeState
	Live  bool // was heard of within Liveness
}

const (
	// fleetPace is how often reports are read while somebody waits for them.
	fleetPace = 25 * time.Millisecond

	// fleetReread is how often all reports are read anew, at most, because some
	// have gone. It grows with their number.
	fleetReread = time.Second

	// fleetMissed is how long after its next report was due a data plane is still waited for, if
	// its report has vanished. A node that stops signs that it does; but whoever may write to the
	// publisher can delete the report of a node that goes on.
	fleetMissed = time.Second

	// fleetOverlap is how far before the last answer one asks again.
	fleetOverlap = 100 * time.Millisecond

	maxPublished = 4096 // heads whose signatures are remembered
)

// Fleet follows the reports of all data planes, for the whole process. However many goroutines wait
// for them, it asks the publisher once, and only for what is new since it last asked. A report that
// is not signed with a sync key is shown, but counts for nothing. Without sync keys every report is
// believed. A Fleet is safe for concurrent use.
type Fleet struct {
	pub   Publisher
	keys  *Keys
	room  int           // for reports: MaxNodes
	asked chan struct{} // holds a token while nobody asks

	// Guarded by asked.
	reread time.Time // when all reports were read

	mu        sync.Mutex
	nodes     map[string]*fleetNode
	masked    map[string]*fleetNode // verified and live, where an unverified report has taken the place, or none is there
	now       time.Time             // on the engine's clock, of the last answer
	readAt    time.Time             // when it began to be read, on this process' clock
	crowded   bool
	overflown bool                // there was no room for a live data plane; until all reports are read anew
	least     *Position           // of the live ones that are verified; nil when there are none
	most      *Position           // of the same
	latest    Head                // the last good head that is known
	published map[Position]string // signatures of good heads of the latest one's epoch
}

type fleetNode struct {
	Node
	verified bool
	vanished bool // its report has gone, and it has not said that it stops
	late     late
}

// NewFleet returns a fleet that reads from pub and verifies with keys.
func NewFleet(pub Publisher, keys *Keys) *Fleet {
	f := &Fleet{
		pub: pub, keys: keys, room: MaxNodes, asked: make(chan struct{}, 1),
		nodes: map[string]*fleetNode{}, masked: map[string]*fleetNode{}, published: map[Position]string{},
	}
	f.asked <- struct{}{}
	return f
}

// Refresh reads what is new.
func (f *Fleet) Refresh(ctx context.Context) error { return f.refresh(ctx, time.Now()) }

// refresh reads what is new, unless that was done since a time. Of many that
// call it at once one reads.
func (f *Fleet) refresh(ctx context.Context, since time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.asked:
	}
	defer func() { f.asked <- struct{}{} }()
	f.mu.Lock()
	done, q := f.readAt.After(since), NodeQuery{}
	if !f.now.IsZero() {
		q.Since = f.now.Add(-fleetOverlap)
	}
	known := len(f.nodes)
	f.mu.Unlock()
	if done {
		return nil
	}
	start := time.Now()
	list, err := f.pub.Nodes(ctx, q)
	if err != nil {
		return fmt.Errorf("read the reports of data planes: %w", err)
	}
	f.take(list, start, q.Since.IsZero())
	f.mu.Lock()
	differ := len(f.nodes) != list.Total || f.overflown
	f.mu.Unlock()
	if !differ || q.Since.IsZero() {
		return nil
	}
	// Some have gone: they stopped in good order, or were forgotten, maybe in favour of one that has no room here.
	pause := fleetReread + time.Duration(known)*100*time.Microsecond
	if start.Sub(f.reread) < pause {
		return nil
	}
	f.reread = start
	if list, err = f.pub.Nodes(ctx, NodeQuery{}); err != nil {
		return fmt.Errorf("read the reports of data planes: %w", err)
	}
	f.take(list, start, true)
	return nil
}

// take adds what was read; all says that it is everything.
func (f *Fleet) take(list NodeList, start time.Time, all bool) {
	f.mu.Lock()
	before := f.nodes // replaced or changed under asked alone, which the caller holds
	f.mu.Unlock()
	fresh := make([]*fleetNode, 0, len(list.Nodes))
	for _, n := range list.Nodes[max(0, len(list.Nodes)-f.room):] {
		was := before[n.ID]
		verified := was != nil && n.fields != nil && maps.Equal(was.fields, n.fields) && was.verified
		node := &fleetNode{Node: n, verified: verified || f.keys.VerifyNode(n) == nil}
		if was != nil {
			node.late = was.late
		}
		fresh = append(fresh, node)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if all {
		f.nodes, f.overflown = make(map[string]*fleetNode, len(fresh)), false
	}
	f.now, f.readAt = list.Now, start
	spare := spareRoom{fleet: f}
	for _, n := range fresh {
		was := before[n.ID]
		switch {
		case n.verified:
			delete(f.masked, n.ID)
		case was != nil && was.verified:
			f.masked[n.ID] = was
		}
		if f.nodes[n.ID] != nil || len(f.nodes) < f.room || f.counts(n) && spare.make() {
			f.nodes[n.ID] = n
		}
	}
	f.crowded = list.Crowded || f.overflown
	for id, was := range before {
		if all && was.verified && f.nodes[id] == nil && f.masked[id] == nil {
			f.masked[id] = &fleetNode{Node: was.Node, verified: true, vanished: true}
		}
	}
	due := time.Duration(len(f.nodes)) * reportShare
	due = min(max(due, heartbeat), maxHeartbeat)*11/10 + fleetMissed
	for _, n := range list.Left {
		if f.nodes[n.ID] == nil && f.masked[n.ID] != nil && n.Leaving && f.keys.VerifyNode(n) == nil {
			delete(f.masked, n.ID)
		}
	}
	maps.DeleteFunc(f.masked, func(_ string, n *fleetNode) bool {
		return !f.live(n) || n.vanished && f.now.Sub(n.SeenAt) > due
	})
	f.least, f.most = nil, nil
	for n := range f.each() {
		if !f.counts(n) {
			continue
		}
		f.follow(n)
		if f.least == nil || f.least.After(n.Position) {
			f.least = &n.Position
		}
		if f.most == nil || n.Position.After(*f.most) {
			f.most = &n.Position
		}
	}
}

// spareRoom drops reports that nobody waits for, where there is no room for one that counts.
type spareRoom struct {
	fleet *Fleet
	found bool
	ids   []string // of reports that did not count when they were looked for
}

// make makes room for one, or else notes that there is none. The caller holds mu.
func (s *spareRoom) make() bool {
	f := s.fleet
	if !s.found {
		s.found = true
		for id, n := range f.nodes {
			if !f.counts(n) {
				s.ids = append(s.ids, id)
			}
		}
	}
	for len(s.ids) > 0 {
		id := s.ids[len(s.ids)-1]
		s.ids = s.ids[:len(s.ids)-1]
		if !f.counts(f.nodes[id]) { // it may have come again meanwhile
			delete(f.nodes, id)
			return true
		}
	}
	f.overflown = true
	return false
}

// counts reports whether a data plane has to be waited for. The caller holds mu.
func (f *Fleet) counts(n *fleetNode) bool { return n.verified && f.live(n) }

// each returns all reports that count for something. Whoever cannot sign may write a report under another
// data plane's id: that does not end what the last verified one says, for as long as it
// is live. The caller holds mu.
func (f *Fleet) each() iter.Seq[*fleetNode] {
	return func(yield func(*fleetNode) bool) {
		for _, n := range f.nodes {
			if !yield(n) {
				return
			}
		}
		for _, n := range f.masked {
			if !yield(n) {
				return
			}
		}
	}
}

// publishedHead notes a head that was found good, or was made.
func (f *Fleet) publishedHead(h Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.Position.Epoch != f.latest.Position.Epoch || len(f.published) >= maxPublished {
		clear(f.published)
	}
	f.latest = h
	f.published[h.Position] = h.Sig
}

// head returns the last good head that is known.
func (f *Fleet) head() Head {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest
}

// Standing says how many data planes have applied what is published at a head,
// as far as it is known. Kinds are those that the publish has touched.
func (f *Fleet) Standing(at Head, kinds ...catalog.Kind) Standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Standing{Crowded: f.crowded}
	for n := range f.each() {
		switch f.judge(n, at, kinds) {
		case NodeApplied:
			s.Applied++
		case NodeLagging:
			s.Lagging++
		case NodeLost:
			s.Lost++
		case NodeUnverified:
			s.Unverified++
		}
	}
	return s
}

// judge says how far a data plane has come. The caller holds mu.
func (f *Fleet) judge(n *fleetNode, at Head, kinds []catalog.Kind) NodeState {
	switch {
	case !n.verified:
		return NodeUnverified
	case !f.live(n):
		return NodeLost
	case n.Store != at.Store, at.Position.After(n.Position):
		return NodeLagging
	case n.Position.After(at.Position) && n.Position.After(f.latest.Position):
		return NodeLagging // what it serves was published by nobody that is known
	}
	sig, known := f.published[n.Position]
	if n.Position == at.Position {
		sig, known = at.Sig, true
	}
	if known && n.Head != sig {
		return NodeLagging
	}
	for _, kind := range kinds {
		if !slices.Contains(n.Kinds, kind) {
			return NodeLagging
		}
	}
	return NodeApplied
}

func (f *Fleet) live(n *fleetNode) bool { return f.now.Sub(n.SeenAt) < Liveness }

// Applied waits until every live data plane has applied what is published at a head, and returns
// how many have. When ctx ends first, it returns how many have so far; the error is then nil,
// unless the last attempt to read the reports failed. Concurrent calls share their reads.
func (f *Fleet) Applied(ctx context.Context, at Head, kinds ...catalog.Kind) (Standing, error) {
	var failed error // of the last reading that came to an end
	for pace := fleetPace; ; {
		err := f.refresh(ctx, time.Now().Add(-fleetPace))
		if err == nil {
			err = f.lookAhead(ctx)
		}
		if err == nil && f.mayBeApplied(at) {
			if s := f.Standing(at, kinds...); s.Lagging == 0 && !s.Crowded {
				return s, nil
			}
			pace = min(2*pace, 8*fleetPace) // counting all of many costs
		}
		if ctx.Err() == nil {
			failed = err
		}
		if !rest(ctx, pace) {
			return f.Standing(at, kinds...), failed
		}
	}
}

// mayBeApplied reports whether no live data plane is before a head.
func (f *Fleet) mayBeApplied(at Head) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.least == nil || !at.Position.After(*f.least)
}

// lookAhead reads the published head when a data plane is ahead of all that
// is known: another control plane may have published since.
func (f *Fleet) lookAhead(ctx context.Context) error {
	f.mu.Lock()
	latest, ahead := f.latest, f.most != nil && f.most.After(f.latest.Position)
	f.mu.Unlock()
	if !ahead {
		return nil
	}
	head, err := f.pub.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the published head: %w", err)
	}
	if f.keys.VerifyHead(head) == nil && head.Store == latest.Store && head.Position.After(latest.Position) {
		f.publishedHead(head)
	}
	return nil
}

// vouching returns the live data planes whose reports are verified.
func (f *Fleet) vouching() (live []Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.each() {
		if f.counts(n) {
			live = append(live, n.Node)
		}
	}
	return live
}

// Nodes returns what is known of at most limit data planes, those heard of last
// first, and how many there are. Their state is about the head.
func (f *Fleet) Nodes(at Head, limit int) (nodes []NodeStatus, total int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.SortedFunc(f.each(), func(a, b *fleetNode) int {
		return cmp.Or(b.SeenAt.Compare(a.SeenAt), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range all[:min(limit, len(all))] {
		nodes = append(nodes, NodeStatus{n.Node, f.judge(n, at, nil), f.live(n)})
	}
	return nodes, len(all)
}
