package snapshot

import (
	"context"
	"errors"
	"fmt"
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

	// maxPassing is how many reports are under way to the source at once, and maxPass how many
	// are passed on after one look; others follow after the next.
	maxPassing = 64
	maxPass    = 4000
)

// passed is what the source was told of a data plane.
type passed struct {
	seenAt time.Time // by the region's engine
}

// passer is what passing reports on needs beside the Mirror. It is for one goroutine.
type passer struct {
	*Mirror
	known map[string]passed
	since time.Time // of the region's engine
	total int       // reports in the region, at the last look
	all   time.Time // when all of them were looked at
}

// passReports passes the region's reports on, as they are, until ctx ends.
func (m *Mirror) passReports(ctx context.Context) {
	p := passer{Mirror: m, known: map[string]passed{}}
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
	err = p.send(ctx, news, list.Now, read)
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

// send passes reports on, several at a time. Those that did not arrive are sent again.
func (p *passer) send(ctx context.Context, news []Node, now, read time.Time) error {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed error
		places = make(chan struct{}, maxPassing)
		oldest = p.since
	)
	for _, n := range news {
		if strings.HasPrefix(n.Error, damagedPrefix) {
			p.askScrub()
		}
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			seen := n.SeenAt
			n.SeenAt, n.Age = time.Time{}, max(now.Sub(seen), 0)+time.Since(read)
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			_, err := p.src.Report(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !errors.Is(err, catalog.ErrInvalid) { // one that is refused is not sent again
				failed = fmt.Errorf("pass reports on: %w", err)
				if seen.Before(oldest) {
					oldest = seen
				}
				return
			}
			p.known[n.ID] = passed{seenAt: seen}
			p.Mirror.mu.Lock()
			p.status.Reports++
			p.Mirror.mu.Unlock()
		})
	}
	group.Wait()
	p.since = oldest
	return failed
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
	for id := range p.known {
		if there[id] {
			continue
		}
		farewell, said := farewells[id]
		if !said {
			farewell = Node{ID: id, Leaving: true}
		}
		if _, err := p.src.Report(ctx, farewell); err != nil {
			return fmt.Errorf("pass on that a data plane has left: %w", err)
		}
		delete(p.known, id)
	}
	return nil
}
