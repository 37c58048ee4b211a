package logbuf

import (
	"context"
	"strings"
	"time"
)

// Archive answers questions about stored entries. Logs and Usage MUST return a
// [FieldError] when the query is not acceptable; the Resolve methods of the
// queries find that out. Every method MUST end when its context does.
type Archive interface {
	// Logs returns a page of entries, newest first (by time, then id). Pages
	// that follow each other's cursors MUST hold every entry that was stored
	// before the first of them was read, once.
	Logs(ctx context.Context, q LogQuery) (LogPage, error)

	// Usage returns a page of aggregates, ordered as [CompareUsage] does. It MUST count
	// every entry whose Write has returned, also those that are forgotten since (see
	// [Maintainer]), and nothing from outside the span that the query asks for.
	//
	// Of spans from which only days are kept (see [MaintenanceOptions]), it MUST
	// return a [FieldError] of field since or until unless the bounds lie on such days.
	Usage(ctx context.Context, q UsageQuery) (UsagePage, error)

	// KeyUsage returns when each of the given keys was last used, and what it has spent since each
	// of its times. Times are rounded down to the quarter of an hour; the zero time means all that
	// was ever spent. Keys that were never used are absent. It counts as Usage does.
	KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]KeyUsage, error)
}

// A LogQuery selects stored entries. Zero fields do not restrict. Its Resolve method
// says what an [Archive] has to look for, and Matches which entries are meant.
type LogQuery struct {
	KeyID         int64
	Project       string // with all projects below it
	ProviderID    int64
	Namespace     string
	Model         string
	UpstreamModel string
	Group         string
	Balancer      string
	User          string
	Tags          map[string]string // the entry has all of these
	Status        int
	Errors        bool // only entries with a status of 400 or more, or with an error
	Unpriced      bool // only entries whose cost is not known
	RequestID     string

	Since  time.Time // inclusive; zero: 24 hours before Until, or before now
	Until  time.Time // exclusive; zero: no end, clocks may run ahead
	Cursor string    // LogPage.Next of the page before
	Limit  int       // 0: 100; at most 1000
}

// Matches reports whether an entry passes the filters of the query. It looks at
// everything but time and page.
func (q *LogQuery) Matches(e *Entry) bool {
	for name, value := range q.Tags {
		if v, ok := e.Tags[name]; !ok || v != value {
			return false
		}
	}
	return (q.KeyID == 0 || q.KeyID == e.KeyID) &&
		(q.Project == "" || InProject(e.Project, q.Project)) &&
		(q.ProviderID == 0 || q.ProviderID == e.ProviderID) &&
		(q.Namespace == "" || q.Namespace == e.Namespace) &&
		(q.Model == "" || q.Model == e.Model) &&
		(q.UpstreamModel == "" || q.UpstreamModel == e.UpstreamModel) &&
		(q.Group == "" || q.Group == e.Group) &&
		(q.Balancer == "" || q.Balancer == e.Balancer) &&
		(q.User == "" || q.User == e.User) &&
		(q.Status == 0 || q.Status == e.Status) &&
		(!q.Errors || e.Failed()) &&
		(!q.Unpriced || e.CostNanoUSD == nil) &&
		(q.RequestID == "" || q.RequestID == e.RequestID)
}

// InProject reports whether a project is another, or lies below it.
func InProject(project, ancestor string) bool {
	rest, ok := strings.CutPrefix(project, ancestor)
	return ok && (rest == "" || rest[0] == '/')
}

// A LogPage is one page of stored entries.
type LogPage struct {
	Entries []Entry
	Next    string // empty on the last page
}

// Dimension is something usage can be grouped by.
type Dimension string

// The dimensions of usage.
const (
	ByKey       Dimension = "key"
	ByProject   Dimension = "project"
	ByProvider  Dimension = "provider"
	ByNamespace Dimension = "namespace"
	ByModel     Dimension = "model"
	ByGroup     Dimension = "group"
)

// A UsageQuery selects aggregates. Zero fields do not restrict. Its Resolve method says
// what an [Archive] has to add up.
type UsageQuery struct {
	UsageFilter

	GroupBy  []Dimension
	Interval Interval       // zero: Day
	Zone     *time.Location // whose hours, days, weeks and months; nil: UTC
	Since    time.Time      // inclusive; see Resolve for the defaults
	Until    time.Time      // exclusive

	Cursor string // UsagePage.Next of the page before
	Limit  int    // 0: 100; at most 1000
}

// A UsageFilter selects what usage is added up. Zero fields do not restrict.
type UsageFilter struct {
	KeyIDs     []int64 // one of these
	Project    string  // with all projects below it
	ProviderID int64
	Namespace  string
	Model      string
	Group      string
}

// Usage is what a group used in one interval. Dimensions that the query did
// not group by are zero.
type Usage struct {
	Start      time.Time // of the interval, or of the query where that begins later
	KeyID      int64
	Project    string
	ProviderID int64
	Namespace  string
	Model      string
	Group      string

	Requests         int64
	Errors           int64 // entries with a status of 400 or more, or with an error
	InputTokens      int64
	CacheReadTokens  int64
	CacheWriteTokens int64
	OutputTokens     int64
	CostNanoUSD      int64 // of the priced requests
	Unpriced         int64 // requests whose cost is not known
}

// A UsagePage is one page of aggregates.
type UsagePage struct {
	Rows  []Usage
	Next  string    // empty on the last page
	Since time.Time // what was added up: the bounds of the query with its defaults
	Until time.Time
}

// KeyUsage is what one key has used.
type KeyUsage struct {
	LastUsed time.Time // of the latest request, whenever that was, cut to the minute
	Spent    []Spent   // since each of the times that were asked for, in their order
}

// Spent is what was spent since a time.
type Spent struct {
	CostNanoUSD int64 // of the priced requests
	Unpriced    int64 // requests whose cost is not known
}
