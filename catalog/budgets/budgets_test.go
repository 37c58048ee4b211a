package budgets_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/logbuf"
)

func budget(r *rapid.T, window string) catalog.Budget {
	limit := catalog.NanoUSD(rapid.Int64Range(0, 20).Draw(r, "limit"))
	return catalog.Budget{
		Limit: &limit, Window: window,
		Timezone: rapid.SampledFrom([]string{"UTC", "Asia/Shanghai", "Asia/Kolkata", "America/New_York"}).Draw(r, "zone"),
		Action:   rapid.SampledFrom(catalog.BudgetActions()).Draw(r, "action"),
	}
}

var start = time.Date(2026, 3, 7, 22, 0, 0, 0, time.UTC)

// The hold is that of the latest end among the windows whose blocking budgets are used up, and there
// is none when none is. Where nothing may be spent, it has no end.
func TestJudge(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		now := start.Add(time.Duration(rapid.IntRange(0, 100_000).Draw(r, "minutes")) * time.Minute)
		var standings []budgets.Standing
		want := budgets.Verdict{}
		endless := false
		for _, window := range rapid.SliceOfDistinct(rapid.SampledFrom(catalog.BudgetWindows()), rapid.ID).Draw(r,
			"windows") {
			s := budgets.Standing{Budget: budget(r, window)}
			s.Spent.CostNanoUSD.SetInt64(rapid.Int64Range(-2, 25).Draw(r, "spent"))
			var err error
			if s.Window, err = budgets.WindowOf(s.Budget, now); err != nil {
				r.Fatal(err)
			}
			standings = append(standings, s)
			limit, spent := int64(*s.Budget.Limit), s.Spent.CostNanoUSD.Int64()
			if got := s.Exhausted(); got != (spent >= limit) {
				r.Fatalf("%d of %d: exhausted is %t", spent, limit, got)
			}
			if spent < limit || s.Budget.Action != catalog.BudgetBlock {
				continue
			}
			want.Held = true
			if window == catalog.WindowTotal || limit == 0 {
				endless = true
			} else if s.Window.Ends.After(want.Until) {
				want.Until = s.Window.Ends
			}
		}
		if endless {
			want.Until = time.Time{}
		}
		got := budgets.Judge(standings)
		if got.Held != want.Held || !got.Until.Equal(want.Until) || got.Held != (got.Message != "") {
			r.Fatalf("%+v; want %+v", got, want)
		}
	})
}

// Thresholds are reached exactly, also where the product is more than an int64.
func TestReached(t *testing.T) {
	limit := catalog.NanoUSD(9_000_000_000_000_000_000)
	s := budgets.Standing{Budget: catalog.Budget{Limit: &limit}}
	s.Spent.CostNanoUSD.SetString("7199999999999999999", 10)
	if s.Reached(80) || s.Percent() != 79 {
		t.Errorf("a nano-dollar below 80 %%: %d %%", s.Percent())
	}
	s.Spent.CostNanoUSD.Add(&s.Spent.CostNanoUSD, big.NewInt(1))
	if !s.Reached(80) || s.Reached(81) || s.Percent() != 80 {
		t.Errorf("80 %%: %d %%", s.Percent())
	}
	s.Spent.CostNanoUSD.Lsh(&s.Spent.CostNanoUSD, 100)
	if s.Percent() != 1<<53-1 {
		t.Errorf("far beyond: %d %%", s.Percent())
	}
	for nano, want := range map[int64]string{0: "0", 1: "0.000000001", 1_500_000_000: "1.5", -20_000_000_000: "-20"} {
		if got := budgets.USD(big.NewInt(nano)); got != want {
			t.Errorf("%d is %s USD, want %s", nano, got, want)
		}
	}
}

