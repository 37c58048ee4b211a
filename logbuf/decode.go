package logbuf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// The limits on one request.
const (
	MaxBody    = 8 << 20 // bytes of a body, after decompression
	MaxEntries = 10_000  // entries in a body
	MaxDepth   = 32      // levels of nesting in an entry, all of them in fields that are ignored
)

// How far an entry's time may lie from now.
const (
	maxAge   = 7 * 24 * time.Hour
	maxAhead = time.Hour
	day      = 24 * time.Hour
)

// A Decoder reads the bodies of POST /logs. Its zero value is ready to use, its
// fields must not change after the first use, and it is safe for concurrent use.
type Decoder struct {
	// Retention is how long entries are kept. An entry may be as old as
	// that less a day, and at most 7 days. Defaults to keeping all.
	Retention time.Duration

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time

	pool  sync.Pool // of *state
	spare sync.Pool // of *[]Entry, empty
	mu    sync.Mutex
	stats DecoderStats
}

// maxSpareEntries is how many entries' memory is worth keeping.
const maxSpareEntries = 1000

// Decoded is what a body holds.
type Decoded struct {
	Entries  []Entry     // the valid ones, in order
	Rejected []Rejection // the others, in order

	Undated  int // entries that said no time, and have that of the Decoder's clock
	Unknown  int // unknown fields, which were ignored, and unknown classes of failures, which were kept
	Cut      int // strings that were too long and were cut
	Replaced int // strings in which invalid UTF-8 or NUL was replaced
}

// A Rejection says why one entry of a body was not taken. It never holds a value.
type Rejection struct {
	Index   int    `json:"index" minimum:"0" doc:"The place of the entry in the body, from 0."`
	Field   string `json:"field,omitempty" doc:"The field that is not acceptable. Without it the whole entry is not."`
	Message string `json:"message" doc:"What is wrong with it, and what would be right."`
	Reason  Reason `json:"-"`
}

// Reason is the class of a [Rejection], for metrics.
type Reason string

// The classes of rejections.
const (
	Malformed Reason = "malformed" // a line that is not a JSON object
	BadType   Reason = "type"      // a string where a number belongs, and the like
	BadValue  Reason = "value"     // out of range, or not a UUID or a time
	BadTime   Reason = "time"      // too old, or in the future
	Twice     Reason = "twice"     // a field given more than once
	TooDeep   Reason = "depth"     // nested deeper than MaxDepth
	Refused   Reason = "refused"   // turned away by the receiver of an [HTTPSink]
	TooLarge  Reason = "size"      // larger than the receiver of an [HTTPSink] takes
)

// DecoderStats are the totals of a [Decoder].
type DecoderStats struct {
	Bodies    int64 // bodies decoded, malformed ones included
	Malformed int64 // bodies that could not be read as a whole
	Entries   int64 // valid entries
	Rejected  map[Reason]int64
	Unknown   int64 // fields, and classes of failures
	Cut       int64 // strings
	Replaced  int64 // strings
}

// Stats returns the totals since the Decoder was made.
func (d *Decoder) Stats() DecoderStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Rejected = maps.Clone(s.Rejected)
	return s
}

// Decode reads a body: one JSON object, an array of objects, objects one after
// another, or, when contentType is application/x-ndjson, one object a line.
//
// Invalid entries do not keep the others from being taken: they are listed in
// Rejected. The error wraps ErrMalformed when the body as a whole is not
// readable, and ErrTooMany when it holds more than MaxEntries entries; then
// nothing is returned. In a body of lines, a line that is not JSON is a rejected
// entry, and the body is malformed only when every line is like that.
//
// What Decode returns shares no memory with body.
func (d *Decoder) Decode(body []byte, contentType string) (Decoded, error) {
	return d.decode(d.state(), body, contentType)
}

// state returns what one body is decoded with; decode gives it back.
func (d *Decoder) state() *state {
	s, _ := d.pool.Get().(*state)
	if s == nil {
		s = &state{dec: new(jsontext.Decoder), names: newInternTable()}
	}
	s.slow = false
	return s
}

