// Package rollup adds up what access logs say was used, by the quarter of an hour.
package rollup

import (
	"math"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Key says what one row of usage is about: a quarter of an hour, and every dimension.
type Key struct {
	Quarter    int64 // its start, in microseconds since 1970
	KeyID      int64
	Project    string
	ProviderID int64
	Namespace  string
	Model      string
	Group      string
}

// Counts are the sums of a row. A sum that no int64 can hold stops at the largest.
type Counts struct {
	Requests         int64
	Errors           int64
	InputTokens      int64
	CacheReadTokens  int64
	CacheWriteTokens int64
	OutputTokens     int64
	CostNanoUSD      int64
	Unpriced         int64
}

// Row is one row of usage.
type Row struct {
	Key
	Counts
}

// Table adds up entries. The zero value is empty and ready to use.
type Table struct {
	Rows  []Row // in the order in which they came up
	index map[Key]int
}

const quarter = int64(logbuf.Quarter / time.Microsecond)

// Add counts an entry.
func (t *Table) Add(e *logbuf.Entry) {
	micros := e.Time.UnixMicro()
	into := micros % quarter
	if into < 0 { // before 1970
		into += quarter
	}
	key := Key{
		Quarter: micros - into, KeyID: e.KeyID, Project: e.Project, ProviderID: e.ProviderID,
		Namespace: e.Namespace, Model: e.Model, Group: e.Group,
	}
	i, ok := t.index[key]
	if !ok {
		if t.index == nil {
			t.index = make(map[Key]int)
		}
		i = len(t.Rows)
		t.index[key] = i
		t.Rows = append(t.Rows, Row{Key: key})
	}
	t.Rows[i].count(e)
}

func (c *Counts) count(e *logbuf.Entry) {
	c.Requests++
	if e.Failed() {
		c.Errors++
	}
	c.InputTokens = sum(c.InputTokens, e.InputTokens)
	c.CacheReadTokens = sum(c.CacheReadTokens, e.CacheReadTokens)
	c.CacheWriteTokens = sum(c.CacheWriteTokens, e.CacheWriteTokens)
	c.OutputTokens = sum(c.OutputTokens, e.OutputTokens)
	if e.CostNanoUSD == nil {
		c.Unpriced++
	} else {
		c.CostNanoUSD = sum(c.CostNanoUSD, *e.CostNanoUSD)
	}
}

func sum(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// AddTo adds the sums to those of a group of rows.
func (c Counts) AddTo(u *logbuf.Usage) {
	u.Requests += c.Requests
	u.Errors += c.Errors
	u.InputTokens = sum(u.InputTokens, c.InputTokens)
	u.CacheReadTokens = sum(u.CacheReadTokens, c.CacheReadTokens)
	u.CacheWriteTokens = sum(u.CacheWriteTokens, c.CacheWriteTokens)
	u.OutputTokens = sum(u.OutputTokens, c.OutputTokens)
	u.CostNanoUSD = sum(u.CostNanoUSD, c.CostNanoUSD)
	u.Unpriced += c.Unpriced
}
