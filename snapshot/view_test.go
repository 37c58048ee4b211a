package snapshot_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func TestAuthenticate(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	key := func(with func(*snapshot.KeyDoc)) func(testing.TB) *snapshot.View {
		return func(t testing.TB) *snapshot.View { return mustView(t, keyDoc(t, "token", with)) }
	}
	nets := key(func(k *snapshot.KeyDoc) { k.AllowIPs = []string{"192.0.2.0/24", "2001:db8::1"} })
	for _, tc := range []struct {
		name  string
		view  func(testing.TB) *snapshot.View
		token string
		addr  string
		want  error
	}{
		{"active", key(nil), "token", "192.0.2.1", nil},
		{"no address known, none asked for", key(nil), "token", "", nil},
		{"unknown", key(nil), "Token", "192.0.2.1", snapshot.ErrUnknownToken},
		{"empty", key(nil), "", "192.0.2.1", snapshot.ErrUnknownToken},
		{"disabled", key(func(k *snapshot.KeyDoc) { k.Status = catalog.Disabled }), "token", "192.0.2.1",
			snapshot.ErrKeyDisabled},
		{"a status of a later version", key(func(k *snapshot.KeyDoc) { k.Status = "paused" }), "token", "192.0.2.1",
			snapshot.ErrKeyDisabled},
		{"disabled comes before expired", key(
			func(k *snapshot.KeyDoc) { k.Status, k.ExpiresAt = catalog.Disabled, now.Add(-1) }), "token", "",
			snapshot.ErrKeyDisabled},
		{"expires later", key(func(k *snapshot.KeyDoc) { k.ExpiresAt = now.Add(time.Nanosecond) }), "token", "", nil},
		{"expires now", key(func(k *snapshot.KeyDoc) { k.ExpiresAt = now }), "token", "", snapshot.ErrKeyExpired},
		{"in a network", nets, "token", "192.0.2.200", nil},
		{"in a network, written as v6", nets, "token", "::ffff:192.0.2.200", nil},
		{"an address", nets, "token", "2001:db8::1", nil},
		{"an address with a zone", nets, "token", "2001:db8::1%eth0", nil},
		{"outside", nets, "token", "192.0.3.1", snapshot.ErrAddress},
		{"outside, v6", nets, "token", "2001:db8::2", snapshot.ErrAddress},
		{"no address known, although some are asked for", nets, "token", "", snapshot.ErrAddress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var addr netip.Addr
			if tc.addr != "" {
				addr = netip.MustParseAddr(tc.addr)
			}
			key, err := tc.view(t).Authenticate(tc.token, addr, now)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if known := tc.want != snapshot.ErrUnknownToken; known != (key != nil) {
				t.Errorf("key %v", key)
			}
		})
	}
}

// sealedProvider is provider 7, its secret sealed as for d.
func sealedProvider(t testing.TB, keys *snapshot.Keys, data string, d snapshot.ProviderDoc) snapshot.Document {
	t.Helper()
	d.SealedAPIKey = keys.Seal("secret", data)
	return doc(t, fmt.Sprint(d.ID), d)
}

// sealedFor is the additional data of a provider's api_key.
func sealedFor(id int64, kind, baseURL, project, location string) string {
	return strings.Join([]string{fmt.Sprintf("provider/%d/api_key", id), kind, baseURL, project, location, "{}"}, "\x00")
}

