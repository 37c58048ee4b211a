package logbuf

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// field is a name that an entry knows.
type field int

const (
	fieldUnknown field = iota
	fieldID
	fieldTS
	fieldRequestID
	fieldBalancer
	fieldKeyID
	fieldProviderID
	fieldNamespace
	fieldModel
	fieldUpstreamModel
	fieldGroup
	fieldEndpoint
	fieldStatus
	fieldError
	fieldAttempts
	fieldStream
	fieldLatencyMS
	fieldTTFTMS
	fieldInputTokens
	fieldCacheReadTokens
	fieldCacheWriteTokens
	fieldOutputTokens
	fieldCostNanoUSD
	fieldPricedRevision
	fieldClientIP
	fieldUserAgent
	fieldRevision
	fieldProject
	fieldUser
	fieldTags
	fieldFailures
	fieldClass // of a failure only, as is the next
	fieldRetryAfterMS
	fieldCount
)

// name returns the field's name on the wire.
func (f field) name() string { return fieldNames[f] }

var fieldNames = [fieldCount]string{
	"", "id", "ts", "request_id", "balancer", "key_id", "provider_id", "namespace", "model",
	"upstream_model", "group", "endpoint", "status", "error", "attempts", "stream", "latency_ms",
	"ttft_ms", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
	"cost_nano_usd", "priced_revision", "client_ip", "user_agent", "revision", "project", "user", "tags",
	"failures", "class", "retry_after_ms",
}

// ofFailure reports whether only failures have the field.
func (f field) ofFailure() bool { return f == fieldClass || f == fieldRetryAfterMS }

// fieldOf is the reverse of name.
func fieldOf(name string) field {
	switch name {
	case "id":
		return fieldID
	case "ts":
		return fieldTS
	case "request_id":
		return fieldRequestID
	case "balancer":
		return fieldBalancer
	case "key_id":
		return fieldKeyID
	case "provider_id":
		return fieldProviderID
	case "namespace":
		return fieldNamespace
	case "model":
		return fieldModel
	case "upstream_model":
		return fieldUpstreamModel
	case "group":
		return fieldGroup
	case "endpoint":
		return fieldEndpoint
	case "status":
		return fieldStatus
	case "error":
		return fieldError
	case "attempts":
		return fieldAttempts
	case "stream":
		return fieldStream
	case "latency_ms":
		return fieldLatencyMS
	case "ttft_ms":
		return fieldTTFTMS
	case "input_tokens":
		return fieldInputTokens
	case "cache_read_tokens":
		return fieldCacheReadTokens
	case "cache_write_tokens":
		return fieldCacheWriteTokens
	case "output_tokens":
		return fieldOutputTokens
	case "cost_nano_usd":
		return fieldCostNanoUSD
	case "priced_revision":
		return fieldPricedRevision
	case "client_ip":
		return fieldClientIP
	case "user_agent":
		return fieldUserAgent
	case "revision":
		return fieldRevision
	case "project":
		return fieldProject
	case "user":
		return fieldUser
	case "tags":
		return fieldTags
	case "failures":
		return fieldFailures
	case "class":
		return fieldClass
	case "retry_after_ms":
		return fieldRetryAfterMS
	}
	return fieldUnknown
}

