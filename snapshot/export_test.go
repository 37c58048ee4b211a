package snapshot

import "log/slog"

// NewLoader returns the loader of a View.
func NewLoader(keys *Keys) *ViewLoader {
	return &ViewLoader{viewLoader{base: emptyView(nil), keys: keys}}
}

// ViewLoader is the loader of a View.
type ViewLoader struct{ viewLoader }

// View returns what was loaded.
func (l *ViewLoader) View() *View { return l.view }

// Reloaded returns what a load over a view gives.
func Reloaded(v *View, load func(Loader) error) (*View, error) {
	l := &viewLoader{base: v}
	err := load(l)
	return l.view, err
}

// Applied returns the view after a delta.
func Applied(v *View, d Delta, keys *Keys) (*View, error) { return v.apply(d, keys) }

// ReadLastGood returns the View in a watcher's file.
func ReadLastGood(path string, keys *Keys) (*View, error) {
	l := NewLastGood(path, 0)
	v, _, err := l.Read(keys)
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

// Replace writes a whole that gives itself to a loader.
func (l *LastGood) Replace(keys *Keys, load func(Loader) error) error {
	c := &fileCopy{file: &l.file}
	if err := load(&viewLoader{base: emptyView(nil), keys: keys, copy: c}); err != nil {
		return err
	}
	return c.err
}

func (l *LastGood) Append(deltas ...Delta) error { return l.file.append(deltas) }
func (l *LastGood) Note(b Beat) error            { return l.file.note(b) }
func (l *LastGood) Close() error                 { return l.file.close() }

func (l *LastGood) Read(keys *Keys) (*View, Beat, error) { return l.file.read(emptyView(nil), keys) }

// IdleKeeper is what writes a watcher's file, while it writes nothing.
type IdleKeeper struct{ *keeper }

func NewIdleKeeper(path string) IdleKeeper {
	return IdleKeeper{newKeeper(path, nil, nil, slog.New(slog.DiscardHandler))}
}

func (k IdleKeeper) Begin(h Head)         { k.begin(h) }
func (k IdleKeeper) Add(changes []Change) { k.add(changes) }
func (k IdleKeeper) Pending() int         { return k.bytes }
