package logbuf

// internTable shares equal short strings, without ever growing: what does not
// find its slot free takes it over.
type internTable [256]string

func (t *internTable) string(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > 64 {
		return string(b)
	}
	h := uint32(2166136261) // FNV-1a
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	slot := &t[(h^h>>16)%uint32(len(t))]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}
