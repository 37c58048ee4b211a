package snapshot_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func seedSigned(f *testing.F, of func(vectors) []signedVector) {
	for _, v := range of(readVectors(f)) {
		text, err := json.Marshal(v.Fields)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"position":"1-1"}`, `{"epoch":"9223372036854775808"}`} {
		f.Add([]byte(text))
	}
}

// FuzzParseHead: whatever the fields are, a head is read or refused, keeps what
// was read, and signs as what it is.
func FuzzParseHead(f *testing.F) {
	seedSigned(f, func(v vectors) []signedVector { return v.Heads })
	keys := mustKeys(f, keyA)
	f.Fuzz(func(t *testing.T, text []byte) {
		var fields snapshot.Fields
		if json.Unmarshal(text, &fields) != nil {
			return
		}
		h, err := snapshot.ParseHead(fields)
		if err != nil {
			if !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrNone) {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := snapshot.ParseHead(h.Fields())
		if err != nil || !again.Equal(h) || again.Base() != h.Base() {
			t.Fatalf("read again: %v", err)
		}
		if h.Position.Epoch < 0 || h.Position.Revision < 0 || h.Counts.Total() < 0 || h.Renderer < 0 {
			t.Fatalf("out of bounds: %+v", h)
		}
		keys.SignHead(&h)
		if err := keys.VerifyHead(h); err != nil {
			t.Fatalf("signed anew: %v", err)
		}
		if signed, err := snapshot.ParseHead(h.Fields()); err != nil || keys.VerifyHead(signed) != nil {
			t.Fatalf("signed anew and read: %v", err)
		}
	})
}

func FuzzParseBeat(f *testing.F) {
	seedSigned(f, func(v vectors) []signedVector { return v.Beats })
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := snapshot.ParseBeat(text)
		if err != nil {
			if !errors.Is(err, snapshot.ErrCorrupt) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again, err := snapshot.ParseBeat(b.Encode()); err != nil || !again.Equal(b) {
			t.Fatalf("read again: %v", err)
		}
	})
}

func FuzzParseNode(f *testing.F) {
	seedSigned(f, func(v vectors) []signedVector { return v.Nodes })
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := snapshot.ParseNode(text)
		if err != nil {
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again, err := snapshot.ParseNode(n.Encode()); err != nil || !again.Equal(n) {
			t.Fatalf("read again: %v", err)
		}
		if n.ID == "" || n.Position.Epoch < 0 || n.Position.Revision < 0 {
			t.Fatalf("out of bounds: %+v", n)
		}
	})
}
