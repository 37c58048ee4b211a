package storagetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// RelayHarness is what [RunRelay] needs: a publisher, and what somebody can do who may
// write to its data, and holds no sync key.
type RelayHarness struct {
	// Catalog keeps the truth. It is empty.
	Catalog catalog.Store
	// Publisher is where it is published. Nothing was published there yet.
	Publisher snapshot.Publisher
	// Meddler writes to the publisher's data.
	Meddler Meddler
}

// Meddler reads and writes a publisher's data beside the publisher.
type Meddler interface {
	// Head returns the fields of the head as they are kept, nil for none.
	Head(t testing.TB) snapshot.Fields
	// SetHead puts fields in place of all that there are; nil takes the head away.
	SetHead(t testing.TB, f snapshot.Fields)
	// Doc returns a document, nil for none.
	Doc(t testing.TB, k catalog.Kind, key string) []byte
	// SetDoc writes a document; nil takes it away.
	SetDoc(t testing.TB, k catalog.Kind, key string, doc []byte)
	// Drop takes away all documents of a kind.
	Drop(t testing.TB, k catalog.Kind)
	// Stray puts something into the history that follows what is published.
	Stray(t testing.TB)
	// Strayed reports whether anything does.
	Strayed(t testing.TB) bool
	// Save keeps everything that there is, and returns what puts it back.
	Save(t testing.TB) (restore func())
}

// Mistyper is a [Meddler] of an engine whose keys have types.
type Mistyper interface {
	// Mistyped returns, by what it is, what puts something of another type in place of each key.
	Mistyped(t testing.TB) map[string]func()
}

// RunRelay tests that relays over the publisher and the catalog mend whatever
// is spoilt, that publishing goes on, and that no reader that verifies takes a set of documents
// that was not published at its position. It takes about half a minute.
func RunRelay(t *testing.T, open func(t testing.TB) RelayHarness) {
	for _, c := range relayCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			keys := relayKeys
			if c.keys != "" {
				keys = c.keys
			}
			c.test(t, newTown(t, open(t), keys))
		})
	}
	for _, keys := range []string{relayKeys, ""} {
		for _, spoilt := range spoiltFields {
			if keys == "" && spoilt.keyedOnly {
				continue
			}
			t.Run(fmt.Sprintf("spoilt %s keys %v", spoilt.name, keys != ""), func(t *testing.T) {
				t.Parallel()
				testSpoiltHead(t, newTown(t, open(t), keys), spoilt)
			})
		}
	}
}

var relayCases = []struct {
	name string
	test func(t *testing.T, w *town)
	keys string // defaults to relayKeys
}{
	{"a revoked key stays revoked", testRevokedStays, ""},
	{"a forged provider is not signed", testForgedProvider, ""},
	{"a document that was removed beforehand is in the delta", testRemovedBeforehand, ""},
	{"documents are mended at their position", testMended, ""},
	{"documents that cannot be named are mended", testUnnameable, ""},
	{"a stray in the history", testStray, ""},
	{"a stray in the history while nothing changes", testStrayAtRest, ""},
	{"absurd reports", testAbsurdReports, ""},
	{"a balancer that is ahead is overtaken once", testOvertaken, ""},
	{"an old state is put back", testOldState, ""},
	{"an old epoch is put back", testOldEpoch, ""},
	{"a forged beat", testForgedBeat, ""},
	{"everything is gone", testAllGone, ""},
	{"two relays", testTwoRelays, ""},
	{"keys of another type", testMistyped, ""},
	{"a sync key that was given up is put back", testOldSyncKey, rotatedKeys},
	{"a newer version's old epoch is put back", testOldRenderer, ""},
	{"an old epoch with many more documents is put back", testOldAbundance, ""},
	{"another catalog with other sync keys", testAnotherCatalog, ""},
}

const relayKeys = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// mends is within what time whatever is spoilt is mended, on a machine that
// has other things to do.
const mends = 14 * time.Second

// town is a catalog with a relay that runs, and a reader that looks all the
// time and verifies.
type town struct {
	RelayHarness
	tables *catalog.Tables
	keys   *snapshot.Keys
	relay  *snapshot.Relay
	log    *slog.Logger
	stop   func()

	mu    sync.Mutex
	taken []takenSet
}

// takenSet is what a reader that verifies has taken.
type takenSet struct {
	head snapshot.Head
	docs map[string]string
}

