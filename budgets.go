package ezapi

import (
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// BudgetWindow returns when the window of a budget that a time lies in begins, and when it ends.
// The window total begins at the zero time, and ends at none, which is the zero time, too.
func BudgetWindow(b catalog.Budget, now time.Time) (begins, ends time.Time, err error) {
	zone, err := b.Zone()
	if err != nil || b.Window == catalog.WindowTotal {
		return time.Time{}, time.Time{}, err
	}
	i := logbuf.Interval(b.Window) // they have the same names
	return i.Start(now, zone), i.Next(now, zone), nil
}
