package chstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// rowSize is about how many bytes a row has on its way.
const rowSize = 512

// Write stores a batch; see [logbuf.Sink] and [logbuf.ByIdentity]. All that is not refused counts
// as stored, whether it was there before or not.
//
// Entries that the server refuses go to log_dead_letter; see refused.go.
func (s *Sink) Write(ctx context.Context, b logbuf.Batch) (result logbuf.Result, err error) {
	if len(b.Entries) == 0 {
		return result, ctx.Err()
	}
	within, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	w := writer{sink: s, segment: b.Segment}
	if err := w.write(within, b); err != nil {
		return logbuf.Result{}, explain(ctx, "write logs", err)
	}
	return logbuf.Result{Stored: len(b.Entries) - w.dead, Dead: w.dead}, nil
}

// A writer stores the entries of one batch.
type writer struct {
	sink    *Sink
	segment uuid.UUID
	now     time.Time // the server's
	dead    int
	refused int       // by the server, of the dead, with a complaint that names the row
	halved  int       // likewise, with one that names none
	sifting time.Time // when the first was refused
	letters []byte    // rows of log_dead_letter
}

func (w *writer) write(ctx context.Context, b logbuf.Batch) (err error) {
	if err := w.sink.begin(ctx); err != nil {
		return err
	}
	fit := make([]*logbuf.Entry, 0, len(b.Entries))
	for i := range b.Entries {
		e := &b.Entries[i]
		if why := fits(e); why != nil {
			if err := w.bury(e, why); err != nil {
				return err
			}
			continue
		}
		fit = append(fit, e)
	}
	err = w.sink.marked(ctx, fit, func(now time.Time) error {
		w.now = now
		late, others, err := w.sink.late(ctx, fit, now)
		if err != nil {
			return err
		}
		if err := w.insertLate(ctx, late); err != nil {
			return err
		}
		name := token(&b)
		if len(late) > 0 { // it names all of the batch
			name = ""
		}
		return w.insert(ctx, others, name)
	})
	if err == nil && len(w.letters) > 0 {
		err = w.sink.insert(ctx, "log_dead_letter (id, micros, segment, code, reason, entry)", w.letters, "")
	}
	return err
}

// token names what a batch holds: the server drops an insert whose token it has seen lately. A
// batch from memory has no name.
func token(b *logbuf.Batch) string {
	if b.Segment == uuid.Nil {
		return ""
	}
	return fmt.Sprintf("%s:%d-%d", b.Segment, b.From, b.To)
}

// insert stores entries, but for those that the server refuses.
func (w *writer) insert(ctx context.Context, entries []*logbuf.Entry, token string) error {
	if len(entries) == 0 {
		return nil
	}
	err := w.send(ctx, entries, token)
	if faultOf(err) != faultData {
		return err
	}
	return w.sift(ctx, entries, token, err)
}

// send stores entries in one insert.
func (w *writer) send(ctx context.Context, entries []*logbuf.Entry, token string) (err error) {
	rows := make([]byte, 0, rowSize*len(entries))
	for _, e := range entries {
		if rows, err = appendLog(rows, e, firstVersion(w.now)); err != nil {
			return err
		}
	}
	return w.sink.insert(ctx, "access_logs ("+logColumns+")", rows, token)
}

// insert sends rows.
func (s *Sink) insert(ctx context.Context, into string, rows []byte, token string) error {
	set := settings{"async_insert": "0", "insert_deduplicate": "0"}
	if token != "" {
		set["insert_deduplicate"], set["insert_deduplication_token"] = "1", token
	}
	_, err := s.client.run(
		ctx,
		statement{text: "INSERT INTO " + into + " FORMAT RowBinary", data: rows, settings: set},
	)
	return err
}

// bury puts an entry into the dead letters of the batch.
func (w *writer) bury(e *logbuf.Entry, why error) error {
	text, err := json.Marshal(e)
	if err != nil { // JSON has no time beyond the year 9999; the table has it in micros
		withoutTime := *e
		withoutTime.Time = time.Time{}
		if text, err = json.Marshal(withoutTime); err != nil {
			return fmt.Errorf("bury an entry: %w", err)
		}
	}
	segment, code := "", 0
	if w.segment != uuid.Nil {
		segment = w.segment.String()
	}
	if refused, ok := why.(*serverError); ok { //nolint:errorlint // nobody wraps it on the way here
		code = refused.code
	}
	w.letters = append(w.letters, e.ID[:]...)
	w.letters = appendInt64(w.letters, e.Time.UnixMicro())
	w.letters = appendString(w.letters, segment)
	w.letters = appendInt32(w.letters, int32(code)) //nolint:gosec // codes are small
	w.letters = appendString(w.letters, why.Error())
	w.letters = appendString(w.letters, string(text))
	w.dead++
	return nil
}

// marked writes entries, and marks those of their hours whose usage may have been summed, before and
// after. After it returned nil, what was written is read; when it is cut off in between, the mark
// before keeps the hours from being summed until it is certain that nothing is on its way any more.
//
// Which hours those are is told by the server's clock, read before and again after: no clock of this
// machine goes on while the machine is suspended, and an hour may end meanwhile.
func (s *Sink) marked(ctx context.Context, entries []*logbuf.Entry, write func(now time.Time) error) error {
	now, err := s.mark(ctx, entries)
	if err != nil {
		return err
	}
	if err := write(now); err != nil {
		return err
	}
	_, err = s.mark(ctx, entries)
	return err
}

// mark marks the hours of entries that may be closed by now, which is the time of the server.
func (s *Sink) mark(ctx context.Context, entries []*logbuf.Entry) (now time.Time, err error) {
	if now, err = s.readClock(ctx); err != nil {
		return now, err
	}
	var rows []byte
	for _, h := range closedHours(entries, now) {
		rows = appendUint32(rows, uint32(h*3600)) //nolint:gosec // until 2106
	}
	if len(rows) == 0 {
		return now, nil
	}
	return now, s.insert(ctx, "usage_marks (hour)", rows, "")
}

// lateAfter is how long after its end an hour is marked when something is written into it. Hours
// are summed closeAfter their end at the earliest: the difference is for clocks, and for writes
// that are under way.
const (
	lateAfter  = 30 * time.Minute
	closeAfter = time.Hour
)

// closedHours returns the hours, since 1970, of entries that may be closed at a time.
func closedHours(entries []*logbuf.Entry, now time.Time) (hours []int64) {
	before := now.Add(-lateAfter).Unix() / 3600
	seen := make(map[int64]bool)
	last := int64(-1)
	for _, e := range entries {
		if h := e.Time.Unix() / 3600; h < before && h != last && !seen[h] {
			hours, last = append(hours, h), h
			seen[h] = true
		}
	}
	return hours
}

// list writes literals behind each other.
func list[T any](all []T, literal func(T) string) string {
	var b strings.Builder
	for i, v := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(literal(v))
	}
	return b.String()
}
