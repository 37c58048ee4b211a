package rollup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// However few entries a run selects, and however slowly they are found: a step ends soon and says where
// to go on, and all steps together look at every instant of the range once.
func TestStepsOfARunAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
		since := until.AddDate(0, 0, -90)
		rare := map[time.Time]bool{since: true, until.AddDate(0, 0, -40): true, until.Add(-time.Microsecond): true}
		b := logbuf.RepriceBatch{Price: func(*logbuf.Entry) {}}
		looked, steps := until, 0
		query := logbuf.LogQuery{Since: since, Until: until, Limit: 1000}
		for more := true; more; steps++ {
			r, err := query.Resolve(until)
			if err != nil {
				t.Fatal(err)
			}
			var p Repricing
			begun := time.Now()
			err = p.Walk(&b, r, func(part logbuf.LogRange) (found []logbuf.Entry, err error) {
				if !part.Before.Equal(looked) || part.Since.Before(since) || !part.Since.Before(part.Before) {
					t.Fatalf("looks from %s before %s; all from %s on was looked at", part.Since, part.Before, looked)
				}
				looked = part.Since
				time.Sleep(part.Before.Sub(part.Since) / 86400) // a second for a day
				for at := range rare {
					if !at.Before(part.Since) && at.Before(part.Before) {
						found = append(found, logbuf.Entry{ID: uuid.New(), Time: at})
						delete(rare, at)
					}
				}
				return found, nil
			})
			if took := time.Since(begun); err != nil || took > 2*stepTime {
				t.Fatalf("a step takes %s, %v", took, err)
			}
			query.Cursor, more = p.Result.Next, p.Result.Next != ""
		}
		if !looked.Equal(since) || len(rare) > 0 {
			t.Errorf("%d steps end at %s, %d entries were not found", steps, looked, len(rare))
		}
	})
}
