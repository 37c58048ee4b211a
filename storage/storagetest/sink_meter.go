package storagetest

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// paths are projects of test entries; 0 comes right after what is below a path.
var paths = []string{"", "a", "a/b", "a/b/c", "a0", "ab", "b"}

// spending makes test entry n with an account, a time and a cost that only depend on n.
func spending(n int) logbuf.Entry {
	rng := rand.New(rand.NewPCG(uint64(n), 7)) //nolint:gosec // the same in every run
	return logEntry(n, func(e *logbuf.Entry) {
		e.KeyID, e.Project = rng.Int64N(4), paths[rng.IntN(len(paths))]
		e.Time = logDay.Add(time.Duration(rng.IntN(72*60)) * time.Minute)
		switch rng.IntN(8) {
		case 0:
			e.CostNanoUSD = nil
		case 1:
			e.CostNanoUSD = new(int64(logbuf.MaxCost) - rng.Int64N(1000)) // many of them are more than an int64
		default:
			e.CostNanoUSD = new(rng.Int64N(1000))
		}
		e.PricedRevision = 1
	})
}

// spans are what sums are asked for.
func spans() []logbuf.SpentQuery {
	keys, projects := []int64{0, 1, 2, 99, 1}, []string{"a", "a/b", "a0", "none", "b", "a"}
	var all []logbuf.SpentQuery
	for _, s := range [][2]time.Time{
		{}, {logDay.Add(24 * time.Hour), logDay.Add(48 * time.Hour)}, {logDay, logDay.Add(24 * time.Hour)},
		{logDay.Add(7*time.Hour + 20*time.Minute), {}}, {logDay.Add(50 * time.Hour), logDay.Add(51 * time.Hour)},
		{logDay.Add(20 * time.Hour), logDay.Add(30 * time.Hour)}, {logDay.Add(time.Hour), logDay.Add(5 * time.Hour)},
	} {
		all = append(all, logbuf.SpentQuery{Since: s[0], Until: s[1], Keys: keys, Projects: projects})
	}
	return all
}

// sumsOf are what a query asks for, of these amounts.
func sumsOf(q *logbuf.SpentQuery, rows []logbuf.FoldRow) logbuf.SpentSums {
	sums := logbuf.SpentSums{Keys: map[int64]logbuf.Sum{}, Projects: map[string]logbuf.Sum{}}
	for _, id := range q.Keys {
		var s logbuf.Sum
		for i := range rows {
			if r := &rows[i]; r.KeyID == id && within(q, r.Starts) {
				s.Add(&r.Sum)
			}
		}
		if !s.IsZero() {
			sums.Keys[id] = s
		}
	}
	for _, path := range q.Projects {
		var s logbuf.Sum
		for i := range rows {
			if r := &rows[i]; logbuf.InProject(r.Project, path) && within(q, r.Starts) {
				s.Add(&r.Sum)
			}
		}
		if !s.IsZero() {
			sums.Projects[path] = s
		}
	}
	return sums
}

func within(q *logbuf.SpentQuery, quarter time.Time) bool {
	return !quarter.Before(q.Since.Truncate(logbuf.Quarter)) && (q.Until.IsZero() || quarter.Before(q.Until))
}

// amountsOf are what entries spend.
func amountsOf(entries ...logbuf.Entry) (rows []logbuf.FoldRow) {
	for _, e := range entries {
		r := logbuf.FoldRow{Starts: e.Time.Truncate(logbuf.Quarter), KeyID: e.KeyID, Project: e.Project}
		if e.CostNanoUSD == nil {
			r.Unpriced = 1
		} else {
			r.CostNanoUSD = *big.NewInt(*e.CostNanoUSD)
		}
		rows = append(rows, r)
	}
	return rows
}

func wantSpent(t testing.TB, what string, m logbuf.Meter, rows []logbuf.FoldRow) (at logbuf.FoldMark) {
	t.Helper()
	for _, q := range spans() {
		got, err := m.Spent(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: Spent: %v", what, err)
		}
		want := sumsOf(&q, rows)
		if !sameSums(want.Keys, got.Keys) || !sameSums(want.Projects, got.Projects) {
			t.Errorf("%s: from %s until %s: keys %v, projects %v; want %v, %v", what, q.Since, q.Until,
				got.Keys, got.Projects, want.Keys, want.Projects)
		}
		at = got.At
	}
	return at
}

func sameSums[K comparable](a, b map[K]logbuf.Sum) bool {
	for k, s := range a {
		other, there := b[k]
		if !there || s.CostNanoUSD.Cmp(&other.CostNanoUSD) != 0 || s.Unpriced != other.Unpriced {
			return false
		}
	}
	return len(a) == len(b)
}

// readFolds reads everything that was added after a fold.
func readFolds(t testing.TB, m logbuf.Meter, after logbuf.FoldMark) (rows []logbuf.FoldRow, at logbuf.FoldMark) {
	t.Helper()
	for range 1000 {
		page, err := m.Folds(t.Context(), after)
		if err != nil {
			t.Fatalf("Folds: %v", err)
		}
		for i := range page.Rows {
			if r := &page.Rows[i]; r.Fold <= after.Number || r.Fold > page.At.Number || i > 0 && page.Rows[i-1].Fold > r.Fold {
				t.Errorf("after fold %d, and until %d: a row of %d", after.Number, page.At.Number, r.Fold)
			}
		}
		rows = append(rows, page.Rows...)
		if after = page.At; !page.More {
			return rows, after
		}
	}
	t.Fatal("Folds always has more")
	return nil, after
}

