package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func TestLinesRoundTrip(t *testing.T) {
	keys := mustKeys(t, keyA)
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.StringN(1, 20, -1)
		p := newPast(t, keys)
		var deltas []snapshot.Delta
		var text bytes.Buffer
		for range rapid.IntRange(0, 5).Draw(rt, "deltas") {
			d := p.move(1, name.Draw(rt, "token"), rapid.OneOf(name, rapid.Just("")).Draw(rt, "name"))
			if err := snapshot.WriteDelta(&text, d); err != nil {
				rt.Fatal(err)
			}
			deltas = append(deltas, d)
		}
		for in := snapshot.NewDeltaReader(&text); ; deltas = deltas[1:] {
			d, err := in.Next()
			if errors.Is(err, io.EOF) && len(deltas) == 0 {
				break
			}
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(plain(deltas[0]), plain(d)); diff != "" {
				rt.Fatalf("delta (-written +read):\n%s", diff)
			}
		}
		x, err := snapshot.NewExporter(p.published(t), keys).Open(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		defer x.Close()
		if n, err := x.WriteTo(&text); err != nil || n != x.Size() || n != int64(text.Len()) {
			rt.Fatalf("%d bytes, %d were promised, %d are there: %v", n, x.Size(), text.Len(), err)
		}
		l := snapshot.NewLoader(keys)
		if err := snapshot.ReadWhole(&text, l); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(p.head.Fields(), l.View().Head().Fields()); diff != "" {
			rt.Fatalf("head (-written +read):\n%s", diff)
		}
	})
}

// collected is a loader that keeps what it gets.
type collected struct {
	head    snapshot.Head
	changes []snapshot.Change
}

func (c *collected) Begin(h snapshot.Head) ([]catalog.Kind, error) {
	c.head, c.changes = h, nil
	return slices.Collect(maps.Keys(h.Counts)), nil
}
func (c *collected) Add(changes []snapshot.Change) error {
	c.changes = append(c.changes, changes...)
	return nil
}
func (c *collected) End(h snapshot.Head) error { c.head = h; return nil }

// FuzzReadWhole: whatever comes is an error, or can be loaded again.
func FuzzReadWhole(f *testing.F) {
	x, err := snapshot.NewExporter(newPast(f, nil).published(f), nil).Open(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := x.WriteTo(&text); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte(`{"head":{}}` + "\n"))
	f.Add([]byte(`{"head":null}` + "\n" + `{"kind":"keys","key":"k"}` + "\n"))
	f.Add(append(bytes.SplitAfter(text.Bytes(), []byte("\n"))[0], []byte(`{"from":"1-1"}`+"\n")...))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c collected
		if err := snapshot.ReadWhole(bytes.NewReader(text), &c); err != nil {
			if !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrNone) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
			return
		}
		err := snapshot.ReadWhole(bytes.NewReader(text), snapshot.NewLoader(nil))
		if err != nil && !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrFormat) &&
			!errors.Is(err, catalog.ErrSealed) {
			t.Errorf("a view of it: %v", err)
		}
	})
}

// FuzzReadDeltas: whatever comes is an error, or can be written and read again.
func FuzzReadDeltas(f *testing.F) {
	p := newPast(f, nil)
	var text bytes.Buffer
	for _, name := range []string{"k", ""} {
		if err := snapshot.WriteDelta(&text, p.move(1, "second", name)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(text.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		for in := snapshot.NewDeltaReader(bytes.NewReader(text)); ; {
			d, err := in.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrNone) {
					t.Errorf("%v is neither the end nor ErrCorrupt", err)
				}
				return
			}
			var again bytes.Buffer
			if err := snapshot.WriteDelta(&again, d); err != nil {
				t.Fatal(err)
			}
			got, err := snapshot.NewDeltaReader(&again).Next()
			if diff := cmp.Diff(plain(d), plain(got)); err != nil || diff != "" {
				t.Errorf("%v (-read +read again):\n%s", err, diff)
			}
		}
	})
}

// plain is a delta whose head is its fields.
func plain(d snapshot.Delta) any {
	return struct {
		From    snapshot.Position
		Head    snapshot.Fields
		Changes []snapshot.Change
	}{d.From, d.Head.Fields(), d.Changes}
}
