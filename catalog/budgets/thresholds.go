package budgets

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
)

// alerts returns those that the budgets of a key or a project call for and that were not raised yet:
// once in each window for a threshold of a limit.
func (e *Enforcer) alerts(of catalog.HoldTarget, standings []Standing) (news []alerts.Alert) {
	for i := range standings {
		s := &standings[i]
		if s.Spent.CostNanoUSD.Sign() <= 0 {
			continue // a limit of 0 is no news
		}
		for _, percent := range append(slices.Clone(s.Budget.AlertAt), exhausted) {
			if percent == exhausted && !s.Exhausted() || percent != exhausted && !s.Reached(percent) {
				continue
			}
			if a := e.alert(of, s, percent); e.raised[a.Identity].IsZero() {
				news = append(news, a)
			}
		}
	}
	return news
}

// exhausted stands for no threshold: the budget is used up.
const exhausted = 0

// alert describes that a budget has reached a threshold.
func (e *Enforcer) alert(of catalog.HoldTarget, s *Standing, percent int64) alerts.Alert {
	b := &s.Budget
	a := alerts.Alert{
		Kind: alerts.BudgetThreshold, Subject: of.String(), Project: e.projectOf(of), At: e.o.Clock(),
		Identity: fmt.Sprintf("budget %s %s %s %s %s %d", of, b.Window, b.Timezone,
			s.Window.Begins.UTC().Format(time.RFC3339), s.limit(), percent),
		Lasting: s.Window.Ends.IsZero(),
	}
	what := fmt.Sprintf("%d%% of %s", percent, s)
	if percent == exhausted {
		a.Kind, what = alerts.BudgetExhausted, "All of "+s.String()
	}
	a.Message = fmt.Sprintf("%s of %s is spent: %s USD.", what, of, USD(&s.Spent.CostNanoUSD))
	return a
}

// raise raises alerts, and remembers it for a while.
func (e *Enforcer) raise(ctx context.Context, news []alerts.Alert, now time.Time) error {
	for identity, end := range e.raised {
		if !end.After(now) {
			delete(e.raised, identity)
		}
	}
	if len(news) == 0 {
		return nil
	}
	if err := e.o.Alarm.Raise(ctx, news...); err != nil {
		return fmt.Errorf("raise alerts: %w", err)
	}
	for i := range news {
		e.raised[news[i].Identity] = now.Add(raisedFor)
	}
	return nil
}

// raisedFor is how long it is remembered that an alert was raised. After that the outbox is asked
// again, which knows it.
const raisedFor = time.Hour
