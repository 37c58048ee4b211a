package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
)

// OutboxHarness is what [RunOutbox] needs of an engine.
type OutboxHarness struct {
	// Outbox is under test, and empty. No other test uses its data.
	Outbox alerts.Outbox

	// Second is another handle on the same data, as another process would
	// have. Nil when the engine has none: then Outbox takes its place.
	Second alerts.Outbox
}

// RunOutbox tests everything that [alerts.Outbox] demands. It calls open once for each
// test, for several at once, and open uses its argument's Cleanup.
func RunOutbox(t *testing.T, open func(t testing.TB) OutboxHarness) {
	for _, c := range outboxCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			if h.Second == nil {
				h.Second = h.Outbox
			}
			c.test(t, h)
		})
	}
}

type outboxCase struct {
	name string
	test func(t testing.TB, h OutboxHarness)
}

var outboxCases = []outboxCase{
	{"every field", testOutboxFields},
	{"an identity is kept once", testOutboxOnce},
	{"all or none", testOutboxAtomic},
	{"pages and filters", testOutboxQueries},
	{"claims", testOutboxClaims},
	{"claims at once", testOutboxClaimsAtOnce},
	{"outcomes", testOutboxOutcomes},
	{"forgotten alerts", testOutboxPrune},
	{"canceled alerts", testOutboxCanceled},
}

var outboxTime = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// anAlert is the n-th alert of a test, raised n minutes after the first.
func anAlert(n int) alerts.Alert {
	return alerts.Alert{
		Kind: alerts.KeyExpiring, Severity: alerts.Warning, Subject: fmt.Sprintf("key/%d", n), Message: "It expires.",
		At: outboxTime.Add(time.Duration(n) * time.Minute), Identity: fmt.Sprint("identity ", n),
	}
}

func mustRaise(t testing.TB, box alerts.Outbox, want int, list ...alerts.Alert) {
	t.Helper()
	if n, err := box.RaiseAlerts(t.Context(), list); err != nil || n != want {
		t.Fatalf("RaiseAlerts kept %d, %v; want %d", n, err, want)
	}
}

func mustListAlerts(t testing.TB, box alerts.Outbox, q alerts.Query) []alerts.Alert {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	list, err := box.Alerts(t.Context(), q)
	if err != nil {
		t.Fatalf("Alerts: %v", err)
	}
	return list
}

func mustClaim(t testing.TB, box alerts.Outbox, now time.Time, limit int) []string {
	t.Helper()
	list, err := box.ClaimAlerts(t.Context(), now, now.Add(time.Minute), limit)
	if err != nil {
		t.Fatalf("ClaimAlerts: %v", err)
	}
	return subjects(list)
}

func subjects(list []alerts.Alert) []string {
	names := []string{}
	for _, a := range list {
		names = append(names, a.Subject)
	}
	return names
}

