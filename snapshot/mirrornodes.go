package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// passInterval is the time from one look at the region's reports to the next.
	passInterval = time.Second

	// passAllInterval is how long a data plane that has left may go unnoticed while
	// as many others come.
	passAllInterval = 30 * time.Second

	// maxPass is how many reports are passed on after one look; others follow after the next.
	maxPass = 4000

	// maxPassing is how many calls are under way to the source at once where each carries one report.
	maxPassing = 64

	// passLot is how many reports one call carries where the source is a [BatchReporter], and maxPassingLots how
	// many such calls are under way at once. They are few, so that others who ask the source wait for few.
	passLot        = 100
	maxPassingLots = 4
)

// passed is what the source was told of a data plane.
type passed struct {
	seenAt time.Time // by the region's engine
}

// passer is what passing reports on needs beside the Mirror. It is for one goroutine.
type passer struct {
	*Mirror
	report func(ctx context.Context, nodes []Node) []error // to the source
	lot    int                                             // how many reports one such call carries
	calls  int                                             // how many are under way at once

	known map[string]passed
	since time.Time // of the region's engine
	total int       // reports in the region, at the last look
	all   time.Time // when all of them were looked at
}

func newPasser(m *Mirror) *passer {
	p := &passer{Mirror: m, known: map[string]passed{}}
	if batch, ok := m.src.(BatchReporter); ok {
		p.report, p.lot, p.calls = batch.ReportAll, passLot, maxPassingLots
		return p
	}
	p.lot, p.calls = 1, maxPassing
	p.report = func(ctx context.Context, nodes []Node) []error {
		_, err := m.src.Report(ctx, nodes[0])
		return []error{err}
	}
	return p
}

// passReports passes the region's reports on, as they are, until ctx ends.
func (m *Mirror) passReports(ctx context.Context) {
	p := newPasser(m)
	for rest(ctx, between(passInterval*3/4, passInterval*5/4)) {
		err := p.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		p.noteReports(ctx, err)
	}
}

func (m *Mirror) noteReports(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = plainText(err.Error())
	}
	m.mu.Lock()
	before := m.status.ReportError
	m.status.ReportError = text
	m.mu.Unlock()
	switch {
	case text != "" && before == "":
		m.log.WarnContext(ctx, "the region's reports are not passed on, so the origin does not know "+
			"what was applied here", "error", err)
	case text == "" && before != "":
		m.log.InfoContext(ctx, "the region's reports are passed on again")
	}
}

// pass passes on what is new.
func (p *passer) pass(ctx context.Context) error {
	list, err := p.dst.Nodes(ctx, NodeQuery{Since: p.since, Limit: MaxNodes})
	if err != nil {
		return fmt.Errorf("read the region's reports: %w", err)
	}
	read := time.Now()
	var news []Node
	p.since = list.Now
	for _, n := range list.Nodes {
		if n.SeenAt.After(list.Now.Add(-Liveness)) && n.SeenAt.After(p.known[n.ID].seenAt) {
			news = append(news, n)
		}
	}
	if len(news) > maxPass { // the rest comes next time, the oldest first
		news = news[:maxPass]
		p.since = news[len(news)-1].SeenAt
	}
	for _, n := range news {
		if strings.HasPrefix(n.Error, damagedPrefix) {
			p.askScrub()
		}
	}
	missed, err := p.send(ctx, news, clock{list.Now, read})
	for _, n := range missed {
		if n.SeenAt.Before(p.since) {
			p.since = n.SeenAt
		}
	}
	p.forget(list.Now)
	if list.Total < p.total || time.Since(p.all) > passAllInterval {
		err = errors.Join(err, p.passLeaving(ctx))
	}
	p.total = list.Total
	p.mu.Lock()
	p.status.Nodes = len(p.known)
	p.mu.Unlock()
	return err
}

// send passes reports on, several at a time. It returns those that did not arrive, which are to be sent
// again, and why; one that the source refuses is not among them.
func (p *passer) send(ctx context.Context, nodes []Node, region clock) (missed []Node, err error) {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		places = make(chan struct{}, p.calls)
	)
	for lot := range slices.Chunk(nodes, p.lot) {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			errs := p.report(ctx, region.aged(lot))
			mu.Lock()
			defer mu.Unlock()
			for i, n := range lot {
				switch {
				case errs[i] != nil && !errors.Is(errs[i], catalog.ErrInvalid):
					missed, err = append(missed, n), fmt.Errorf("pass reports on: %w", errs[i])
				case n.Leaving:
					delete(p.known, n.ID)
				default:
					p.known[n.ID] = passed{seenAt: n.SeenAt}
				}
			}
		})
	}
	group.Wait()
	p.mu.Lock()
	p.status.Reports += int64(len(nodes) - len(missed))
	p.mu.Unlock()
	return missed, err
}

// clock is what the clock of the region's engine said at a time of the mirror's own.
type clock struct{ engine, own time.Time }

// aged returns the reports as they are passed on: how long ago each was seen, in place of when. One that
// says that a data plane has left counts from now.
func (c clock) aged(nodes []Node) []Node {
	now := c.engine.Add(time.Since(c.own))
	nodes = slices.Clone(nodes)
	for i, n := range nodes {
		if !n.Leaving {
			nodes[i].Age = max(now.Sub(n.SeenAt), 0)
		}
		nodes[i].SeenAt = time.Time{}
	}
	return nodes
}

// forget drops data planes that were not heard of for a while: they are lost, in the origin too.
func (p *passer) forget(now time.Time) {
	for id, k := range p.known {
		if k.seenAt.Before(now.Add(-Liveness)) {
			delete(p.known, id)
		}
	}
}

// passLeaving tells the source of data planes that have taken their reports away in the region.
func (p *passer) passLeaving(ctx context.Context) error {
	p.all = time.Now()
	list, err := p.dst.Nodes(ctx, NodeQuery{})
	if err != nil {
		return fmt.Errorf("read the region's reports: %w", err)
	}
	farewells := make(map[string]Node, len(list.Left))
	for _, n := range list.Left {
		farewells[n.ID] = n
	}
	there := make(map[string]bool, len(list.Nodes))
	for _, n := range list.Nodes {
		there[n.ID] = true
	}
	var left []Node
	for id := range p.known {
		if there[id] {
			continue
		}
		farewell, said := farewells[id]
		if !said {
			farewell = Node{ID: id, Leaving: true}
		}
		left = append(left, farewell)
	}
	_, err = p.send(ctx, left, clock{})
	return err
}