func TestLoadViewVerifies(t *testing.T) {
	keys := mustKeys(t, keyA)
	data := sealedFor(7, "openai", "https://api.example", "p", "l")
	p7 := snapshot.ProviderDoc{ID: 7, Name: "p", Type: "openai", BaseURL: "https://api.example", GoogleProject: "p",
		GoogleLocation: "l", Weight: 1}
	good := func() *edition {
		return newEdition(keys, keyDoc(t, "a", nil), keyDoc(t, "b", nil), sealedProvider(t, keys, data, p7))
	}
	v, err := loadView(t, good(), keys)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := v.Provider(7)
	if !ok || p.APIKey.Reveal() != "secret" || p.SealedAPIKey != "" {
		t.Errorf("provider %+v", p)
	}
	if text := fmt.Sprintf("%+v %#v", p, p); containsAny(text, "secret\"", "enc:v1") || !containsAny(text, "[secret]") {
		t.Errorf("the provider prints its secret: %s", text)
	}

	moved := func(with func(*snapshot.ProviderDoc)) func(*edition) {
		return func(e *edition) {
			p := p7
			with(&p)
			e.put(snapshot.Change(sealedProvider(t, keys, data, p)))
			e.sign() // by whoever holds the digest and signature keys
		}
	}
	a, b := catalog.HashToken("a"), catalog.HashToken("b")
	for _, tc := range []struct {
		name  string
		spoil func(*edition)
		keys  *snapshot.Keys
		want  error
	}{
		{"a document changed", func(e *edition) { e.docs["keys"][a] = append(e.docs["keys"][a], ' ') }, keys,
			snapshot.ErrCorrupt},
		{"a document missing", func(e *edition) { delete(e.docs["keys"], a) }, keys, snapshot.ErrCorrupt},
		{"a document too many", func(e *edition) { e.put(keyPut(t, "c")) }, keys, snapshot.ErrCorrupt},
		{"documents under each other's key", func(e *edition) {
			e.docs["keys"][a] = []byte(`{"id":1,"namespaces":["x"],"default_namespace":"x"}`)
		}, keys, snapshot.ErrCorrupt},
		{"one document in the place of another", func(e *edition) { e.put(keyPut(t, "c")); delete(e.docs["keys"], b) },
			keys, snapshot.ErrCorrupt},
		{"a number of documents that is not right", func(e *edition) {
			e.head.Counts[catalog.KindKey]++
			e.keys.SignHead(&e.head) // the digests are right
		}, keys, snapshot.ErrCorrupt},
		{"a head that nobody signed", func(e *edition) {
			e.head.Position.Revision++
			e.head, _ = snapshot.ParseHead(unsigned(e.head))
		}, keys, snapshot.ErrCorrupt},
		{"a head of another position under its signature", func(e *edition) {
			f := e.head.Fields()
			f["revision"] = "2"
			e.head, _ = snapshot.ParseHead(f)
		}, keys, snapshot.ErrCorrupt},
		{"a head that names no key", func(e *edition) { e.keys = nil; e.sign() }, keys, catalog.ErrSealed},
		{"a document that cannot be read", func(e *edition) {
			e.put(snapshot.Change{Kind: catalog.KindModel, Key: "a.b", Doc: []byte(`{}`)})
			e.sign()
		}, keys, snapshot.ErrCorrupt},
		{"a document that is not JSON", func(e *edition) {
			e.put(snapshot.Change{Kind: catalog.KindModel, Key: "a.b", Doc: []byte(`{`)})
			e.sign()
		}, keys, snapshot.ErrCorrupt},
		{"a secret of another provider", moved(func(p *snapshot.ProviderDoc) { p.ID = 8 }), keys, catalog.ErrSealed},
		{"a secret that would go to another address",
			moved(func(p *snapshot.ProviderDoc) { p.BaseURL = "https://evil.example" }), keys, catalog.ErrSealed},
		{"a secret that would go to another type", moved(func(p *snapshot.ProviderDoc) { p.Type = "compatible" }), keys,
			catalog.ErrSealed},
		{"a secret that would go to another project", moved(func(p *snapshot.ProviderDoc) { p.GoogleProject = "evil" }),
			keys, catalog.ErrSealed},
		{"a secret that would go to another location", moved(func(p *snapshot.ProviderDoc) { p.GoogleLocation = "evil" }),
			keys, catalog.ErrSealed},
		{"no keys", func(*edition) {}, nil, catalog.ErrSealed},
		{"other keys", func(*edition) {}, mustKeys(t, keyB), catalog.ErrSealed},
		{"a format of a later version", func(e *edition) { e.head.Format = 2; e.sign() }, keys, snapshot.ErrFormat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := good()
			tc.spoil(e)
			if _, err := loadView(t, e, tc.keys); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// unsigned returns the fields of a head that was changed after it was signed.
func unsigned(h snapshot.Head) snapshot.Fields {
	sig := h.Sig
	mustNoKeys := (*snapshot.Keys)(nil)
	seal := h.Seal
	mustNoKeys.SignHead(&h)
	f := h.Fields()
	f["sig"], f["seal"] = sig, seal
	return f
}

// What a later version adds is covered by the signature, and otherwise nobody's business here.
func TestLoadViewIgnoresWhatItDoesNotKnow(t *testing.T) {
	keys := mustKeys(t, keyA)
	e := newEdition(keys, keyDoc(t, "a", nil), snapshot.Document{Kind: "teams", Key: "1", Doc: []byte("?")})
	f := e.head.Fields()
	f["of_the_future"] = "a=b"
	e.head, _ = snapshot.ParseHead(f)
	if _, err := loadView(t, e, keys); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("a field that was not signed: %v", err)
	}
	e.sign()
	v, err := loadView(t, e, keys)
	if err != nil {
		t.Fatal(err)
	}
	// The kind is not counted or summed by this version, in a delta either.
	w := e.next(snapshot.Change{Kind: "teams", Key: "2", Doc: []byte("??")}, keyPut(t, "b"))
	if v, err = snapshot.Applied(v, w, keys); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Key("b"); !ok {
		t.Error("the delta was not applied")
	}
	// A kind that the head does not count has no documents, whatever there is.
	none := newEdition(keys, keyDoc(t, "a", nil))
	delete(none.head.Counts, catalog.KindModel)
	delete(none.head.Digest, catalog.KindModel)
	keys.SignHead(&none.head)
	none.put(snapshot.Change(doc(t, "d.m", snapshot.ModelDoc{Namespace: "d", Name: "m"})))
	if v, err = loadView(t, none, keys); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Model("d", "m"); ok {
		t.Error("a model is served that the head does not count")
	}
}

// Documents that come again, and that are taken away, while a source replays.
func TestLoaderReplays(t *testing.T) {
	e := newEdition(nil, keyDoc(t, "a", nil), keyDoc(t, "b", nil))
	first := *e
	l := snapshot.NewLoader(nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.Begin(first.head)
	must(err)
	must(l.Add([]snapshot.Change{keyPut(t, "void")}))
	_, err = l.Begin(first.head) // what came before is void
	must(err)
	must(l.Add(e.all(snapshot.Kinds()...)))
	must(l.Add(e.all(snapshot.Kinds()...)))
	d := e.next(keyGone("a"), keyPut(t, "c"))
	must(l.Add(d.Changes[:1])) // half of what was published meanwhile
	if err := l.End(first.head); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Fatalf("half a publish: %v", err)
	}
	must(l.Add(d.Changes))
	must(l.End(d.Head))
	if v := l.View(); v.Position() != d.Head.Position || v.Head().Counts[catalog.KindKey] != 2 {
		t.Errorf("head %+v", v.Head())
	}
}

// Documents that were hashed under one sync key are not those of a head under another.
func TestLoadAcrossARotation(t *testing.T) {
	older := newEdition(mustKeys(t, keyA), keyDoc(t, "a", nil))
	newer := newEdition(mustKeys(t, keyB), keyDoc(t, "a", nil))
	l := snapshot.NewLoader(mustKeys(t, keyA+","+keyB))
	kinds, err := l.Begin(older.head)
	if err == nil {
		err = l.Add(older.all(kinds...))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.End(newer.head); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("End = %v, want ErrCorrupt", err)
	}
}

// A load over a view shares the documents that are as they were.
func TestLoadSharesDocuments(t *testing.T) {
	e := newEdition(nil, keyDoc(t, "a", nil), keyDoc(t, "b", nil))
	before, err := loadView(t, e, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.next(snapshot.Change(keyDoc(t, "b", func(k *snapshot.KeyDoc) { k.Name = "renamed" })))
	after, err := snapshot.Reloaded(before, e.give)
	if err != nil {
		t.Fatal(err)
	}
	a1, _ := before.Key("a")
	a2, _ := after.Key("a")
	b2, _ := after.Key("b")
	if a1 != a2 || b2.Name != "renamed" {
		t.Errorf("a is shared: %t, b is %q", a1 == a2, b2.Name)
	}
}

func TestViewLookups(t *testing.T) {
	v := mustView(t, keyDoc(t, "token", nil),
		doc(t, "7", snapshot.ProviderDoc{ID: 7, Name: "p", Weight: 1, SealedAPIKey: "clear"}),
		doc(t, "ns.a.b", snapshot.ModelDoc{Namespace: "ns", Name: "a.b", PricesDoc: snapshot.PricesDoc{InputPrice: usd(5)}}),
		doc(t, "ns.a.b", snapshot.BindingDoc{Namespace: "ns", PublicModel: "a.b", Status: "disabled"}))
	sum := sha256.Sum256([]byte("token"))
	if k, ok := v.KeyByHash(hex.EncodeToString(sum[:])); !ok || k.Name != "k" {
		t.Errorf("key %+v", k)
	}
	if _, ok := v.KeyByHash("no hash"); ok {
		t.Error("a key under no hash")
	}
	if m, ok := v.Model("ns", "a.b"); !ok || *m.InputPrice != 5 {
		t.Errorf("model %+v", m)
	}
	if _, ok := v.Model("ns.a", "b"); ok {
		t.Error("namespace and name are only joined")
	}
	if b, ok := v.Binding("ns", "a.b"); !ok || b.Status != "disabled" {
		t.Errorf("binding %+v", b)
	}
	models, providers := 0, 0
	for range v.AllModels() {
		models++
	}
	for p := range v.Providers() {
		providers++
		if p.APIKey.Reveal() != "clear" {
			t.Error("a secret in clear text is not there")
		}
	}
	if models != 1 || providers != 1 {
		t.Errorf("%d models, %d providers", models, providers)
	}
	if v.Head().Counts[catalog.KindKey] != 1 || v.Position() != (snapshot.Position{Epoch: 1, Revision: 1}) {
		t.Errorf("head %+v", v.Head())
	}
}

// manyKeys returns a View of n typical keys and their tokens.
func manyKeys(t testing.TB, n int) (*snapshot.View, []string) {
	t.Helper()
	docs, tokens := make([]snapshot.Document, n), make([]string, n)
	for i := range n {
		tokens[i] = fmt.Sprintf("ez-%043d%06d", i, i)
		docs[i] = keyDoc(t, tokens[i], func(k *snapshot.KeyDoc) {
			k.ID, k.Name, k.RPMLimit, k.ExpiresAt = int64(i+1), fmt.Sprintf("customer %d", i), 600, time.Date(2030, 1, 1, 0,
				0, 0, 0, time.UTC)
		})
	}
	return mustView(t, docs...), tokens
}

func TestKeyAllocatesNothing(t *testing.T) {
	v, tokens := manyKeys(t, 100)
	addr, now := netip.MustParseAddr("192.0.2.1"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := v.Authenticate(tokens[i%len(tokens)], addr, now); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Keys that have the same labels share them, and keys that have not do not.
func TestKeysShareLabels(t *testing.T) {
	label := func(labels map[string]string) func(*snapshot.KeyDoc) {
		return func(k *snapshot.KeyDoc) { k.Labels = labels }
	}
	v := mustView(t,
		keyDoc(t, "a", label(map[string]string{"team": "x"})), keyDoc(t, "b", label(map[string]string{"team": "x"})),
		keyDoc(t, "c", label(map[string]string{"team": "y"})), keyDoc(t, "d", label(map[string]string{"te": "amx"})),
		keyDoc(t, "e", label(map[string]string{"a": "b", "c": "d"})), keyDoc(t, "f",
			label(map[string]string{"a": "b\x00c\x00d"})),
		keyDoc(t, "g", nil))
	for token, want := range map[string]string{
		"a": "map[team:x]", "b": "map[team:x]", "c": "map[team:y]", "d": "map[te:amx]",
		"e": "map[a:b c:d]", "f": "map[a:b\x00c\x00d]", "g": "map[]",
	} {
		if k, _ := v.Key(token); fmt.Sprint(k.Labels) != want {
			t.Errorf("%s has %v, want %s", token, k.Labels, want)
		}
	}
	a, _ := v.Key("a")
	b, _ := v.Key("b")
	if reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("equal labels are not shared")
	}
}