func newTown(t *testing.T, h RelayHarness, keyList string) *town {
	keys, err := snapshot.ParseKeys(keyList)
	if err != nil {
		t.Fatal(err)
	}
	w := &town{RelayHarness: h, keys: keys, log: slog.New(slog.DiscardHandler)}
	w.tables = catalog.NewTables(h.Catalog, catalog.NewRandomKeyRing(), nil)
	w.relay = w.newRelay()
	for i := range 15 {
		w.create(t, fmt.Sprint("other ", i))
	}
	w.sync(t)
	w.stop = inBackground(t, w.relay.Run)
	inBackground(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			w.look(ctx)
			time.Sleep(50 * time.Millisecond)
		}
		return nil
	})
	return w
}

func (w *town) newRelay() *snapshot.Relay {
	return snapshot.NewRelay(w.tables, w.Publisher, &snapshot.RelayOptions{Keys: w.keys, Logger: w.log})
}

func inBackground(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func (w *town) create(t testing.TB, name string) catalog.Key {
	t.Helper()
	k, err := w.tables.Keys.Create(t.Context(), catalog.Key{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *town) sync(t testing.TB) snapshot.Head {
	t.Helper()
	head, err := w.relay.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func (w *town) revision(t testing.TB) (head catalog.Head) {
	t.Helper()
	err := w.Catalog.Read(context.Background(), func(r catalog.Reader) error { head = r.Head(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// look loads as a reader does that verifies, and keeps what it takes.
func (w *town) look(ctx context.Context) (takenSet, error) {
	l := &verifier{keys: w.keys}
	err := w.Publisher.Load(ctx, l)
	got := takenSet{l.head, l.docs}
	if err == nil {
		w.mu.Lock()
		w.taken = append(w.taken, got)
		w.mu.Unlock()
	}
	return got, err
}

// everTaken calls fn with every set that a reader has taken.
func (w *town) everTaken(fn func(takenSet)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, set := range w.taken {
		fn(set)
	}
}

// sound waits until a reader takes what the catalog holds, and a change after
// that is published.
func (w *town) sound(t testing.TB, what string) {
	t.Helper()
	check := func() error {
		got, err := w.look(t.Context())
		if err != nil {
			return err
		}
		at := w.revision(t)
		if got.head.Position != (snapshot.Position{Epoch: at.Epoch, Revision: at.Revision}) {
			return fmt.Errorf("published is %s, the catalog is at %d-%d", got.head.Position, at.Epoch, at.Revision)
		}
		if n := len(got.docs); n != w.documents(t) {
			return fmt.Errorf("%d documents, want %d", n, w.documents(t))
		}
		return nil
	}
	until(t, what, check)
	w.create(t, "afterwards")
	until(t, what+", and publishing goes on", check)
}

// documents returns how many there should be: here there are keys, models with
// their bindings, and providers.
func (w *town) documents(t testing.TB) int {
	keys, err1 := w.tables.Keys.List(t.Context(), catalog.Query{})
	models, err2 := w.tables.Models.List(t.Context(), catalog.Query{})
	providers, err3 := w.tables.Providers.List(t.Context(), catalog.Query{})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return len(keys) + 2*len(models) + len(providers)
}

func until(t testing.TB, what string, check func() error) {
	t.Helper()
	start, err := time.Now(), error(nil)
	for err = check(); err != nil; err = check() {
		if time.Since(start) > mends {
			t.Fatalf("%s: not within %s: %v", what, mends, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// verifier is a loader that verifies everything.
type verifier struct {
	keys *snapshot.Keys
	head snapshot.Head
	docs map[string]string
}

func (v *verifier) Begin(snapshot.Head) ([]catalog.Kind, error) {
	v.docs = map[string]string{}
	return snapshot.Kinds(), nil
}

func (v *verifier) Add(changes []snapshot.Change) error {
	for _, c := range changes {
		if name := string(c.Kind) + "/" + c.Key; c.Doc == nil {
			delete(v.docs, name)
		} else {
			v.docs[name] = string(c.Doc)
		}
	}
	return nil
}

func (v *verifier) End(head snapshot.Head) error {
	v.head = head
	if err := v.keys.VerifyHead(head); err != nil {
		return err
	}
	keys, err := v.keys.Activate(head.Seal)
	if err != nil {
		return err
	}
	counts, sums := snapshot.Counts{}, map[catalog.Kind]snapshot.Digest{}
	for name, doc := range v.docs {
		kind, key, _ := strings.Cut(name, "/")
		k := catalog.Kind(kind)
		counts[k]++
		sums[k] = sums[k].Add(keys.Hash(k, key, []byte(doc)))
	}
	if !counts.Equal(head.Counts) {
		return fmt.Errorf("counts: %w", snapshot.ErrCorrupt)
	}
	for kind, digest := range head.Digest {
		if keys.Digest(kind, sums[kind]) != digest {
			return fmt.Errorf("digest of %s: %w", kind, snapshot.ErrCorrupt)
		}
	}
	return nil
}

type spoiltField struct {
	name      string
	spoil     func(f snapshot.Fields)
	keyedOnly bool // cannot be told without keys
}

func setField(name, value string) func(snapshot.Fields) {
	return func(f snapshot.Fields) { f[name] = value }
}

var spoiltFields = []spoiltField{
	{"format", setField("format", "77"), false},
	{"format missing", func(f snapshot.Fields) { delete(f, "format") }, false},
	{"store", setField("store", "somebody"), false},
	{"epoch at the end", setField("epoch", strconv.Itoa(math.MaxInt64)), false},
	{"epoch beyond the end", setField("epoch", "9223372036854775808"), false},
	{"epoch negative", setField("epoch", "-1"), false},
	{"epoch tomorrow", setField("epoch", strconv.FormatInt(time.Now().Unix()+3600, 10)), false},
	{"epoch of old", setField("epoch", "7"), false},
	{"revision at the end", setField("revision", strconv.Itoa(math.MaxInt64)), false},
	{"revision ahead", setField("revision", "1000"), false},
	{"revision of old", setField("revision", "3"), false},
	{"revision no number", setField("revision", "three"), false},
	{"mark", setField("mark", strings.Repeat("0", 32)), false},
	{"mark short", setField("mark", "0"), false},
	{"counts", setField("counts", `{"bindings":0,"keys":1099511627776,"models":0,"providers":0}`), false},
	{"counts no JSON", setField("counts", "{"), false},
	{"digest", func(f snapshot.Fields) { f["digest"] = strings.Replace(f["digest"], `":"`, `":"0000`, 1) }, false},
	{"digest of zeros", func(f snapshot.Fields) {
		f["digest"] = fmt.Sprintf(`{"bindings":"%064d","keys":"%064d","models":"%064d","providers":"%064d"}`, 0, 0, 0, 0)
	}, false},
	{"seal", setField("seal", "zz"), false},
	{"renderer newer", setField("renderer", strconv.Itoa(snapshot.Renderer+1)), false},
	{"renderer older", setField("renderer", "0"), false},
	{"renderer huge", setField("renderer", "99999999999999999999"), false},
	{"updated_at", setField("updated_at", "2999-01-01T00:00:00Z"), false},
	{"updated_at no time", setField("updated_at", "soon"), false},
	{"forced", setField("forced", "2"), false},
	{"sig", setField("sig", strings.Repeat("0", 64)), false},
	{"sig empty", setField("sig", ""), true}, // it is, without keys
	{"a name that is none", setField("Name=", "x"), false},
	{"a field more", setField("more", "x"), false},
	{"a huge field", setField("more", strings.Repeat("x", 1<<20)), false},
	{"no field at all", func(f snapshot.Fields) { clear(f) }, false},
	{"only one field", func(f snapshot.Fields) { clear(f); f["store"] = "x" }, false},
}

// testSpoiltHead: each field that is spoilt is mended, without commits that pile up.
func testSpoiltHead(t *testing.T, w *town, spoilt spoiltField) {
	before := w.revision(t)
	f := w.Meddler.Head(t)
	spoilt.spoil(f)
	w.Meddler.SetHead(t, f)
	w.sound(t, "after "+spoilt.name)
	if at := w.revision(t); at.Revision-before.Revision > 3 { // two new epochs at the most, and what sound creates
		t.Errorf("%d revisions were made of it", at.Revision-before.Revision)
	}
	if at := w.revision(t); int64(at.Epoch) > time.Now().Add(25*time.Hour).Unix() {
		t.Errorf("the epoch went to %d", at.Epoch)
	}
	w.everTaken(func(set takenSet) {
		if w.keys != nil && set.head.Store != before.Store {
			t.Errorf("a reader took a set of store %q", set.head.Store)
		}
	})
	if s := w.relay.Status(); s.LastError != "" {
		t.Errorf("status afterwards: %+v", s)
	}
}

func same(a, b map[string]string) bool { return maps.Equal(a, b) }
