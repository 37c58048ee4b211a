package rollup

import (
	"slices"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Answer adds up the rows that a range selects, and makes the page of them. Rows of one
// key may come any number of times.
func Answer(r *logbuf.UsageRange, rows []Row) logbuf.UsagePage {
	groups := make(map[logbuf.Usage]*Counts)
	for i := range rows {
		row := &rows[i]
		interval, ok := r.Interval(time.UnixMicro(row.Starts))
		all := row.usage()
		if !ok || !r.Matches(&all) {
			continue
		}
		group := groupOf(&all, r.GroupBy)
		group.Start = r.Starts[interval]
		sums := groups[group]
		if sums == nil {
			sums = &Counts{}
			groups[group] = sums
		}
		sums.Merge(&row.Counts)
	}
	usage := make([]logbuf.Usage, 0, len(groups))
	for group, sums := range groups {
		if r.After == nil || logbuf.CompareUsage(&group, r.After) > 0 {
			sums.Show(&group)
			usage = append(usage, group)
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

// groupOf returns the dimensions of usage that a query groups by.
func groupOf(all *logbuf.Usage, by []logbuf.Dimension) (u logbuf.Usage) {
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

// Collect adds up the intervals of a range one after the other, more of them at once when they hold few rows, until
// there is a page, and one row more if there is another. It calls sum with the first interval, the one after the last,
// and how many rows are wanted at most. Before the interval from, which may be 0, there is nothing.
func Collect(r *logbuf.UsageRange, from int, sum func(first, end, limit int) ([]logbuf.Usage,
	error)) (rows []logbuf.Usage, err error) {
	const few = 8
	first, width := from, r.Limit+1
	switch {
	case len(r.GroupBy) > 0 && r.GroupBy[0] == logbuf.ByKey: // one may have 100,000 rows
		width = 1
	case len(r.GroupBy) > 0:
		width = few
	}
	if r.After != nil {
		if i, ok := r.Interval(r.After.Start); ok {
			first, width = i, 1 // the rest of its interval
		}
	}
	for first < len(r.Starts) && len(rows) <= r.Limit {
		end := min(first+width, len(r.Starts))
		some, err := sum(first, end, r.Limit+1-len(rows))
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
		first, width = end, max(few, 4*width)
	}
	return rows, nil
}