// testMeter: what was spent at a fold, and what was added since, is what was spent later. Duplicates
// add nothing, prices that are computed anew add differences, and maintenance changes nothing.
func testMeter(t testing.TB, h SinkHarness) {
	m := h.Sink.(logbuf.Meter) //nolint:forcetypeassert // needs has asked
	fold := func() {
		t.Helper()
		if err := m.Fold(t.Context()); err != nil {
			t.Fatalf("Fold: %v", err)
		}
	}
	wantSpent(t, "of nothing", m, nil)
	fold()
	var entries []logbuf.Entry
	for n := range 60 {
		entries = append(entries, spending(n))
	}
	mustStore(t, h.Sink, entries[:20]...)
	fold()
	start := wantSpent(t, "at first", m, amountsOf(entries[:20]...))
	if rows, at := readFolds(t, m, start); len(rows) != 0 || at != start {
		t.Errorf("after the last fold: %d rows, at %v", len(rows), at)
	}
	wantWrite(t, h.Sink, memory(entries[10:40]...), logbuf.Result{Stored: 20, Duplicate: 10})
	fold()
	mustStore(t, h.Second, entries[40:]...)
	fold()
	all := amountsOf(entries...)
	if r, ok := h.Sink.(logbuf.Repricer); ok {
		mustReprice(t, r, func(e *logbuf.Entry) { e.CostNanoUSD, e.PricedRevision = new(int64(3)), 9 })
		for i := range entries {
			entries[i].CostNanoUSD = new(int64(3))
		}
		all = amountsOf(entries...)
		fold()
	}
	end := wantSpent(t, "at the end", m, all)
	rows, at := readFolds(t, m, start)
	if at != end {
		t.Errorf("Folds ends at %v, Spent at %v", at, end)
	}
	for _, q := range spans() {
		want := sumsOf(&q, all)
		got := sumsOf(&q, append(amountsOf(spendings(20)...), rows...))
		if !sameSums(want.Keys, got.Keys) || !sameSums(want.Projects, got.Projects) {
			t.Errorf("from %s until %s: followed %v, %v; want %v, %v", q.Since, q.Until, got.Keys, got.Projects,
				want.Keys, want.Projects)
		}
	}
	sink := h.Sink.(logbuf.Maintainer) //nolint:forcetypeassert // all are
	if err := maintain(t.Context(), sink, time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantSpent(t, "after maintenance", m, all)
}

func spendings(n int) (entries []logbuf.Entry) {
	for i := range n {
		entries = append(entries, spending(i))
	}
	return entries
}

// mustReprice prices all test entries anew.
func mustReprice(t testing.TB, r logbuf.Repricer, price func(*logbuf.Entry)) {
	t.Helper()
	b := logbuf.RepriceBatch{Run: uuid.New(), Query: everything(), Own: true, Price: price}
	for range 1000 {
		result, err := r.Reprice(t.Context(), b)
		if err != nil {
			t.Fatalf("Reprice: %v", err)
		}
		if b.Query.Cursor = result.Next; result.Next == "" {
			return
		}
	}
	t.Fatal("Reprice does not end")
}

// testMeterGaps: what is not known is said to be so. Folds are kept for an hour, and the last
// for ever.
func testMeterGaps(t testing.TB, h SinkHarness) {
	m := h.Sink.(logbuf.Meter) //nolint:forcetypeassert // needs has asked
	tip := func() logbuf.FoldMark {
		t.Helper()
		if err := m.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
		sums, err := m.Spent(t.Context(), logbuf.SpentQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return sums.At
	}
	wantGap := func(what string, after logbuf.FoldMark) {
		t.Helper()
		if _, err := m.Folds(t.Context(), after); !errors.Is(err, logbuf.ErrGap) {
			t.Errorf("%s: %v, want ErrGap", what, err)
		}
	}
	begin := tip()
	mustStore(t, h.Sink, spending(1))
	first := tip()
	mustStore(t, h.Sink, spending(2))
	second := tip()
	if first.Number <= begin.Number || second.Number <= first.Number || first.Mark == second.Mark {
		t.Errorf("folds %v, %v, %v", begin, first, second)
	}
	wantGap("a fold of another history", logbuf.FoldMark{Number: first.Number, Mark: uuid.New()})
	wantGap("a fold that is not there", logbuf.FoldMark{Number: second.Number + 1, Mark: second.Mark})
	wantGap("no fold", logbuf.FoldMark{})
	forget := func(after time.Duration) {
		t.Helper()
		results := logbuf.Maintain(t.Context(), h.Sink.(logbuf.Maintainer), //nolint:forcetypeassert // all are
			logbuf.MaintenanceOptions{Now: time.Now().Add(after)})
		if err := logbuf.MaintenanceError(results); err != nil {
			t.Fatal(err)
		}
	}
	forget(logbuf.FoldsKept - time.Minute)
	if rows, _ := readFolds(t, m, first); len(rows) != 1 {
		t.Errorf("%d rows after most of an hour, want 1", len(rows))
	}
	forget(logbuf.FoldsKept + time.Minute)
	wantGap("a fold that is forgotten", first)
	if rows, at := readFolds(t, m, second); len(rows) != 0 || at != second {
		t.Errorf("after the last fold: %d rows, at %v", len(rows), at)
	}
	mustStore(t, h.Sink, spending(3))
	tip()
	if rows, _ := readFolds(t, m, second); len(rows) != 1 {
		t.Errorf("after the last fold that is kept: %d rows, want 1", len(rows))
	}
}
