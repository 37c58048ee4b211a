package logbuf

import (
	"encoding/binary"
	"math/bits"
)

// The fast path reads the JSON that programs write: objects that are flat but for tags and
// failures, whole numbers, no surrogates. It only finds out where names and values begin and end; what they
// mean is decided by the same code as in the slow path. Whatever it does not know
// it leaves to the slow path, from the start of the body, and so it never has to
// explain what is wrong.

// fast reads a whole body. When it returns false, nothing has happened.
func (s *state) fast(body []byte) bool {
	saved, index := s.out, s.index
	if s.fastValues(&scanner{text: body}) {
		return true
	}
	s.out, s.index, s.failed, s.within = saved, index, Rejection{}, ""
	return false
}

// fastLine reads one object and nothing else, likewise.
func (s *state) fastLine(line []byte) bool {
	saved, index := s.out, s.index
	if c := (scanner{text: line}); s.fastEntry(&c) && c.end() {
		return true
	}
	s.out, s.index, s.failed, s.within = saved, index, Rejection{}, ""
	return false
}

func (s *state) fastValues(c *scanner) bool {
	c.space()
	if !c.take('[') {
		for !c.end() {
			if !s.fastEntry(c) {
				return false
			}
			c.space()
		}
		return s.index > 0 // an empty body is an error
	}
	c.space()
	for !c.take(']') {
		if !s.fastEntry(c) {
			return false
		}
		c.space()
		if c.take(',') {
			c.space()
			if c.peek() == ']' {
				return false
			}
		} else if c.peek() != ']' {
			return false
		}
	}
	c.space()
	return c.end()
}

func (s *state) fastEntry(c *scanner) bool {
	if s.index >= MaxEntries || !c.take('{') {
		return false
	}
	e := s.begin()
	c.space()
	var before field
	for more := !c.take('}'); more; {
		f := s.follows[before] // programs write fields in the same order again and again
		if !c.named(f) {
			name, ok := c.quoted()
			if !ok {
				return false
			}
			f = s.fieldNamed(name)
			s.follows[before] = f
			c.space()
			if !c.take(':') {
				return false
			}
		}
		before = f
		c.space()
		if !s.fastValue(c, e, f) {
			return false
		}
		c.space()
		if more = c.take(','); more {
			c.space()
		} else if !c.take('}') {
			return false
		}
	}
	s.complete(e)
	s.settle(e)
	return true
}

// fastValue reads the value of a field.
func (s *state) fastValue(c *scanner, e *Entry, f field) bool {
	switch b := c.peek(); {
	case b == '{' && f == fieldTags:
		s.once(f)
		return s.fastTags(c, e)
	case b == '[' && f == fieldFailures:
		s.once(f)
		return s.fastFailures(c, e)
	}
	value, ok := c.scalar()
	if !ok {
		return false
	}
	if f == fieldUnknown || f.ofFailure() {
		s.out.Unknown++
	} else if s.once(f); value[0] != 'n' { // null is the same as absent
		s.set(e, f, value)
	}
	return true
}

func (s *state) fastTags(c *scanner, e *Entry) bool {
	return c.members('}', func() bool {
		name, value, ok := c.member()
		if ok {
			s.addTag(e, name, value)
		}
		return ok
	})
}

func (s *state) fastFailures(c *scanner, e *Entry) bool {
	n := 0
	return c.members(']', func() bool {
		if c.peek() != '{' {
			return false
		}
		l := s.beginFailure(e, n)
		n++
		ok := c.members('}', func() bool {
			name, value, ok := c.member()
			if ok {
				s.setFailure(l, name, value)
			}
			return ok
		})
		s.endFailure(l)
		return ok
	})
}

// members takes an array or an object, whose opening comes next, and calls one where each
// of its members begins.
func (c *scanner) members(closing byte, one func() bool) bool {
	c.at++
	c.space()
	if c.take(closing) {
		return true
	}
	for {
		if !one() {
			return false
		}
		c.space()
		if c.take(closing) {
			return true
		}
		if !c.take(',') {
			return false
		}
		c.space()
	}
}