func mustSubjects(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func testOutboxFields(t testing.TB, h OutboxHarness) {
	first := alerts.Alert{
		Kind: "a kind of later", Severity: alerts.Critical, Subject: `project/'";--`, Project: "acme/ü",
		Message: "日本語 😀 %_\\", At: outboxTime, Identity: "é'\"", Lasting: true,
	}
	noise := first
	noise.ID, noise.Tries, noise.Error, noise.DeliveredAt, noise.Identity = 77, 3, "x", outboxTime, "other"
	noise.Lasting, noise.Project = false, ""
	mustRaise(t, h.Outbox, 2, first, noise)
	got := mustListAlerts(t, h.Second, alerts.Query{})
	if len(got) != 2 || got[1].ID <= 0 || got[0].ID <= got[1].ID {
		t.Fatalf("Alerts: %+v; want two, the newest first, with ids that rise", got)
	}
	first.ID, noise.ID = got[1].ID, got[0].ID
	noise.Tries, noise.Error, noise.DeliveredAt = 0, "", time.Time{} // those are the outbox's to say
	if diff := differ([]alerts.Alert{noise, first}, got); diff != "" {
		t.Fatalf("Alerts (-want +got):\n%s", diff)
	}
	got[0].Message = "changed"
	if again := mustListAlerts(t, h.Outbox, alerts.Query{}); again[0].Message == "changed" {
		t.Fatal("the outbox shares memory with its callers")
	}
}

func testOutboxOnce(t testing.TB, h OutboxHarness) {
	mustRaise(t, h.Outbox, 0)
	mustRaise(t, h.Outbox, 1, anAlert(1))
	other := anAlert(2)
	other.Identity = anAlert(1).Identity
	mustRaise(t, h.Second, 0, other)
	mustRaise(t, h.Second, 2, anAlert(3), other, anAlert(4), anAlert(3))
	mustSubjects(t, "Alerts", subjects(mustListAlerts(t, h.Outbox, alerts.Query{})), "key/4", "key/3", "key/1")

	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for i := range 8 {
		wg.Go(func() {
			box := []alerts.Outbox{h.Outbox, h.Second}[i%2]
			n, err := box.RaiseAlerts(t.Context(), []alerts.Alert{anAlert(10), anAlert(11 + i%2)})
			if err != nil {
				t.Errorf("RaiseAlerts at once: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			kept += n
		})
	}
	wg.Wait()
	if kept != 3 {
		t.Fatalf("eight who raised three alerts at once kept %d", kept)
	}
}

func testOutboxAtomic(t testing.TB, h OutboxHarness) {
	for name, spoil := range map[string]func(*alerts.Alert){
		"identity": func(a *alerts.Alert) { a.Identity = "" },
		"message":  func(a *alerts.Alert) { a.Message = "a\x00b" },
		"subject":  func(a *alerts.Alert) { a.Subject = "\xff" },
		"time":     func(a *alerts.Alert) { a.At = time.Time{} },
	} {
		bad := anAlert(2)
		spoil(&bad)
		n, err := h.Outbox.RaiseAlerts(t.Context(), []alerts.Alert{anAlert(1), bad})
		if n != 0 || !errors.Is(err, catalog.ErrInvalid) {
			t.Fatalf("RaiseAlerts with a bad %s: kept %d, %v; want ErrInvalid", name, n, err)
		}
	}
	mustSubjects(t, "Alerts", subjects(mustListAlerts(t, h.Outbox, alerts.Query{})))
}

func testOutboxQueries(t testing.TB, h OutboxHarness) {
	for i, project := range []string{"", "acme", "acme/search", "acme-2", "acme_", "acmeX/search"} {
		a := anAlert(i)
		a.Project = project
		if i%2 == 1 {
			a.Kind = alerts.BudgetExhausted
		}
		mustRaise(t, h.Outbox, 1, a)
	}
	all := mustListAlerts(t, h.Second, alerts.Query{})
	var paged []alerts.Alert
	for q := (alerts.Query{Limit: 2}); ; {
		page := mustListAlerts(t, h.Second, q)
		if len(page) == 0 {
			break
		}
		if paged = append(paged, page...); len(paged) > len(all) {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	if diff := differ(all, paged); diff != "" {
		t.Fatalf("pages of two (-whole +pages):\n%s", diff)
	}
	for _, c := range []struct {
		q    alerts.Query
		want []string
	}{
		{alerts.Query{Project: "acme"}, []string{"key/2", "key/1"}},
		{alerts.Query{Project: "acme/search"}, []string{"key/2"}},
		{alerts.Query{Project: "acme_"}, []string{"key/4"}},
		{alerts.Query{Project: "ac%"}, []string{}},
		{alerts.Query{Project: "/"}, []string{}},
		{alerts.Query{Kind: alerts.BudgetExhausted}, []string{"key/5", "key/3", "key/1"}},
		{alerts.Query{Kind: alerts.BudgetExhausted, Project: "acme", Before: all[0].ID}, []string{"key/1"}},
		{alerts.Query{Kind: "unknown"}, []string{}},
	} {
		mustSubjects(t, fmt.Sprintf("%+v", c.q), subjects(mustListAlerts(t, h.Outbox, c.q)), c.want...)
	}
}

func testOutboxClaims(t testing.TB, h OutboxHarness) {
	for i := range 4 {
		mustRaise(t, h.Outbox, 1, anAlert(i))
	}
	now := anAlert(2).At
	mustSubjects(t, "the first that are due", mustClaim(t, h.Outbox, now, 2), "key/0", "key/1")
	mustSubjects(t, "what is left, and due", mustClaim(t, h.Second, now, 9), "key/2")
	mustSubjects(t, "what is claimed", mustClaim(t, h.Outbox, now, 9))
	later := now.Add(time.Minute)
	mustSubjects(t, "claims end", mustClaim(t, h.Second, later, 9), "key/0", "key/1", "key/2", "key/3")
	mustSubjects(t, "what nobody delivered in time",
		mustClaim(t, h.Outbox, anAlert(1).At.Add(alerts.Patience), 9), "key/2", "key/3")
}

func testOutboxClaimsAtOnce(t testing.TB, h OutboxHarness) {
	const many = 40
	for i := range many {
		mustRaise(t, h.Outbox, 1, anAlert(i))
	}
	now := outboxTime.Add(time.Hour)
	var wg sync.WaitGroup
	var mu sync.Mutex
	times := map[string]int{}
	for i := range 6 {
		wg.Go(func() {
			box := []alerts.Outbox{h.Outbox, h.Second}[i%2]
			for range many {
				list, err := box.ClaimAlerts(t.Context(), now, now.Add(time.Hour), 3)
				if err != nil {
					t.Errorf("ClaimAlerts at once: %v", err)
				}
				mu.Lock()
				for _, s := range subjects(list) {
					times[s]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(times) != many {
		t.Fatalf("%d of %d alerts were claimed", len(times), many)
	}
	for s, n := range times {
		if n != 1 {
			t.Fatalf("%s was claimed %d times", s, n)
		}
	}
}

func testOutboxOutcomes(t testing.TB, h OutboxHarness) {
	for i := range 3 {
		mustRaise(t, h.Outbox, 1, anAlert(i))
	}
	list := mustListAlerts(t, h.Outbox, alerts.Query{})
	slices.Reverse(list)
	now := outboxTime.Add(time.Hour)
	mustClaim(t, h.Outbox, now, 9)
	settle := func(id int64, o alerts.Outcome) {
		t.Helper()
		if err := h.Outbox.SettleAlert(t.Context(), id, o); err != nil {
			t.Fatalf("SettleAlert: %v", err)
		}
	}
	settle(list[0].ID, alerts.Outcome{DeliveredAt: now})
	settle(list[1].ID, alerts.Outcome{Error: "it failed", Again: now.Add(30 * time.Second)})
	settle(1<<60, alerts.Outcome{DeliveredAt: now})
	settle(list[0].ID, alerts.Outcome{Error: "later", Again: now}) // by whoever held an older claim

	want := slices.Clone(list)
	want[0].DeliveredAt, want[0].Tries = now, 2
	want[1].Tries, want[1].Error = 1, "it failed"
	slices.Reverse(want)
	if diff := differ(want, mustListAlerts(t, h.Second, alerts.Query{})); diff != "" {
		t.Fatalf("after two attempts (-want +got):\n%s", diff)
	}
	mustSubjects(t, "before it is due", mustClaim(t, h.Outbox, now.Add(29*time.Second), 9))
	mustSubjects(t, "when it is due", mustClaim(t, h.Outbox, now.Add(30*time.Second), 9), "key/1")
	settle(list[1].ID, alerts.Outcome{DeliveredAt: now.Add(31 * time.Second)})
	if got := mustListAlerts(t, h.Outbox, alerts.Query{})[1]; got.Tries != 2 || got.Error != "" ||
		!got.DeliveredAt.Equal(now.Add(31*time.Second)) {
		t.Fatalf("delivered at the second attempt: %+v", got)
	}
	mustSubjects(t, "long after", mustClaim(t, h.Outbox, now.Add(time.Hour), 9), "key/2")
}

func testOutboxPrune(t testing.TB, h OutboxHarness) {
	for i := range 4 {
		a := anAlert(i)
		a.Lasting = i == 1
		mustRaise(t, h.Outbox, 1, a)
	}
	n, err := h.Outbox.PruneAlerts(t.Context(), anAlert(3).At)
	if err != nil || n != 2 {
		t.Fatalf("PruneAlerts: %d, %v; want 2", n, err)
	}
	mustSubjects(t, "what is left", subjects(mustListAlerts(t, h.Second, alerts.Query{})), "key/3", "key/1")
	mustRaise(t, h.Outbox, 1, anAlert(0), anAlert(1)) // one was forgotten, and one never is
}

func testOutboxCanceled(t testing.TB, h OutboxHarness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, raise := h.Outbox.RaiseAlerts(ctx, []alerts.Alert{anAlert(1)})
	_, list := h.Outbox.Alerts(ctx, alerts.Query{Limit: 1})
	_, claim := h.Outbox.ClaimAlerts(ctx, outboxTime, outboxTime, 1)
	for doing, err := range map[string]error{"RaiseAlerts": raise, "Alerts": list, "ClaimAlerts": claim} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that has ended: %v", doing, err)
		}
	}
	mustSubjects(t, "Alerts", subjects(mustListAlerts(t, h.Outbox, alerts.Query{})))
}
