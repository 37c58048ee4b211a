package storagetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// logsEdited changes what Logs is asked for.
func logsEdited(edit func(*logbuf.LogQuery)) func(*fakeSink) {
	return func(s *fakeSink) {
		logs := s.logs
		s.logs = func(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
			edit(&q)
			return logs(ctx, q)
		}
	}
}

// usageEdited changes what Usage answers.
func usageEdited(edit func([]logbuf.Usage)) func(*fakeSink) {
	return func(s *fakeSink) {
		usage := s.usage
		s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
			page, err := usage(ctx, q)
			edit(page.Rows)
			return page, err
		}
	}
}

func logsTies(s *fakeSink) {
	logs := s.logs
	s.logs = func(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
		page, err := logs(ctx, q)
		slices.SortStableFunc(page.Entries, func(a, b logbuf.Entry) int {
			if c := b.Time.Compare(a.Time); c != 0 {
				return c
			}
			return slices.Compare(a.ID[:], b.ID[:])
		})
		return page, err
	}
}

func logsFilteredLate(s *fakeSink) {
	logs := s.logs
	s.logs = func(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
		request := q.RequestID
		q.RequestID = ""
		page, err := logs(ctx, q)
		page.Entries = slices.DeleteFunc(page.Entries,
			func(e logbuf.Entry) bool { return request != "" && e.RequestID != request })
		return page, err
	}
}

// logsShared gives away the costs that Write was given.
func logsShared(s *fakeSink) {
	write, logs := s.write, s.logs
	var costs sync.Map
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		for _, e := range b.Entries {
			costs.Store(e.ID, e.CostNanoUSD)
		}
		return write(ctx, b)
	}
	s.logs = func(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
		page, err := logs(ctx, q)
		for i := range page.Entries {
			cost, _ := costs.Load(page.Entries[i].ID)
			page.Entries[i].CostNanoUSD = cost.(*int64)
		}
		return page, err
	}
}

// logsAnother has a next page after each that is full.
func logsAnother(s *fakeSink) {
	const beyond = "beyond the end"
	logs := s.logs
	s.logs = func(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
		if q.Cursor == beyond {
			return logbuf.LogPage{}, nil
		}
		page, err := logs(ctx, q)
		if len(page.Entries) == q.Limit && page.Next == "" {
			page.Next = beyond
		}
		return page, err
	}
}

// logsOffset has cursors that count from the newest entry.
func logsOffset(s *fakeSink) {
	logs := s.logs
	s.logs = func(ctx context.Context, q logbuf.LogQuery) (page logbuf.LogPage, err error) {
		var all []logbuf.Entry
		offset, _ := strconv.Atoi(q.Cursor)
		limit := q.Limit
		q.Limit, q.Cursor = 1000, ""
		for {
			if page, err = logs(ctx, q); err != nil {
				return page, err
			}
			all = append(all, page.Entries...)
			if q.Cursor = page.Next; q.Cursor == "" || len(all) > offset+limit {
				break
			}
		}
		page = logbuf.LogPage{Entries: all[min(offset, len(all)):min(offset+limit, len(all))]}
		if offset+limit < len(all) {
			page.Next = strconv.Itoa(offset + limit)
		}
		return page, nil
	}
}

// logsAnyCursor goes on with the filters of the page before, whatever is asked.
func logsAnyCursor(s *fakeSink) {
	logs := s.logs
	var asked sync.Map
	s.logs = func(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
		if before, ok := asked.Load(q.Cursor); ok {
			cursor := q.Cursor
			q = before.(logbuf.LogQuery)
			q.Cursor = cursor
		}
		page, err := logs(ctx, q)
		asked.Store(page.Next, q)
		return page, err
	}
}

// usageAnyCursor goes on with the question of the page before, whatever is asked.
func usageAnyCursor(s *fakeSink) {
	usage := s.usage
	var asked sync.Map
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		if before, ok := asked.Load(q.Cursor); ok {
			cursor := q.Cursor
			q = before.(logbuf.UsageQuery)
			q.Cursor = cursor
		}
		page, err := usage(ctx, q)
		asked.Store(page.Next, q)
		return page, err
	}
}

func usageLocal(s *fakeSink) {
	usage := s.usage
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		_, offset := q.Since.Zone()
		if q.Interval != logbuf.Hour {
			q.Since, q.Until = q.Since.Add(time.Duration(offset)*time.Second), q.Until.Add(time.Duration(offset)*time.Second)
		}
		return usage(ctx, q)
	}
}

