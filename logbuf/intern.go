package logbuf

import "hash/maphash"

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
