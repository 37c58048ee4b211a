package catalog_test

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

func TestWindowStart(t *testing.T) {
	berlin := time.FixedZone("", 2*60*60)
	for _, c := range []struct {
		window    string
		now, want time.Time
	}{
		{"day", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"day", time.Date(2026, 3, 1, 1, 30, 0, 0, berlin), time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)},
		{"week", time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC), time.Date(2026, 2, 23, 0, 0, 0, 0, time.UTC)}, // a Sunday
		{"week", time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)},    // a Monday
		{"month", time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"total", time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC), time.Time{}},
		{"", time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC), time.Time{}},
	} {
		if got := catalog.WindowStart(c.window, c.now); !got.Equal(c.want) {
			t.Errorf("%s at %s: %s, want %s", c.window, c.now, got, c.want)
		}
	}
}