// What is done to a hold, by what is there and what should be.
func TestNext(t *testing.T) {
	now, later := start, start.Add(time.Hour)
	held := budgets.Verdict{Held: true, Until: later}
	for name, c := range map[string]struct {
		want    budgets.Verdict
		present *catalog.BudgetHold
		step    budgets.Step
	}{
		"nothing":                    {budgets.Verdict{}, nil, budgets.Keep},
		"used up":                    {held, nil, budgets.Make},
		"used up for ever":           {budgets.Verdict{Held: true}, nil, budgets.Make},
		"the window ended meanwhile": {budgets.Verdict{Held: true, Until: now}, nil, budgets.Keep},
		"held":                       {held, &catalog.BudgetHold{Until: later, Status: "active"}, budgets.Keep},
		"held for ever":              {budgets.Verdict{Held: true}, &catalog.BudgetHold{Status: "active"}, budgets.Keep},
		"held for longer":            {held, &catalog.BudgetHold{Status: "active"}, budgets.Change},
		"held for less":              {held, &catalog.BudgetHold{Until: now.Add(1), Status: "active"}, budgets.Change},
		"held before":                {held, &catalog.BudgetHold{Until: now, Status: "active"}, budgets.Change},
		"raised": {budgets.Verdict{}, &catalog.BudgetHold{Until: later, Status: "active"},
			budgets.End},
		"raised, for ever":             {budgets.Verdict{}, &catalog.BudgetHold{Status: "active"}, budgets.End},
		"over":                         {budgets.Verdict{}, &catalog.BudgetHold{Until: now, Status: "active"}, budgets.Keep},
		"disabled":                     {held, &catalog.BudgetHold{Until: later, Status: "disabled"}, budgets.Keep},
		"disabled, and ends otherwise": {held, &catalog.BudgetHold{Until: now.Add(1), Status: "disabled"}, budgets.Keep},
		"disabled for ever":            {held, &catalog.BudgetHold{Status: "disabled"}, budgets.Keep},
		"disabled until a moment ago":  {held, &catalog.BudgetHold{Until: now, Status: "disabled"}, budgets.Change},
		"disabled, and raised": {budgets.Verdict{}, &catalog.BudgetHold{Until: later, Status: "disabled"},
			budgets.End},
		"disabled for ever, and raised": {budgets.Verdict{}, &catalog.BudgetHold{Status: "disabled"}, budgets.End},
		"disabled, and over": {budgets.Verdict{}, &catalog.BudgetHold{Until: now, Status: "disabled"},
			budgets.Keep},
	} {
		var present catalog.BudgetHold
		if c.present != nil {
			present = *c.present
		}
		if got := budgets.Next(c.want, present, c.present != nil, now); got != c.step {
			t.Errorf("%s: step %d, want %d", name, got, c.step)
		}
	}
}

// fixed are accounts that stay as they are.
type fixed map[catalog.HoldTarget][]catalog.Budget

func (f fixed) Budgets(t catalog.HoldTarget) []catalog.Budget { return f[t] }

