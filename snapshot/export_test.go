package snapshot

// ReadLastGood returns the View in a watcher's file.
func ReadLastGood(path string, keys *Keys) (*View, error) {
	l := lastGood{path: path}
	v, _, err := l.read(emptyView(nil), keys)
	if err != nil {
		return nil, err
	}
	return v, l.close()
}
