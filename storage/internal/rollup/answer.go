package rollup

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Answer adds up the rows that a query, which is resolved, selects: in order
// of time, then of the grouping. Rows of one key may come any number of times.
func Answer(q logbuf.UsageQuery, rows []Row) []logbuf.Usage {
	groups := make(map[logbuf.Usage]logbuf.Usage)
	for _, row := range rows {
		hour := time.UnixMicro(row.Hour).UTC()
		if hour.Before(q.Since) || !hour.Before(q.Until) || len(q.KeyIDs) > 0 && !slices.Contains(q.KeyIDs, row.KeyID) {
			continue
		}
		group := groupOf(row.Key, q.GroupBy)
		group.Start = hour.Truncate(q.Interval.Length())
		sum, ok := groups[group]
		if !ok {
			sum = group
		}
		row.AddTo(&sum)
		groups[group] = sum
	}
	usage := make([]logbuf.Usage, 0, len(groups))
	for _, sum := range groups {
		usage = append(usage, sum)
	}
	slices.SortFunc(usage, func(a, b logbuf.Usage) int {
		return cmp.Or(
			a.Start.Compare(b.Start),
			cmp.Compare(a.KeyID, b.KeyID),
			cmp.Compare(a.ProviderID, b.ProviderID),
			strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.Model, b.Model),
			strings.Compare(a.Group, b.Group),
		)
	})
	return usage
}

// groupOf returns the dimensions of a row that a query groups by.
func groupOf(k Key, by []logbuf.Dimension) (u logbuf.Usage) {
	for _, d := range by {
		switch d {
		case logbuf.ByKey:
			u.KeyID = k.KeyID
		case logbuf.ByProvider:
			u.ProviderID = k.ProviderID
		case logbuf.ByNamespace:
			u.Namespace = k.Namespace
		case logbuf.ByModel:
			u.Model = k.Model
		case logbuf.ByGroup:
			u.Group = k.Group
		}
	}
	return u
}

// AnswerKeys adds up the rows of keys, each since its time.
func AnswerKeys(since map[int64]time.Time, rows []Row) map[int64]logbuf.KeyUsage {
	used := make(map[int64]logbuf.KeyUsage)
	for _, row := range rows {
		from, asked := since[row.KeyID]
		if !asked {
			continue
		}
		u := used[row.KeyID]
		hour := time.UnixMicro(row.Hour).UTC()
		if hour.After(u.LastUsed) {
			u.LastUsed = hour
		}
		if !hour.Before(from.Truncate(time.Hour)) {
			u.CostNanoUSD = sum(u.CostNanoUSD, row.CostNanoUSD)
		}
		used[row.KeyID] = u
	}
	return used
}