// Sums that were read at any time and to which everything was added since are what all rows that
// were added make, whatever their windows and however often the sums are read.
func TestBookKeepsSums(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		accounts := fixed{}
		for _, of := range []catalog.HoldTarget{{KeyID: 1}, {KeyID: 2}, {Project: "a"}, {Project: "a/b"}} {
			for _, window := range catalog.BudgetWindows()[:3] {
				accounts[of] = append(accounts[of], budget(r, window))
			}
			accounts[of] = append(accounts[of], budget(r, catalog.WindowTotal))
		}
		var all []logbuf.FoldRow
		book, now := budgets.NewBook(), start
		tip := logbuf.FoldMark{Number: 1, Mark: uuid.New()}
		book.Begin(tip)
		followed := tip
		some := rapid.SliceOfDistinct(rapid.SampledFrom(
			[]catalog.HoldTarget{{KeyID: 1}, {KeyID: 2}, {KeyID: 9}, {Project: "a"},
				{Project: "a/b"}}), rapid.ID[catalog.HoldTarget])
		spent := func(of catalog.HoldTarget, w budgets.Window, until int64) (sum logbuf.Sum) {
			for i := range all {
				mine := of.KeyID != 0 && all[i].KeyID == of.KeyID ||
					of.Project != "" && logbuf.InProject(all[i].Project, of.Project)
				if mine && all[i].Fold <= until && w.Has(all[i].Starts) {
					sum.Add(&all[i].Sum)
				}
			}
			return sum
		}
		r.Repeat(map[string]func(*rapid.T){
			"spend": func(r *rapid.T) {
				tip = logbuf.FoldMark{Number: tip.Number + 1, Mark: uuid.New()}
				for range rapid.IntRange(1, 3).Draw(r, "rows") {
					row := logbuf.FoldRow{
						Fold: tip.Number, KeyID: rapid.Int64Range(0, 3).Draw(r, "key"),
						Project: rapid.SampledFrom([]string{"", "a", "a/b", "a/b/c", "b", "a0"}).Draw(r, "project"),
						Starts: now.Add(time.Duration(rapid.IntRange(-100, 8).Draw(r, "quarter")) *
							logbuf.Quarter).Truncate(logbuf.Quarter),
					}
					row.CostNanoUSD.SetInt64(rapid.Int64Range(-3, 9).Draw(r, "cost"))
					row.Unpriced = rapid.Int64Range(-1, 1).Draw(r, "unpriced")
					all = append(all, row)
				}
			},
			"follow": func(r *rapid.T) {
				page := logbuf.FoldPage{At: tip}
				touched := map[catalog.HoldTarget]bool{}
				for _, row := range all {
					if row.Fold > followed.Number {
						page.Rows = append(page.Rows, row)
						touched[catalog.HoldTarget{KeyID: row.KeyID}] = true
						touched[catalog.HoldTarget{Project: row.Project}] = true
					}
				}
				for _, of := range book.Add(page, accounts, now) {
					if len(accounts[of]) == 0 {
						r.Fatalf("%s has no budget, and is touched", of)
					}
					delete(touched, of)
				}
				for of := range touched {
					if len(accounts[of]) > 0 {
						r.Fatalf("%s has spent something, and is not touched", of)
					}
				}
				followed = tip
			},
			"read": func(r *rapid.T) {
				for _, need := range book.Needs(some.Draw(r, "of"), accounts, now) {
					sums := logbuf.SpentSums{At: tip, Keys: map[int64]logbuf.Sum{}, Projects: map[string]logbuf.Sum{}}
					for _, id := range need.Query.Keys {
						sums.Keys[id] = spent(catalog.HoldTarget{KeyID: id}, need.Window, tip.Number)
					}
					for _, path := range need.Query.Projects {
						sums.Projects[path] = spent(catalog.HoldTarget{Project: path}, need.Window, tip.Number)
					}
					book.Put(need, sums)
				}
			},
			"forget": func(r *rapid.T) {
				book.Retain(catalog.HoldTarget{KeyID: 1}, accounts[catalog.HoldTarget{KeyID: 1}][:2])
			},
			"wait": func(r *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(r, "minutes")) * time.Minute)
			},
			"": func(r *rapid.T) {
				for of, limits := range accounts {
					for _, b := range limits {
						standings, ok := book.Standings(of, []catalog.Budget{b}, now)
						if !ok {
							continue
						}
						s := standings[0]
						low, high := spent(of, s.Window, followed.Number), spent(of, s.Window, tip.Number)
						// A sum that was read is ahead of what was followed.
						if !equal(s.Spent, low) && !equal(s.Spent, high) && followed == tip {
							r.Fatalf("%s, %s: %v; want %v", of, b.Window, &s.Spent.CostNanoUSD, &low.CostNanoUSD)
						}
					}
				}
			},
		})
	})
}

func equal(a, b logbuf.Sum) bool {
	return a.Unpriced == b.Unpriced && a.CostNanoUSD.Cmp(&b.CostNanoUSD) == 0
}

// Whoever spends in a quarter of an hour that has not begun is looked at when it has.
func TestBookIsDue(t *testing.T) {
	of := catalog.HoldTarget{KeyID: 1}
	limit := catalog.NanoUSD(1)
	accounts := fixed{of: {{Limit: &limit, Window: "day", Timezone: "UTC"}}}
	book := budgets.NewBook()
	row := logbuf.FoldRow{Fold: 1, KeyID: 1, Starts: start.Add(2 * time.Hour)}
	book.Add(logbuf.FoldPage{Rows: []logbuf.FoldRow{row}}, accounts, start)
	if due := book.Due(start.Add(2*time.Hour - 1)); len(due) != 0 {
		t.Errorf("due before it has begun: %v", due)
	}
	for n, want := range []int{1, 0} {
		if due := book.Due(start.Add(2 * time.Hour)); len(due) != want {
			t.Errorf("asked %d times: due %v", n+1, due)
		}
	}
}
