// Package budgets has the rules of budgets: what their windows are, what was spent in them, and
// what hold follows from that. A [Book] keeps sums in memory, [Judge] says what follows from them, and
// neither asks anybody; an [Enforcer] asks the log store, and makes the holds.
package budgets

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// A Window is a span of time that a budget is for. Zero times are without an end.
type Window struct{ Begins, Ends time.Time }

// WindowOf returns the window of a budget that a time lies in.
func WindowOf(b catalog.Budget, now time.Time) (w Window, err error) {
	zone, err := b.Zone()
	if err != nil || b.Window == catalog.WindowTotal {
		return Window{}, err
	}
	now = now.UTC().Round(0)       // so that equal windows are the same
	i := logbuf.Interval(b.Window) // they have the same names
	return Window{i.Start(now, zone).UTC(), i.Next(now, zone).UTC()}, nil
}

// Has reports whether a quarter of an hour counts in the window.
func (w Window) Has(quarter time.Time) bool {
	return !quarter.Before(w.Begins.Truncate(logbuf.Quarter)) &&
		(w.Ends.IsZero() || quarter.Before(w.Ends.Truncate(logbuf.Quarter)))
}

// A Standing is how one budget stands.
type Standing struct {
	Budget catalog.Budget
	Window Window
	Spent  logbuf.Sum
}

// limit returns the limit, which every budget that was checked has.
func (s *Standing) limit() *big.Int {
	if s.Budget.Limit == nil {
		return new(big.Int)
	}
	return big.NewInt(int64(*s.Budget.Limit))
}

// Reached reports whether so many hundredths of the limit are spent.
func (s *Standing) Reached(percent int64) bool {
	spent := new(big.Int).Mul(&s.Spent.CostNanoUSD, big.NewInt(100))
	return spent.Cmp(new(big.Int).Mul(s.limit(), big.NewInt(percent))) >= 0
}

// Exhausted reports whether the budget is used up.
func (s *Standing) Exhausted() bool { return s.Reached(100) }

// Percent returns how many whole hundredths of the limit are spent; 100 of a limit of 0.
func (s *Standing) Percent() int64 {
	limit := s.limit()
	if limit.Sign() == 0 {
		return 100
	}
	n := new(big.Int).Mul(&s.Spent.CostNanoUSD, big.NewInt(100))
	if n.Quo(n, limit); !n.IsInt64() {
		return 1<<53 - 1 // as large as JSON takes it everywhere
	}
	return min(n.Int64(), 1<<53-1)
}

// A Verdict is what follows from how the budgets of a key or a project stand.
type Verdict struct {
	Held    bool
	Until   time.Time // zero is without an end
	Message string    // why it is held
}

// Judge returns the hold that there should be: until the latest end of the windows whose budgets
// are used up. Where nothing may be spent at all, it has no end.
func Judge(standings []Standing) (v Verdict) {
	for i := range standings {
		s := &standings[i]
		if s.Budget.Action != catalog.BudgetBlock || !s.Exhausted() {
			continue
		}
		ends := s.Window.Ends
		if s.limit().Sign() == 0 { // nothing may be spent in the next window either
			ends = time.Time{}
		}
		if v.Held && !v.Until.IsZero() && (ends.IsZero() || ends.After(v.Until)) || !v.Held {
			v = Verdict{Held: true, Until: ends, Message: describe(&s.Budget) + " is used up"}
		}
	}
	return v
}

// String says which budget it is of: "the budget of 1 USD a day (UTC)".
func (s *Standing) String() string { return describe(&s.Budget) }

// USD writes an amount of nano-dollars as dollars.
func USD(nano *big.Int) string {
	const digits = 9
	text := fmt.Sprintf("%0*d", digits+1, new(big.Int).Abs(nano))
	text = strings.TrimRight(text[:len(text)-digits]+"."+text[len(text)-digits:], "0")
	text = strings.TrimSuffix(text, ".")
	if nano.Sign() < 0 {
		text = "-" + text
	}
	return text
}

// describe says which budget is meant: "the budget of 1 USD a day (Asia/Shanghai)".
func describe(b *catalog.Budget) string {
	limit := catalog.NanoUSD(0)
	if b.Limit != nil {
		limit = *b.Limit
	}
	if b.Window == catalog.WindowTotal {
		return fmt.Sprintf("the budget of %s USD in total", limit)
	}
	article := "a"
	if b.Window == catalog.WindowHour {
		article = "an"
	}
	return fmt.Sprintf("the budget of %s USD %s %s (%s)", limit, article, b.Window, b.Timezone)
}

// A Step is what is to be done to the hold of a key or a project.
type Step int

// The steps.
const (
	Keep   Step = iota // as it is
	Make               // it is not there
	Change             // it ends at another time, or has ended
	End                // it should not be there
)

// Next returns the step from the hold that is there, if one is, to the one that should be. A hold
// that a person has disabled is left alone until it ends or its cause is gone: the next time that a
// budget is used up, it holds again. What has ended is left to maintenance.
func Next(v Verdict, present catalog.BudgetHold, there bool, now time.Time) Step {
	ended := there && !present.Until.IsZero() && !now.Before(present.Until)
	switch {
	case v.Held && !v.Until.IsZero() && !now.Before(v.Until): // the window has ended meanwhile
		return Keep
	case v.Held && !there:
		return Make
	case v.Held && ended:
		return Change
	case !there, ended:
		return Keep
	case !v.Held:
		return End
	case present.Status != catalog.Active:
		return Keep
	case !v.Until.Equal(present.Until):
		return Change
	}
	return Keep
}
