package console

import (
	"net/http"
	"slices"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// unpricedView is what costs nobody knows how much.
type unpricedView struct {
	Problems []string
	Rows     []unpricedRow
	More     bool
	Writes   bool
}

type unpricedRow struct {
	Namespace, Model string
	Provider         *reference // nil for who is limited to a project
	Requests         int64
	Unpriced         int64
}

// How far back the page of unpriced requests looks, and over how many groups.
const (
	unpricedSpan   = "7d"
	unpricedGroups = 1000
)

// unpriced lists the models, by provider, whose requests had no known price.
func (p *page) unpriced() error {
	query := client.UsageQuery{
		Since: unpricedSpan, Interval: logbuf.Month, TZ: p.zone.String(), Limit: unpricedGroups,
		GroupBy: []logbuf.Dimension{logbuf.ByNamespace, logbuf.ByModel, logbuf.ByProvider},
	}
	view := unpricedView{Writes: p.mayChange(p.nouns[catalog.KindModel])}
	found, err := p.client.Usage(p.ctx(), query)
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("unpriced", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	providers := p.namesOf(catalog.KindProvider)
	for i := range found.Data {
		u := &found.Data[i]
		if u.UnpricedRequests == 0 {
			continue
		}
		row := unpricedRow{
			Namespace: deref(u.Namespace), Model: deref(u.Model), Requests: u.Requests, Unpriced: u.UnpricedRequests,
		}
		if !p.Limited() {
			of := providers.reference(deref(u.ProviderID))
			row.Provider = &of
		}
		view.add(row)
	}
	slices.SortFunc(view.Rows, func(a, b unpricedRow) int { return int(b.Unpriced - a.Unpriced) })
	view.More = found.Next != ""
	return p.render("unpriced", http.StatusOK, view)
}

// add puts a row beside the one of the same group in another month.
func (v *unpricedView) add(row unpricedRow) {
	for i := range v.Rows {
		r := &v.Rows[i]
		if r.Namespace == row.Namespace && r.Model == row.Model &&
			(r.Provider == nil || r.Provider.ID == row.Provider.ID) {
			r.Requests += row.Requests
			r.Unpriced += row.Unpriced
			return
		}
	}
	v.Rows = append(v.Rows, row)
}

// deref returns what a pointer leads to, or the zero value.
func deref[T any](v *T) (zero T) {
	if v != nil {
		return *v
	}
	return zero
}
