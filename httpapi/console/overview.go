package console

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// overviewView is what is going on.
type overviewView struct {
	First   []firstStep
	Use     use
	Charts  []chart
	Sync    *client.SyncStatus // nil for who is limited to a project
	Holds   []heldRow
	Budgets []budgetRow // of which much is spent
	Changes []changeRow
}

// How much of it the overview shows.
const (
	overviewHolds   = 8
	overviewChanges = 6
)

func (p *page) overview() error {
	var view overviewView
	usage, err := p.client.Usage(
		p.ctx(),
		client.UsageQuery{Since: "24h", Interval: logbuf.Hour, TZ: p.zone.String(), Limit: 100},
	)
	if e, ok := asProblem(err); err != nil && (!ok || e.Status != http.StatusNotFound) {
		return err
	}
	if view.First, err = p.firstSteps(); err != nil {
		return err
	}
	view.Use.add(usage.Data...)
	view.Charts = p.usageCharts(usage, logbuf.Hour)
	if view.Holds, err = p.holds(client.Query{Status: catalog.Active, Limit: overviewHolds}); err != nil {
		return err
	}
	over := client.BudgetsQuery{Over: overviewPercent, Limit: overviewBudgets}
	if view.Budgets, _, err = p.budgetRows(over); err != nil {
		if _, ok := p.problems(err); !ok { // a log store that answers no questions has no budgets to show
			return err
		}
	}
	if !p.Limited() {
		status, err := p.client.SyncStatus(p.ctx())
		if err != nil {
			return err
		}
		view.Sync = &status
		found, _, _, err := p.newest(int64(status.Revision)+1, overviewChanges, feedRows)
		if err != nil {
			return err
		}
		for i, c := range slices.Backward(found) {
			if len(found)-i <= overviewChanges {
				view.Changes = append(view.Changes, p.changeRow(c))
			}
		}
	}
	return p.render("overview", http.StatusOK, view)
}

// progressView is how far a revision has come.
type progressView struct {
	Revision, Catalog int64
	Published         bool
	Applied, Live     int
	Lost              int
	Error             string
	Done              bool // nothing will change any more
}

// progress shows how far a change has come, by itself or as a part of the page that made it.
func (p *page) progress() error {
	revision, err := strconv.ParseInt(p.r.FormValue("revision"), 10, 64)
	if err != nil || revision < 0 {
		return errNoPage
	}
	status, err := p.client.SyncStatus(p.ctx())
	if err != nil {
		return err
	}
	return p.render("progress", http.StatusOK, progressOf(status, revision))
}

func progressOf(status client.SyncStatus, revision int64) progressView {
	view := progressView{
		Revision: revision,
		Catalog:  int64(status.Revision),
		Lost:     status.Lost,
		Error:    status.Error,
	}
	view.Published = status.Published != nil && int64(status.Published.Revision) >= revision
	for _, n := range status.Nodes {
		switch {
		case n.State != "applied" && n.State != "lagging":
		case n.State == "applied" || int64(n.Position.Revision) >= revision && n.Error == "":
			view.Applied++
			view.Live++
		default:
			view.Live++
		}
	}
	view.Done = view.Published && view.Applied == view.Live
	return view
}
