package budgets_test

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
)

// Windows are those of the calendar of their zone, each ends where the next begins, and every
// window that a budget may have is known.
func TestWindows(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct{ window, zone, now, begins, ends string }{
		{"hour", "Asia/Kolkata", "2026-03-01T10:10:00Z", "2026-03-01T09:30:00Z", "2026-03-01T10:30:00Z"},
		{"day", "UTC", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"day", "Asia/Shanghai", "2026-03-01T15:59:59Z", "2026-02-28T16:00:00Z", "2026-03-01T16:00:00Z"},
		{"day", "Asia/Shanghai", "2026-03-01T16:00:00Z", "2026-03-01T16:00:00Z", "2026-03-02T16:00:00Z"},
		{"day", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"}, // 23 hours
		{"week", "UTC", "2026-03-01T23:59:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"},          // a Sunday
		{"month", "America/New_York", "2026-03-31T12:00:00Z", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"},
		{"total", "UTC", "2026-03-31T12:00:00Z", "", ""},
	} {
		w, err := budgets.WindowOf(catalog.Budget{Window: tt.window, Timezone: tt.zone}, at(tt.now))
		if err != nil {
			t.Fatal(err)
		}
		if tt.begins == "" {
			if !w.Begins.IsZero() || !w.Ends.IsZero() {
				t.Errorf("%+v: from %s to %s", tt, w.Begins, w.Ends)
			}
			continue
		}
		if !w.Begins.Equal(at(tt.begins)) || !w.Ends.Equal(at(tt.ends)) {
			t.Errorf("%+v: from %s to %s", tt, w.Begins, w.Ends)
		}
	}
	now := time.Now()
	for _, window := range catalog.BudgetWindows() {
		w, err := budgets.WindowOf(catalog.Budget{Window: window, Timezone: "UTC"}, now)
		if err != nil || w.Begins.After(now) || window != catalog.WindowTotal && !w.Ends.After(now) {
			t.Errorf("window %s: from %s to %s, %v", window, w.Begins, w.Ends, err)
		}
	}
	if _, err := budgets.WindowOf(catalog.Budget{Window: "day", Timezone: "Nowhere/Here"}, now); err == nil {
		t.Error("a zone that does not exist is taken")
	}
}