func (d *Decoder) decode(s *state, body []byte, contentType string) (Decoded, error) {
	var spare []Entry
	if p, ok := d.spare.Get().(*[]Entry); ok {
		spare = *p
	}
	s.start(d.now(), oldest(d.Retention), body, spare)

	var err error
	if isLines(contentType) {
		err = s.lines(body)
	} else {
		err = s.values(body)
	}
	out := s.out
	s.release()
	d.pool.Put(s)
	if err != nil {
		out = Decoded{}
	}
	d.count(&out, err)
	return out, err
}

// Recycle gives the entries of a body back, so that the next ones need no memory of
// their own. They must not be used any more; what was copied from them may be.
// To call it is not necessary.
func (d *Decoder) Recycle(decoded Decoded) {
	if cap(decoded.Entries) > maxSpareEntries {
		return
	}
	clear(decoded.Entries)
	empty := decoded.Entries[:0]
	d.spare.Put(&empty)
}

func (d *Decoder) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// oldest returns how old an entry may be where entries are kept for so long; not positive is for ever.
func oldest(retention time.Duration) time.Duration {
	if retention <= 0 {
		return maxAge
	}
	return max(0, min(maxAge, retention-day))
}

// timeRule says which times an entry may have.
func timeRule(age time.Duration) string {
	return fmt.Sprintf("must be a time at most %g hours ago and at most %g hour ahead", age.Hours(), maxAhead.Hours())
}

// timeGrace is how much older an entry may have become since a [Decoder] has let it through.
const timeGrace = time.Minute

// CheckTimes checks the time of each entry as a [Decoder] with this retention does, but lets an
// entry be a minute older. If an entry has no time, the time in its id counts, if that is a UUIDv7.
// Entries with neither get their time when they are appended; CheckTimes returns how many there
// are. The error is a [FieldError] of a field such as [3].ts.
func CheckTimes(entries []Entry, now time.Time, retention time.Duration) (undated int, err error) {
	most := oldest(retention)
	for i := range entries {
		at, field := entries[i].Time, fieldTS
		if at.IsZero() {
			if entries[i].ID.Version() != 7 {
				undated++
				continue
			}
			at, field = timeOf(entries[i].ID), fieldID
		}
		if age := now.Sub(at); age > most+timeGrace || age < -maxAhead {
			return undated, &FieldError{fmt.Sprintf("[%d].%s", i, field.name()), timeRule(most)}
		}
	}
	return undated, nil
}

func (d *Decoder) count(out *Decoded, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Bodies++
	if err != nil {
		d.stats.Malformed++
	}
	d.stats.Entries += int64(len(out.Entries))
	d.stats.Unknown += int64(out.Unknown)
	d.stats.Cut += int64(out.Cut)
	d.stats.Replaced += int64(out.Replaced)
	if len(out.Rejected) > 0 && d.stats.Rejected == nil {
		d.stats.Rejected = make(map[Reason]int64)
	}
	for i := range out.Rejected {
		d.stats.Rejected[out.Rejected[i].Reason]++
	}
}

// isLines reports whether a media type means one JSON value a line.
func isLines(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return true
	}
	return false
}

// state is what one call of Decode works with.
type state struct {
	dec     *jsontext.Decoder
	scratch []byte
	names   internTable
	texts   textBlock
	times   timeReader
	follows [fieldCount]field // which field came after each, the last time

	now        time.Time
	age        time.Duration
	slow       bool   // tests compare the two paths
	index      int    // of the entry being read
	seen       uint64 // a bit for each of its fields
	seenInside uint64 // likewise, of the failure being read
	within     string // what the fields being read are in: "failures[0]."
	out        Decoded
	costs      []int64   // of its entries, the last ones
	failed     Rejection // why the entry being read is rejected; Message empty: it is not
}

func (s *state) start(now time.Time, age time.Duration, body []byte, spare []Entry) {
	s.now, s.age, s.index = now.UTC().Truncate(time.Microsecond), age, 0
	n := min(MaxEntries, 1+bytes.Count(body, []byte("{"))) // most entries are one object, flat
	s.out = Decoded{Entries: slices.Grow(spare, n)}
}

// release drops what belongs to the caller, so that the pool does not keep it.
func (s *state) release() {
	s.out, s.costs, s.failed, s.within = Decoded{}, nil, Rejection{}, ""
	s.reset(nil)
}

