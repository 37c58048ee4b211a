//go:build !noWatcher

package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

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
			if diff := cmp.Diff(deltas[0], d); diff != "" {
				rt.Fatalf("delta (-written +read):\n%s", diff)
			}
		}
		want := p.whole()
		if err := snapshot.WriteSnapshot(&text, want); err != nil {
			rt.Fatal(err)
		}
		head, err := snapshot.ReadHead(bytes.NewReader(text.Bytes()))
		if diff := cmp.Diff(want.Head, head); err != nil || diff != "" {
			rt.Fatalf("head: %v (-written +read):\n%s", err, diff)
		}
		got, err := snapshot.ReadSnapshot(&text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			rt.Fatalf("snapshot: %v (-written +read):\n%s", err, diff)
		}
	})
}

// FuzzReadSnapshot: whatever comes is an error, or can be written and read again.
func FuzzReadSnapshot(f *testing.F) {
	var text bytes.Buffer
	if err := snapshot.WriteSnapshot(&text, newPast(f, nil).whole()); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte(`{"format":1,"counts":{"keys":-1}}` + "\n"))
	f.Add([]byte(`{"format":1,"counts":{"keys":1}}` + "\n" + `{"kind":"keys","key":"k"}` + "\n"))
	f.Add([]byte(`{"format":1,"counts":{"keys":9223372036854775807,"models":1}}` + "\n" + `{"kind":"keys","key":"k"}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := snapshot.ReadSnapshot(bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, snapshot.ErrCorrupt) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
			return
		}
		rereads(t, s)
	})
}

// rereads fails the test unless a snapshot that was read can be written and read.
func rereads(t *testing.T, s *snapshot.Snapshot) {
	t.Helper()
	for i := range s.Docs {
		if s.Docs[i].Doc == nil {
			t.Fatalf("document %d is a deletion", i)
		}
	}
	var text bytes.Buffer
	if err := snapshot.WriteSnapshot(&text, s); err != nil {
		t.Fatal(err)
	}
	got, err := snapshot.ReadSnapshot(&text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("(-read +read again):\n%s", diff)
	}
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
				if !errors.Is(err, io.EOF) && !errors.Is(err, snapshot.ErrCorrupt) {
					t.Errorf("%v is neither the end nor ErrCorrupt", err)
				}
				return
			}
			var again bytes.Buffer
			if err := snapshot.WriteDelta(&again, d); err != nil {
				t.Fatal(err)
			}
			got, err := snapshot.NewDeltaReader(&again).Next()
			if diff := cmp.Diff(d, got); err != nil || diff != "" {
				t.Errorf("%v (-read +read again):\n%s", err, diff)
			}
		}
	})
}
