// Package rollup adds up what access logs say was used, by the quarter of an hour and by the day.
package rollup

import (
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Key says what one row of usage is about: a span of time, and every dimension.
type Key struct {
	Starts     int64 // of the quarter of an hour, or of the day, in microseconds since 1970
	KeyID      int64
	Project    string
	ProviderID int64
	Namespace  string
	Model      string
	Group      string
}

// Counts are the sums of a row.
type Counts struct {
	Requests         int64
	Errors           int64
	Unpriced         int64
	InputTokens      Wide
	CacheReadTokens  Wide
	CacheWriteTokens Wide
	OutputTokens     Wide
	CostNanoUSD      Wide
	Last             int64 // the time of the latest request, in microseconds since 1970
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

	// recent is where a row was found last, plus 1, by some bits of its key. Entries of one key mostly go to one row,
	// and to compare a key costs less than to hash its strings.
	recent [1 << recentBits]int32
}

const recentBits = 11

// Reset makes the table empty, and keeps its memory for the next entries.
func (t *Table) Reset() {
	clear(t.Rows) // lets go of the strings
	clear(t.index)
	t.Rows, t.recent = t.Rows[:0], [1 << recentBits]int32{}
}

const quarter = int64(logbuf.Quarter / time.Microsecond)

// keyOf returns the row in which an entry counts.
func keyOf(e *logbuf.Entry) Key {
	micros := e.Time.UnixMicro()
	into := micros % quarter
	if into < 0 { // before 1970
		into += quarter
	}
	return Key{
		Starts: micros - into, KeyID: e.KeyID, Project: e.Project, ProviderID: e.ProviderID,
		Namespace: e.Namespace, Model: e.Model, Group: e.Group,
	}
}

// Add counts an entry.
func (t *Table) Add(e *logbuf.Entry) {
	c := t.of(e)
	c.Requests++
	if e.Failed() {
		c.Errors++
	}
	c.InputTokens.Add(e.InputTokens)
	c.CacheReadTokens.Add(e.CacheReadTokens)
	c.CacheWriteTokens.Add(e.CacheWriteTokens)
	c.OutputTokens.Add(e.OutputTokens)
	c.addCost(e.CostNanoUSD, 1)
}

// Reprice counts that an entry has another cost than before. The amounts may be negative.
func (t *Table) Reprice(before, after *logbuf.Entry) {
	c := t.of(after)
	c.addCost(before.CostNanoUSD, -1)
	c.addCost(after.CostNanoUSD, 1)
}

// of returns the sums in which an entry counts.
func (t *Table) of(e *logbuf.Entry) *Counts {
	key := keyOf(e)
	c := t.At(&key)
	c.Last = max(c.Last, e.Time.UnixMicro())
	return c
}

// addCost counts a cost, which may be unknown, once or takes it off with a sign of -1.
func (c *Counts) addCost(cost *int64, sign int64) {
	if cost == nil {
		c.Unpriced += sign
		return
	}
	var w Wide
	w.Add(*cost)
	if sign < 0 {
		w.negate()
	}
	c.CostNanoUSD.AddWide(w)
}

// At returns the sums of a row, which is made when it is not there.
func (t *Table) At(key *Key) *Counts {
	spot := &t.recent[key.spot()]
	if i := *spot - 1; i >= 0 && t.Rows[i].Key == *key {
		return &t.Rows[i].Counts
	}
	i, ok := t.index[*key]
	if !ok {
		if t.index == nil {
			t.index = make(map[Key]int)
		}
		i = len(t.Rows)
		t.index[*key] = i
		t.Rows = append(t.Rows, Row{Key: *key})
	}
	*spot = int32(i) + 1 //nolint:gosec // a batch has fewer
	return &t.Rows[i].Counts
}

// spot returns where in recent to look for a key: Fibonacci hashing (Knuth, "The Art of Computer Programming",
// section 6.4) of what most often differs.
func (k *Key) spot() uint64 {
	h := uint64(k.KeyID) + uint64(k.ProviderID)<<20 + uint64(k.Starts/quarter)<<40 + uint64(len(k.Model))<<56
	return h * 0x9e3779b97f4a7c15 >> (64 - recentBits)
}

// Merge adds sums.
func (c *Counts) Merge(o *Counts) {
	c.Requests += o.Requests
	c.Errors += o.Errors
	c.Unpriced += o.Unpriced
	c.InputTokens.AddWide(o.InputTokens)
	c.CacheReadTokens.AddWide(o.CacheReadTokens)
	c.CacheWriteTokens.AddWide(o.CacheWriteTokens)
	c.OutputTokens.AddWide(o.OutputTokens)
	c.CostNanoUSD.AddWide(o.CostNanoUSD)
	c.Last = max(c.Last, o.Last)
}

// Show puts the sums into an answer, each as the nearest int64.
func (c *Counts) Show(u *logbuf.Usage) {
	u.Requests, u.Errors, u.Unpriced = c.Requests, c.Errors, c.Unpriced
	u.InputTokens = c.InputTokens.Int64()
	u.CacheReadTokens = c.CacheReadTokens.Int64()
	u.CacheWriteTokens = c.CacheWriteTokens.Int64()
	u.OutputTokens = c.OutputTokens.Int64()
	u.CostNanoUSD = c.CostNanoUSD.Int64()
}
