package logbuf

import (
	"hash/maphash"
	"strings"
)

// internTable shares equal short strings, without ever growing: what does not
// find its slot free takes it over. Most fields are as they were in the entry
// before, which is looked at first.
type internTable struct {
	last  [fieldCount]string
	slots [256]string
	seed  maphash.Seed
}

func newInternTable() internTable { return internTable{seed: maphash.MakeSeed()} }

func (t *internTable) string(f field, b []byte) string {
	if last := t.last[f]; last == string(b) {
		return last
	}
	if len(b) > 64 {
		return string(b)
	}
	slot := &t.slots[maphash.Bytes(t.seed, b)%uint64(len(t.slots))]
	if *slot != string(b) {
		*slot = string(b)
	}
	t.last[f] = *slot
	return *slot
}

// textBlock makes strings that are parts of one larger block of memory each, which costs less than memory of their own.
type textBlock struct{ block strings.Builder }

const (
	textBlockSize = 4 << 10
	maxInBlock    = textBlockSize / 16 // what is larger would leave much of a block empty
)

func (t *textBlock) string(b []byte) string {
	if len(b) > maxInBlock {
		return string(b)
	}
	if t.block.Cap()-t.block.Len() < len(b) {
		t.block.Reset() // the strings of the old one keep it
		t.block.Grow(textBlockSize)
	}
	start := t.block.Len()
	t.block.Write(b)
	return t.block.String()[start:]
}
