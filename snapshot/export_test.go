//go:build !noWatcher

package snapshot

// ReadLastGood returns the View in a watcher's file.
func ReadLastGood(path string, keys *Keys) (*View, error) {
	l := NewLastGood(path, 0)
	v, err := l.Read(keys)
	if err != nil {
		return nil, err
	}
	return v, l.Close()
}

// LastGood is a watcher's file.
type LastGood struct{ file lastGood }

// NewLastGood returns a file that is compacted from minCompact bytes of deltas.
func NewLastGood(path string, minCompact int64) *LastGood {
	return &LastGood{lastGood{path: path, minCompact: minCompact}}
}

func (l *LastGood) Replace(s *Snapshot) error    { return l.file.replace(s) }
func (l *LastGood) Append(deltas ...Delta) error { return l.file.append(deltas) }
func (l *LastGood) Close() error                 { return l.file.close() }

func (l *LastGood) Read(keys *Keys) (*View, error) {
	v, _, err := l.file.read(emptyView(nil), keys)
	return v, err
}
