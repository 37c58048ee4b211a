package rollup

import (
	"slices"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Answer adds up the rows that a range selects, and makes the page of them. Rows of one
// key may come any number of times.
func Answer(r logbuf.UsageRange, rows []Row) logbuf.UsagePage {
	groups := make(map[logbuf.Usage]logbuf.Usage)
	for _, row := range rows {
		interval, ok := r.Interval(time.UnixMicro(row.Quarter))
		all := row.usage()
		if !ok || !r.Matches(&all) {
			continue
		}
		group := GroupOf(&all, r.GroupBy)
		group.Start = r.Starts[interval]
		sum, ok := groups[group]
		if !ok {
			sum = group
		}
		row.AddTo(&sum)
		groups[group] = sum
	}
	usage := make([]logbuf.Usage, 0, len(groups))
	for _, sum := range groups {
		if r.After == nil || logbuf.CompareUsage(&sum, r.After) > 0 {
			usage = append(usage, sum)
		}
	}
	slices.SortFunc(usage, func(a, b logbuf.Usage) int { return logbuf.CompareUsage(&a, &b) })
	return r.Page(usage)
}

// usage returns the dimensions of a key.
func (k Key) usage() logbuf.Usage {
	return logbuf.Usage{
		KeyID: k.KeyID, Project: k.Project, ProviderID: k.ProviderID,
		Namespace: k.Namespace, Model: k.Model, Group: k.Group,
	}
}

// GroupOf returns the dimensions of usage that a query groups by.
func GroupOf(all *logbuf.Usage, by []logbuf.Dimension) (u logbuf.Usage) {
	for _, d := range by {
		switch d {
		case logbuf.ByKey:
			u.KeyID = all.KeyID
		case logbuf.ByProject:
			u.Project = all.Project
		case logbuf.ByProvider:
			u.ProviderID = all.ProviderID
		case logbuf.ByNamespace:
			u.Namespace = all.Namespace
		case logbuf.ByModel:
			u.Model = all.Model
		case logbuf.ByGroup:
			u.Group = all.Group
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
		at := time.UnixMicro(row.Quarter).UTC()
		if at.After(u.LastUsed) {
			u.LastUsed = at
		}
		if !at.Before(from.Truncate(logbuf.Quarter)) {
			u.CostNanoUSD = sum(u.CostNanoUSD, row.CostNanoUSD)
			u.Unpriced += row.Unpriced
		}
		used[row.KeyID] = u
	}
	return used
}