// member takes the name and the value of one member of an object.
func (c *scanner) member() (name, value []byte, ok bool) {
	if name, ok = c.quoted(); !ok {
		return nil, nil, false
	}
	c.space()
	if !c.take(':') {
		return nil, nil, false
	}
	c.space()
	value, ok = c.scalar()
	return name, value, ok
}

// scanner finds tokens.
type scanner struct {
	text []byte
	at   int
}

func (c *scanner) end() bool { return c.at >= len(c.text) }

// peek returns the next byte, 0 at the end.
func (c *scanner) peek() byte {
	if c.end() {
		return 0
	}
	return c.text[c.at]
}

func (c *scanner) take(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.at++
	return true
}

func (c *scanner) space() {
	if c.at < len(c.text) && c.text[c.at] <= ' ' { // programs hardly write any
		c.spaces()
	}
}

func (c *scanner) spaces() {
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

// named takes the quoted name of a known field and its colon, if they are what comes next.
func (c *scanner) named(f field) bool {
	text := fieldStarts[f]
	if f == fieldUnknown || len(c.text)-c.at < len(text) || string(c.text[c.at:c.at+len(text)]) != text {
		return false
	}
	c.at += len(text)
	return true
}

// fieldStarts are the names of fields as programs write them before a value.
var fieldStarts = func() (starts [fieldCount]string) {
	for f, name := range fieldNames {
		starts[f] = `"` + name + `":`
	}
	return starts
}()

// scalar returns the next value, unless it is an object, an array, a number that
// is not plainly whole, or nothing.
func (c *scanner) scalar() (value []byte, ok bool) {
	switch b := c.peek(); {
	case b == '"':
		return c.quoted()
	case isDigit(b):
		end := c.at + 1
		for end < len(c.text) && isDigit(c.text[end]) {
			end++
		}
		value, c.at = c.text[c.at:end], end
		// What follows is checked by the caller, so 1.5 and 1e3 end here.
		return value, b != '0' || len(value) == 1
	case b == 't':
		return c.literal("true")
	case b == 'f':
		return c.literal("false")
	case b == 'n':
		return c.literal("null")
	}
	return nil, false
}

func isDigit(b byte) bool { return b-'0' < 10 }

func (c *scanner) literal(word string) (value []byte, ok bool) {
	start := c.at
	if len(c.text)-start < len(word) || string(c.text[start:start+len(word)]) != word {
		return nil, false
	}
	c.at += len(word)
	return c.text[start:c.at], true
}

// quoted returns the next string with its quotes.
func (c *scanner) quoted() (value []byte, ok bool) {
	start := c.at
	if !c.take('"') {
		return nil, false
	}
	for {
		c.plain()
		switch c.peek() {
		case '"':
			c.at++
			return c.text[start:c.at], true
		case '\\':
			if !c.escape() {
				return nil, false
			}
		default: // a control character, or the end
			return nil, false
		}
	}
}

// plain passes over bytes that mean themselves, eight at a time: a byte is found
// by the borrow when it is subtracted from (Mycroft's test for a zero byte). It
// may stop at the end only, or at a quote, a backslash or a control character.
func (c *scanner) plain() {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for len(c.text)-c.at >= 8 {
		x := binary.LittleEndian.Uint64(c.text[c.at:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		found := ((quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x) & highs
		if found != 0 {
			c.at += bits.TrailingZeros64(found) / 8 // the lowest one is exact
			return
		}
		c.at += 8
	}
	for c.at < len(c.text) && c.text[c.at] >= ' ' && c.text[c.at] != '"' && c.text[c.at] != '\\' {
		c.at++
	}
}

// escape passes over an escape sequence that is not one of a surrogate.
func (c *scanner) escape() bool {
	rest := c.text[c.at+1:]
	if len(rest) == 0 {
		return false
	}
	switch rest[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.at += 2
		return true
	case 'u':
	default:
		return false
	}
	if len(rest) < 5 {
		return false
	}
	for _, b := range rest[1:5] {
		if (b < '0' || b > '9') && (b|0x20 < 'a' || b|0x20 > 'f') {
			return false
		}
	}
	c.at += 6
	surrogate := rest[1]|0x20 == 'd' && rest[2] >= '8'
	return !surrogate
}
