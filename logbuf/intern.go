package logbuf

// internTable shares equal short strings, without ever growing: what does not
// find its slot free takes it over. Most fields are as they were in the entry
// before, which is looked at first.
type internTable struct {
	last  [fieldCount]string
	slots [256]string
}

func (t *internTable) string(f field, b []byte) string {
	if last := t.last[f]; last == string(b) {
		return last
	}
	if len(b) > 64 {
		return string(b)
	}
	h := uint32(2166136261) // FNV-1a
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	slot := &t.slots[(h^h>>16)%uint32(len(t.slots))]
	if *slot != string(b) {
		*slot = string(b)
	}
	t.last[f] = *slot
	return *slot
}