func usageOfAll(s *fakeSink) {
	usage := s.usage
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		q.KeyIDs = nil
		return usage(ctx, q)
	}
}

func usageOfSent(s *fakeSink) {
	write := s.write
	var sent []logbuf.Entry
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		sent = append(sent, b.Entries...)
		return write(ctx, b)
	}
	s.usage = func(_ context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		return logbuf.UsagePage{Rows: addUp(q, sent...)}, nil
	}
}

func usageLenient(s *fakeSink) {
	usage := s.usage
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		if q.Interval == "year" {
			q.Interval = logbuf.Day
		}
		return usage(ctx, q)
	}
}

func usageOfNoTime(s *fakeSink) {
	usage := s.usage
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		page, err := usage(ctx, q)
		page.Since = page.Until
		return page, err
	}
}

// usageOfLeft adds up what Logs returns.
func usageOfLeft(s *fakeSink) {
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		page, err := s.logs(ctx, everything())
		return logbuf.UsagePage{Rows: addUp(q, page.Entries...)}, err
	}
}

func maintainNothing(ctx context.Context, _ logbuf.MaintenanceOptions) error { return ctx.Err() }

func maintainTwice(s *fakeSink) {
	maintain := s.maintain
	var folded atomic.Bool
	s.maintain = func(ctx context.Context, o logbuf.MaintenanceOptions) error {
		folded.Store(true)
		return maintain(ctx, o)
	}
	usageEdited(func(rows []logbuf.Usage) {
		for i := range rows {
			if folded.Load() {
				rows[i].Requests *= 2
			}
		}
	})(s)
}

func maintainZero(s *fakeSink) {
	maintain := s.maintain
	s.maintain = func(ctx context.Context, o logbuf.MaintenanceOptions) error {
		if o.Before.IsZero() {
			o.Before = logDay.AddDate(1, 0, 0)
		}
		return maintain(ctx, o)
	}
}

func maintainEarly(s *fakeSink) {
	maintain := s.maintain
	s.maintain = func(ctx context.Context, o logbuf.MaintenanceOptions) error {
		o.Before = o.Before.Add(24*time.Hour - time.Microsecond)
		return maintain(ctx, o)
	}
}

// maintainGap shows a moment at which usage is neither here nor there.
func maintainGap(s *fakeSink) {
	usage := s.usage
	var away atomic.Bool
	s.maintain = func(context.Context, logbuf.MaintenanceOptions) error {
		away.Store(true)
		time.Sleep(time.Millisecond)
		away.Store(false)
		return nil
	}
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		if away.Load() {
			return logbuf.UsagePage{}, nil
		}
		return usage(ctx, q)
	}
}

// usageSkips loses the first row of each page but the first.
func usageSkips(s *fakeSink) {
	usage := s.usage
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		page, err := usage(ctx, q)
		if q.Cursor != "" && len(page.Rows) > 0 {
			page.Rows = page.Rows[1:]
		}
		return page, err
	}
}

func usageInUTC(s *fakeSink) {
	usage := s.usage
	s.usage = func(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
		q.Zone = nil
		return usage(ctx, q)
	}
}

// pruneTooMuch loses a request of usage when quarters are forgotten.
func pruneTooMuch(s *fakeSink) {
	maintain := s.maintain
	var pruned atomic.Bool
	s.maintain = func(ctx context.Context, o logbuf.MaintenanceOptions) error {
		pruned.Store(!o.UsageBefore.IsZero())
		return maintain(ctx, o)
	}
	usageEdited(func(rows []logbuf.Usage) {
		if pruned.Load() && len(rows) > 0 {
			rows[0].Requests--
		}
	})(s)
}

func tasksAnonymous(s *fakeSink) {
	var calls atomic.Int64
	tasks := s.tasks
	s.tasks = func() []logbuf.Task {
		all := tasks()
		all[0].Name = fmt.Sprint("task-", calls.Add(1))
		return all
	}
}

// repriceNothing says what it would do, and does not do it.
func repriceNothing(s *fakeSink) {
	reprice := s.reprice
	s.reprice = func(ctx context.Context, b logbuf.RepriceBatch) (logbuf.RepriceResult, error) {
		b.DryRun = true
		return reprice(ctx, b)
	}
}
