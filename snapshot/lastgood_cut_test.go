package snapshot_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// past is what is published, and was.
type past struct {
	t testing.TB
	*edition
	heads map[snapshot.Position]snapshot.Head
}

func newPast(t testing.TB, keys *snapshot.Keys) *past {
	p := &past{t: t, edition: newEdition(keys), heads: map[snapshot.Position]snapshot.Head{}}
	p.move(1, "first", "k")
	return p
}

// move sets the key under a token, or removes it when it is to have no name, in an
// epoch, and returns the delta.
func (p *past) move(epoch catalog.Epoch, token, name string) snapshot.Delta {
	c := snapshot.Change(keyDoc(p.t, token, func(k *snapshot.KeyDoc) { k.Name = name }))
	if name == "" {
		c.Doc = nil
	}
	d := p.edition.move(epoch, p.head.Position.Revision+1, c)
	p.heads[p.head.Position] = p.head
	return d
}

// holds fails the test when a View is not what was published at its position.
func (p *past) holds(t rapid.TB, what string, v *snapshot.View) {
	t.Helper()
	if diff := cmp.Diff(p.heads[v.Position()].Fields(), v.Head().Fields()); diff != "" {
		t.Fatalf("%s: it never was so (-published +read):\n%s", what, diff)
	}
}

// Wherever a crash cuts the file, and whichever bit flips: what is read was published,
// at some position, or nothing is read. There is no sync key, so no signature helps.
func TestDamagedFilesLoseWhatFollows(t *testing.T) {
	p, file := newPast(t, nil), filepath.Join(t.TempDir(), "good")
	l := snapshot.NewLastGood(file, 1<<20)
	if err := l.Replace(nil, p.give); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"second", "third", "first"} {
		if err := l.Append(p.move(1, token, "renamed")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) != 11 || len(lines[10]) != 0 {
		t.Fatalf("%d lines in the file, want its format, a whole of three, and three deltas of two", len(lines)-1)
	}
	// good is how many revisions there are in so many bytes; 0 for none.
	good := func(n int) catalog.Revision {
		for i, line := range lines[:10] {
			if n -= len(line); n < 0 {
				return catalog.Revision(max(0, i/2-1))
			}
		}
		return 4
	}
	read := func(what string, damaged []byte, want catalog.Revision) {
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := snapshot.ReadLastGood(file, nil)
		switch {
		case err != nil && want > 0:
			t.Fatalf("%s: %v, want revision %d", what, err, want)
		case err != nil:
			return
		case v.Position().Revision-1 != want:
			t.Fatalf("%s: read up to %s, want revision %d", what, v.Position(), want+1)
		}
		p.holds(t, what, v)
	}
	for cut := range len(text) + 1 {
		read(fmt.Sprint("cut at ", cut), text[:cut], good(cut))
	}
	for i := range text {
		flipped := bytes.Clone(text)
		flipped[i] ^= 1 << (i % 8)
		read(fmt.Sprintf("bit %d of byte %d flipped", i%8, i), flipped, good(i))
	}
}

// Whatever is written, compacted, cut and read again: a file holds what was
// published at the latest position that reached the disk whole.
func TestFileIsLikeItsModel(t *testing.T) {
	keys := mustKeys(t, keyA)
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		file := filepath.Join(dir, "good")
		p, l := newPast(t, keys), snapshot.NewLastGood(file, rapid.Int64Range(0, 4000).Draw(rt, "compact above"))
		do := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		do(l.Replace(keys, p.give))
		defer func() { do(l.Close()) }()
		move := func(epoch catalog.Epoch) snapshot.Delta {
			token, name := rapid.StringMatching(`[a-e]`).Draw(rt, "token"), rapid.SampledFrom([]string{"", "x", "<&\u2028\"", strings.Repeat("long", 100)}).Draw(rt, "name")
			return p.move(epoch, token, name)
		}
		var last snapshot.Beat // since the file was made anew
		reopen := func() {
			do(l.Close())
			v, beat, err := l.Read(keys)
			do(err)
			if !beat.Equal(last) {
				rt.Fatalf("the last beat is %+v, want %+v", beat, last)
			}
			p.holds(rt, "reopened", v)
			if v.Position() != p.head.Position {
				rt.Fatalf("read up to %s, want %s", v.Position(), p.head.Position)
			}
			served := map[string]bool{}
			for _, token := range strings.Split("a b c d e first", " ") {
				if _, ok := v.Key(token); ok {
					served[catalog.HashToken(token)] = true
				}
			}
			want := map[string]bool{}
			for key := range p.docs[catalog.KindKey] {
				want[key] = true
			}
			if !maps.Equal(served, want) {
				rt.Fatalf("it holds %v, want %v", served, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				var deltas []snapshot.Delta
				for range rapid.IntRange(1, 4).Draw(rt, "deltas") {
					deltas = append(deltas, move(p.head.Position.Epoch))
				}
				do(l.Append(deltas...))
			},
			"replace": func(rt *rapid.T) {
				move(p.head.Position.Epoch + 1)
				last = snapshot.Beat{}
				do(l.Replace(keys, p.give))
			},
			"beat": func(rt *rapid.T) {
				b := snapshot.Beat{Store: "s", Position: p.head.Position,
					At: time.Unix(rapid.Int64Range(1e9, 2e9).Draw(rt, "at"), 0).UTC()}
				keys.SignBeat(&b)
				do(l.Note(b))
				last = b
			},
			"reopen": func(*rapid.T) { reopen() },
			"tear": func(rt *rapid.T) { // what comes after the fsynced end is no more than lost
				text, err := os.ReadFile(file)
				do(err)
				torn := move(p.head.Position.Epoch)
				do(l.Append(torn))
				longer, err := os.ReadFile(file)
				do(err)
				if !bytes.HasPrefix(longer, text) { // it was compacted: there is nothing to tear
					return
				}
				do(os.Truncate(file, int64(rapid.IntRange(len(text), len(longer)-1).Draw(rt, "cut"))))
				do(l.Close())
				v, _, err := l.Read(keys)
				do(err)
				p.holds(rt, "torn", v)
				if v.Position() != torn.From {
					rt.Fatalf("read up to %s, want %s", v.Position(), torn.From)
				}
				do(l.Append(torn))
			},
		})
		reopen()
	})
}