func (s *state) reset(text []byte) {
	// Names given twice are found by fieldOf and once, at no cost; those in ignored
	// fields harm nobody. Invalid UTF-8 is replaced and counted, not refused.
	s.dec.Reset(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// values reads an array, or objects one after another.
func (s *state) values(body []byte) error {
	if !s.slow && s.fast(body) {
		return nil
	}
	s.reset(body)
	var err error
	switch s.dec.PeekKind() {
	case '[':
		err = s.array()
	case '{':
		err = s.stream()
	default:
		if len(bytes.TrimSpace(body)) == 0 {
			return fmt.Errorf("%w: it is empty", ErrMalformed)
		}
		if _, err = s.dec.ReadToken(); err == nil {
			return fmt.Errorf("%w: must be an object or an array of objects", ErrMalformed)
		}
	}
	return s.malformed(err)
}

func (s *state) array() error {
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	for s.dec.PeekKind() != ']' {
		if err := s.entry(); err != nil {
			return err
		}
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	if _, err := s.dec.ReadToken(); err == nil {
		return fmt.Errorf("%w: there is something after the array", ErrMalformed)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (s *state) stream() error {
	for {
		if err := s.entry(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// lines reads one object a line. Lines are told apart before anything is parsed,
// so that a broken one cannot swallow the next.
func (s *state) lines(body []byte) error {
	broken := 0
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if s.index >= MaxEntries {
			return tooMany()
		}
		if !s.slow && s.fastLine(line) {
			continue
		}
		s.reset(line)
		taken := s.out
		err := s.entry()
		if err == nil {
			_, err = s.dec.ReadToken()
			if errors.Is(err, io.EOF) {
				continue
			}
		}
		s.out, s.failed, s.within = taken, Rejection{}, "" // a line is taken whole or not at all
		s.index = len(taken.Entries) + len(taken.Rejected)
		s.fail(Malformed, "", "must be one JSON object on one line")
		s.settle(nil)
		broken++
	}
	switch {
	case s.index == 0:
		return fmt.Errorf("%w: it is empty", ErrMalformed)
	case broken == s.index:
		return fmt.Errorf("%w: no line is a JSON object", ErrMalformed)
	}
	return nil
}

func tooMany() error { return fmt.Errorf("%w: at most %d in a body", ErrTooMany, MaxEntries) }

// malformed turns an error of the JSON library, which may quote the body, into
// one of ours, which does not.
func (s *state) malformed(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case err == nil, errors.Is(err, ErrInvalid):
		return err
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: not valid JSON at byte %d", ErrMalformed, syntax.ByteOffset)
	}
	return fmt.Errorf("%w: it ends too early", ErrMalformed)
}

// fail rejects the entry being read; the first reason counts.
func (s *state) fail(r Reason, field, message string) {
	if s.failed.Message == "" {
		s.failed = Rejection{Index: s.index, Field: s.within + field, Message: message, Reason: r}
	}
}

// settle ends an entry: it is kept, or listed as rejected. e is nil when there
// is none to keep.
func (s *state) settle(e *Entry) {
	if s.failed.Message != "" {
		s.out.Rejected = append(s.out.Rejected, s.failed)
		s.failed = Rejection{}
		if e != nil {
			s.out.Entries = s.out.Entries[:len(s.out.Entries)-1]
		}
	}
	s.index++
}

// number returns the integer that raw, a JSON number, is: 12, 12.0 and 1.2e1
// are the same.
func number(raw []byte) (int64, bool) {
	if len(raw) <= 18 {
		var n int64
		for _, c := range raw {
			if c < '0' || c > '9' {
				return slowNumber(raw)
			}
			n = n*10 + int64(c-'0')
		}
		return n, true
	}
	return slowNumber(raw)
}

// slowNumber reads a number from its decimal digits: a float would take what is nearly whole, or another number.
func slowNumber(raw []byte) (int64, bool) {
	text, negative := strings.CutPrefix(string(raw), "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	zeros := len(digits) - len(strings.TrimRight(digits, "0"))
	digits = digits[:len(digits)-zeros]
	if digits == "" {
		return 0, true
	}
	const most = 19                                 // digits of an int64
	power, _ := strconv.Atoi(cmp.Or(exponent, "0")) // of what is beyond an int, the largest or the smallest
	power = min(max(power, math.MinInt32), math.MaxInt32) + zeros - len(fraction)
	if power < 0 || len(digits)+power > most {
		return 0, false
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", power), 10, 64)
	if negative {
		n = -n
	}
	return n, err == nil
}
