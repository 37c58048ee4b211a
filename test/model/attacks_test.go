package model

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// What somebody does who can write to the publisher's data and holds no sync key. Without sync keys nobody can tell
// a head that was forged well, so then heads are only spoilt.

func anyKind(r *rand.Rand) catalog.Kind {
	kinds := snapshot.Kinds()
	return kinds[r.IntN(len(kinds))]
}

// damage flips a bit of a published document, or takes it away.
func (w *world) damage(r *rand.Rand) error {
	kind := anyKind(r)
	key, doc := w.cache.document(kind)
	switch {
	case doc == nil:
	case r.IntN(3) == 0:
		w.cache.setDocument(kind, key, nil)
	default:
		doc[r.IntN(len(doc))] ^= 1
		w.cache.setDocument(kind, key, doc)
	}
	return nil
}

// replayDocument puts a document back that was published once, and remembers one for the next time.
func (w *world) replayDocument(r *rand.Rand) error {
	if w.oldDoc.Doc != nil {
		w.cache.setDocument(w.oldDoc.Kind, w.oldDoc.Key, w.oldDoc.Doc)
	}
	kind := anyKind(r)
	if key, doc := w.cache.document(kind); doc != nil {
		w.oldDoc = snapshot.Document{Kind: kind, Key: key, Doc: doc}
	}
	return nil
}

func (w *world) surplus(r *rand.Rand) error {
	for i := range 1 + r.IntN(20) {
		w.cache.setDocument(anyKind(r), fmt.Sprint("surplus-", i), []byte(`{"id":1}`))
	}
	return nil
}

// forgeHead changes one field.
func (w *world) forgeHead(r *rand.Rand) error {
	f := w.cache.fields()
	if len(f) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(f))
	name := names[r.IntN(len(names))]
	values := []string{"", "x", "-1", "nan", "\n", "99999999999999999999"}
	if w.keys != nil { // these may pass where nothing is signed
		values = append(values, "0", "1", "7", strconv.Itoa(math.MaxInt64), "somebody", "{}", `{"keys":0}`,
			fmt.Sprint(time.Now().Unix()+1_000_000), time.Now().UTC().Format(time.RFC3339Nano))
	}
	f = maps.Clone(f)
	f[name] = values[r.IntN(len(values))]
	if w.keys == nil &&
		(name == "sig" || name == "seal" || name == "store" || name == "mark" || name == "forced" || name == "renderer") {
		f[name] = "\n"
	}
	w.cache.setFields(f)
	return nil
}

// replayHead puts a head back that was published once, over the documents of today, and remembers this one.
func (w *world) replayHead(*rand.Rand) error {
	now := w.cache.fields()
	if w.oldHead != nil {
		w.cache.setFields(w.oldHead)
	}
	if len(now) > 0 {
		w.oldHead = maps.Clone(now)
	}
	return nil
}

func (w *world) forgeBeat(r *rand.Rand) error {
	beats := []string{
		"x", "{}", `{"position":"9223372036854775807-1","at":"2999-01-01T00:00:00Z","store":"s","seal":"k1","sig":"00"}`,
		string(
			snapshot.Beat{
				Store:    "s",
				Position: snapshot.Position{Epoch: 1, Revision: 1},
				At:       time.Unix(1, 0),
			}.Encode(),
		),
	}
	w.cache.setBeat(beats[r.IntN(len(beats))])
	return nil
}

// forgeReports reports what no balancer has applied, without a signature.
func (w *world) forgeReports(r *rand.Rand) error {
	if w.keys == nil {
		return nil // where nothing is signed, a report is believed
	}
	for i := range 1 + r.IntN(50) {
		_, _ = w.cache.Report(w.ctx, snapshot.Node{
			ID:       fmt.Sprint("forged-", r.IntN(100)),
			Position: snapshot.Position{Epoch: catalog.Epoch(r.Int64()), Revision: catalog.Revision(r.Int64())},
			Error:    "everything is wrong", Kinds: []catalog.Kind{"keys"}, Head: fmt.Sprint(i), Store: "somebody",
		})
	}
	return nil
}