// entry reads one entry and keeps or rejects it. Its error means that the JSON
// itself is broken, or that there are too many entries.
func (s *state) entry() error {
	kind := s.dec.PeekKind()
	if kind == jsontext.KindInvalid {
		_, err := s.dec.ReadToken()
		return err
	}
	if s.index >= MaxEntries {
		return tooMany()
	}
	base := s.dec.StackDepth()
	if kind != '{' {
		s.fail(BadType, "", "must be an object")
		if err := s.skip(base); err != nil {
			return err
		}
		s.settle(nil)
		return nil
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	e := s.begin()
	for s.dec.PeekKind() != '}' {
		raw, err := s.dec.ReadValue()
		if err != nil {
			return err
		}
		f := s.fieldNamed(raw)
		if f == fieldUnknown || f.ofFailure() {
			s.out.Unknown++
			if err := s.skip(base); err != nil {
				return err
			}
			continue
		}
		s.once(f)
		if k := s.dec.PeekKind(); k == '{' || k == '[' {
			if err := s.nested(e, f, k, base); err != nil {
				return err
			}
			continue
		}
		value, err := s.dec.ReadValue()
		if err != nil {
			return err
		}
		if value[0] != 'n' { // null is the same as absent
			s.set(e, f, value)
		}
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	s.complete(e)
	s.settle(e)
	return nil
}

// begin starts an entry that settle ends.
func (s *state) begin() *Entry {
	s.seen = 0
	s.out.Entries = append(s.out.Entries, Entry{})
	return &s.out.Entries[len(s.out.Entries)-1]
}

// once rejects the entry when it had the field already.
func (s *state) once(f field) {
	if s.seen&(1<<f) != 0 {
		s.fail(Twice, f.name(), "is given twice")
	}
	s.seen |= 1 << f
}

// fieldNamed returns the field of a quoted name.
func (s *state) fieldNamed(raw []byte) field {
	if bytes.IndexByte(raw, '\\') < 0 {
		return fieldOf(string(raw[1 : len(raw)-1])) // not copied: the compiler sees that it is only compared
	}
	var err error
	if s.scratch, err = jsontext.AppendUnquote(s.scratch[:0], raw); err != nil {
		return fieldUnknown
	}
	return fieldOf(string(s.scratch))
}

// skip reads over one value and rejects the entry when it is nested too deeply.
// It reads tokens, so that no value has to fit anywhere.
func (s *state) skip(base int) error {
	start := s.dec.StackDepth()
	for {
		if _, err := s.dec.ReadToken(); err != nil {
			return err
		}
		switch depth := s.dec.StackDepth(); {
		case depth == start:
			return nil
		case depth-base > MaxDepth:
			s.fail(TooDeep, "", fmt.Sprintf("must not be nested deeper than %d levels", MaxDepth))
		}
	}
}

// set stores the value of one field that is not nested. The value is a token, without spaces around it.
func (s *state) set(e *Entry, f field, value jsontext.Value) {
	switch f {
	case fieldID:
		s.setID(e, value)
	case fieldTS:
		s.setTime(e, value)
	case fieldRequestID:
		e.RequestID = s.text(f, value)
	case fieldBalancer:
		e.Balancer = s.shared(f, value)
	case fieldKeyID:
		e.KeyID = s.integer(f, value, maxID)
	case fieldProviderID:
		e.ProviderID = s.integer(f, value, maxID)
	case fieldNamespace:
		e.Namespace = s.shared(f, value)
	case fieldModel:
		e.Model = s.shared(f, value)
	case fieldUpstreamModel:
		e.UpstreamModel = s.shared(f, value)
	case fieldGroup:
		e.Group = s.shared(f, value)
	case fieldEndpoint:
		e.Endpoint = s.shared(f, value)
	case fieldStatus:
		e.Status = int(s.integer(f, value, MaxStatus))
	case fieldError:
		e.Error = s.text(f, value)
	case fieldAttempts:
		e.Attempts = int(s.integer(f, value, MaxAttempts))
	case fieldStream:
		if value[0] != 't' && value[0] != 'f' {
			s.fail(BadType, f.name(), wanted(f))
		}
		e.Stream = value[0] == 't'
	case fieldLatencyMS:
		e.LatencyMS = s.integer(f, value, MaxMillis)
	case fieldTTFTMS:
		e.TTFTMS = s.integer(f, value, MaxMillis)
	case fieldInputTokens:
		e.InputTokens = s.integer(f, value, MaxTokens)
	case fieldCacheReadTokens:
		e.CacheReadTokens = s.integer(f, value, MaxTokens)
	case fieldCacheWriteTokens:
		e.CacheWriteTokens = s.integer(f, value, MaxTokens)
	case fieldOutputTokens:
		e.OutputTokens = s.integer(f, value, MaxTokens)
	case fieldCostNanoUSD:
		e.CostNanoUSD = s.cost(s.integer(f, value, MaxCost))
	case fieldPricedRevision:
		e.PricedRevision = s.integer(f, value, maxID)
	case fieldClientIP:
		e.ClientIP = s.shared(f, value)
	case fieldUserAgent:
		e.UserAgent = s.shared(f, value)
	case fieldRevision:
		e.Revision = s.shared(f, value)
	case fieldProject:
		e.Project = s.shared(f, value)
	case fieldUser:
		e.User = s.text(f, value)
	case fieldTags, fieldFailures:
		s.fail(BadType, f.name(), wanted(f))
	}
}

// wanted says what a field should be.
func wanted(f field) string {
	switch f {
	case fieldStream:
		return "must be true or false"
	case fieldID:
		return "must be a UUID in a string"
	case fieldTS:
		return "must be an RFC 3339 time in a string"
	case fieldKeyID, fieldProviderID, fieldStatus, fieldAttempts, fieldLatencyMS, fieldTTFTMS,
		fieldInputTokens, fieldCacheReadTokens, fieldCacheWriteTokens, fieldOutputTokens,
		fieldCostNanoUSD, fieldPricedRevision, fieldRetryAfterMS:
		return "must be a whole number"
	case fieldTags:
		return "must be an object of strings"
	case fieldFailures:
		return "must be an array of objects"
	}
	return "must be a string"
}

// costsAtOnce is how many costs share memory.
const costsAtOnce = 64

// cost returns a place for a cost that keeps it for as long as the entry is used.
func (s *state) cost(n int64) *int64 {
	if len(s.costs) == cap(s.costs) {
		s.costs = make([]int64, 0, min(costsAtOnce, cap(s.out.Entries)))
	}
	s.costs = append(s.costs, n)
	return &s.costs[len(s.costs)-1]
}

func isText(value jsontext.Value) bool { return value[0] == '"' }

// integer reads a whole number from 0 to limit.
func (s *state) integer(f field, value jsontext.Value, limit int64) int64 {
	if !isDigit(value[0]) && value[0] != '-' {
		s.fail(BadType, f.name(), wanted(f))
		return 0
	}
	n, ok := number(value)
	switch {
	case !ok:
		s.fail(BadValue, f.name(), wanted(f))
	case n < 0:
		s.fail(BadValue, f.name(), "must not be negative")
	case n > limit:
		s.fail(BadValue, f.name(), fmt.Sprintf("must be at most %d", limit))
	}
	return n
}

// text reads a string as it can be stored.
func (s *state) text(f field, value jsontext.Value) string {
	raw, ok := s.plainText(f, value)
	if ok {
		return s.texts.string(raw)
	}
	return s.cleaned(f, value)
}

// shared is text for strings that come again and again: equal ones are one.
func (s *state) shared(f field, value jsontext.Value) string {
	if isText(value) {
		if last := s.names.last[f]; last == string(value[1:len(value)-1]) && last != "" {
			return last // it was looked at then
		}
	}
	raw, ok := s.plainText(f, value)
	if ok {
		return s.names.string(f, raw)
	}
	return s.cleaned(f, value)
}

// plainText returns the text between the quotes if it can be stored as it is.
func (s *state) plainText(f field, value jsontext.Value) (raw []byte, ok bool) {
	if !isText(value) {
		return nil, false
	}
	raw = value[1 : len(value)-1]
	return raw, len(raw) <= limitOf(f) && bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw)
}

// cleaned unquotes, cuts and cleans a string, and counts that.
func (s *state) cleaned(f field, value jsontext.Value) string {
	if !isText(value) {
		s.fail(BadType, f.name(), wanted(f))
		return ""
	}
	return s.unquote(value, limitOf(f))
}

func (s *state) unquote(value jsontext.Value, limit int) string {
	var err error
	s.scratch, err = jsontext.AppendUnquote(s.scratch[:0], []byte(value))
	out, cut, replaced := clean(string(s.scratch), limit)
	if cut {
		s.out.Cut++
		out = string([]byte(out)) // let go of the rest
	}
	if replaced || err != nil { // the string is known to be JSON: the error is about its UTF-8
		s.out.Replaced++
	}
	return out
}

// uuidSize is how long a UUID is in its usual form, which RFC 9562 has.
const uuidSize = 36

// unescaped returns what a string says, until the next is read. It may be no UTF-8.
func (s *state) unescaped(value jsontext.Value) []byte {
	raw := value[1 : len(value)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	s.scratch, _ = jsontext.AppendUnquote(s.scratch[:0], []byte(value)) // the string is known to be JSON
	return s.scratch
}

func (s *state) setID(e *Entry, value jsontext.Value) {
	if !isText(value) {
		s.fail(BadType, "id", wanted(fieldID))
		return
	}
	text := s.unescaped(value)
	id, err := uuid.ParseBytes(text)
	if err != nil || id == uuid.Nil || len(text) != uuidSize { // other forms may have anything around it
		s.fail(BadValue, "id", wanted(fieldID))
	}
	e.ID = id
}

func (s *state) setTime(e *Entry, value jsontext.Value) {
	if !isText(value) {
		s.fail(BadType, "ts", wanted(fieldTS))
		return
	}
	t, err := s.times.read(s.unescaped(value))
	if err != nil || t.IsZero() {
		s.fail(BadValue, "ts", wanted(fieldTS))
		return
	}
	e.Time = t
}

// complete fills in what was not sent and checks what depends on more than one field.
func (s *state) complete(e *Entry) {
	if s.failed.Message != "" {
		return
	}
	from := "ts"
	switch {
	case e.ID == uuid.Nil:
		e.ID = newID(s.now)
		if e.Time.IsZero() {
			e.Time = s.now
			s.out.Undated++
		}
	case e.Time.IsZero():
		from = "id"
		if e.ID.Version() != 7 || e.ID.Variant() != uuid.RFC4122 {
			s.fail(BadValue, from, "must be a UUIDv7 when there is no ts")
			return
		}
		e.Time = timeOf(e.ID)
	}
	if age := s.now.Sub(e.Time); age > s.age || age < -maxAhead {
		s.fail(BadTime, from, timeRule(s.age))
	}
	if e.Namespace == "" {
		e.Namespace = defaultNamespace
	}
	if e.Project != "" && !isProject(e.Project) {
		e.Project = ""
		s.out.Replaced++
	}
	if e.CostNanoUSD == nil {
		e.PricedRevision = 0 // it says where a cost comes from
	}
}
