package memstore

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// maxLeft bounds the farewells that are kept.
const maxLeft = 256

// nodes are the reports of data planes, in the order in which they came, so that what is asked
// for and what is forgotten is found at an end.
type nodes struct {
	byID    map[string]*list.Element
	order   list.List // of *report, the longest unseen first
	crowded time.Time // until when nobody knows what was applied everywhere

	left []report // with which nodes took theirs away, within Liveness

	live *list.Element // the first in order that came within Liveness, as far as alive has looked
	lost int           // how many are before it
}

// report is one node's. The node's SeenAt is when somebody first heard of it, which is
// before it came here when a mirror has passed it on.
type report struct {
	node snapshot.Node
	came time.Time
	lost bool // did not come within Liveness; see nodes.lost
}

var _ snapshot.BatchReporter = (*Publisher)(nil)

// Report implements [snapshot.Reporter].
func (p *Publisher) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	if err := p.record(ctx, n); err != nil {
		return snapshot.Answer{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return snapshot.Answer{Head: p.live.base(), Beat: p.live.beat(), Live: p.nodes.alive(p.clock())}, nil
}

// ReportAll implements [snapshot.BatchReporter].
func (p *Publisher) ReportAll(ctx context.Context, nodes []snapshot.Node) []error {
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		errs[i] = p.record(ctx, n)
	}
	return errs
}

// record keeps a report, unless it is older than the one that is kept.
func (p *Publisher) record(ctx context.Context, n snapshot.Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	kept, err := snapshot.ParseNode(n.Encode()) // a copy
	if err != nil {
		return fmt.Errorf("memstore: report: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	kept.SeenAt = now.Add(-max(n.Age, 0)).Truncate(time.Microsecond)
	p.nodes.forget(now)
	if before := p.nodes.byID[kept.ID]; before == nil || !kept.SeenAt.Before(before.Value.(*report).node.SeenAt) {
		p.nodes.put(&report{node: kept, came: now})
	}
	return nil
}

// Nodes implements [snapshot.Publisher].
func (p *Publisher) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.NodeList{}, err
	}
	p.mu.Lock()
	now := p.clock()
	p.nodes.forget(now)
	answer := snapshot.NodeList{Now: now, Total: len(p.nodes.byID), Crowded: p.nodes.crowded.After(now)}
	var asked []snapshot.Node
	for e := p.nodes.order.Back(); e != nil && (q.Limit <= 0 || len(asked) < q.Limit); e = e.Prev() {
		r := e.Value.(*report)
		if r.came.Before(q.Since) {
			break
		}
		asked = append(asked, r.node)
	}
	left := slices.Clone(p.nodes.left)
	p.mu.Unlock()

	for _, kept := range slices.Backward(asked) {
		n, err := snapshot.ParseNode(kept.Encode()) // a copy
		if err != nil {
			return answer, fmt.Errorf("memstore: nodes: %w", err)
		}
		n.SeenAt = kept.SeenAt
		answer.Nodes = append(answer.Nodes, n)
	}
	for _, r := range left {
		n, err := snapshot.ParseNode(r.node.Encode())
		if err != nil {
			return answer, fmt.Errorf("memstore: nodes: %w", err)
		}
		answer.Left = append(answer.Left, n)
	}
	slices.SortStableFunc(answer.Nodes, func(a, b snapshot.Node) int { return a.SeenAt.Compare(b.SeenAt) })
	return answer, nil
}

func (p *Publisher) clock() time.Time { return p.now().UTC().Truncate(time.Microsecond) }

// put keeps a report, or takes away that of a node that leaves.
func (n *nodes) put(r *report) {
	before := n.byID[r.node.ID]
	if before != nil {
		n.remove(before)
	}
	if r.node.Leaving {
		n.left = append(n.left[max(0, len(n.left)+1-maxLeft):], *r)
	} else {
		e := n.order.PushBack(r)
		n.byID[r.node.ID] = e
		if n.live == nil {
			n.live = e
		}
	}
	for len(n.byID) > snapshot.MaxNodes {
		oldest := n.order.Front()
		if r.came.Sub(oldest.Value.(*report).came) <= snapshot.Liveness {
			n.crowded = r.came.Add(snapshot.Liveness)
		}
		n.remove(oldest)
	}
}

func (n *nodes) remove(e *list.Element) {
	if e == n.live {
		n.live = e.Next()
	}
	r := e.Value.(*report)
	if r.lost {
		n.lost--
	}
	delete(n.byID, r.node.ID)
	n.order.Remove(e)
}

// forget drops what was not heard of for [snapshot.Remembered].
func (n *nodes) forget(now time.Time) {
	for e := n.order.Front(); e != nil && now.Sub(e.Value.(*report).came) > snapshot.Remembered; e = n.order.Front() {
		n.remove(e)
	}
	n.left = slices.DeleteFunc(n.left, func(r report) bool { return now.Sub(r.came) > snapshot.Liveness })
}

// alive returns how many came within [snapshot.Liveness].
func (n *nodes) alive(now time.Time) int {
	for ; n.live != nil; n.live = n.live.Next() {
		r := n.live.Value.(*report)
		if now.Sub(r.came) <= snapshot.Liveness {
			break
		}
		r.lost = true
		n.lost++
	}
	return n.order.Len() - n.lost
}
