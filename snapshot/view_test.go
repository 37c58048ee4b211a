package snapshot_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// doc makes a document that is right.
func doc[T snapshot.Doc](t testing.TB, key string, v T) snapshot.Document {
	t.Helper()
	d, err := snapshot.Encode(key, v)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// keyDoc is a key in namespace "default" and group "default", changed by with.
func keyDoc(t testing.TB, token string, with func(*snapshot.KeyDoc)) snapshot.Document {
	t.Helper()
	k := snapshot.KeyDoc{ID: 1, Name: "k", Status: catalog.Active, Group: "default", Namespaces: []string{"default"}, DefaultNamespace: "default"}
	if with != nil {
		with(&k)
	}
	return doc(t, catalog.HashToken(token), k)
}

// whole makes a signed snapshot at revision 1 of epoch 1.
func whole(keys *snapshot.Keys, docs ...snapshot.Document) *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Head: snapshot.Head{Format: 1, Store: "s", Position: snapshot.Position{Epoch: 1, Revision: 1}, Mark: "m1", Counts: snapshot.Counts{}},
		Docs: docs,
	}
	for _, d := range docs {
		s.Head.Digest = s.Head.Digest.Add(keys.Hash(d.Kind, d.Key, d.Doc))
		s.Head.Counts[d.Kind]++
	}
	keys.Sign(&s.Head)
	return s
}

func mustView(t testing.TB, docs ...snapshot.Document) *snapshot.View {
	t.Helper()
	v, err := snapshot.NewView(whole(nil, docs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

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
		{"disabled", key(func(k *snapshot.KeyDoc) { k.Status = catalog.Disabled }), "token", "192.0.2.1", snapshot.ErrKeyDisabled},
		{"a status of a later version", key(func(k *snapshot.KeyDoc) { k.Status = "paused" }), "token", "192.0.2.1", snapshot.ErrKeyDisabled},
		{"disabled comes before expired", key(func(k *snapshot.KeyDoc) { k.Status, k.ExpiresAt = catalog.Disabled, now.Add(-1) }), "token", "", snapshot.ErrKeyDisabled},
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

func TestNewViewVerifies(t *testing.T) {
	keys := mustKeys(t, keyA)
	good := func() *snapshot.Snapshot {
		return whole(keys, keyDoc(t, "a", nil), keyDoc(t, "b", nil),
			doc(t, "7", snapshot.ProviderDoc{ID: 7, Name: "p", Weight: 1, SealedAPIKey: keys.Seal("secret", "provider/7/api_key")}))
	}
	v, err := snapshot.NewView(good(), keys)
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

	for _, tc := range []struct {
		name  string
		spoil func(*snapshot.Snapshot)
		keys  *snapshot.Keys
		want  error
	}{
		{"a document changed", func(s *snapshot.Snapshot) { s.Docs[0].Doc = append(s.Docs[0].Doc, ' ') }, keys, snapshot.ErrCorrupt},
		{"a document missing", func(s *snapshot.Snapshot) { s.Docs = s.Docs[1:] }, keys, snapshot.ErrCorrupt},
		{"a document twice", func(s *snapshot.Snapshot) { s.Docs[0] = s.Docs[1] }, keys, snapshot.ErrCorrupt},
		{"documents under each other's key", func(s *snapshot.Snapshot) {
			s.Docs[0].Key, s.Docs[1].Key = s.Docs[1].Key, s.Docs[0].Key
			s.Docs[0].Doc, s.Docs[1].Doc = []byte(`{"id":1,"namespaces":["x"],"default_namespace":"x"}`), s.Docs[0].Doc
		}, keys, snapshot.ErrCorrupt},
		{"counts that are not right", func(s *snapshot.Snapshot) { s.Head.Counts[catalog.KindKey]++ }, keys, snapshot.ErrCorrupt},
		{"a signature that is not right", func(s *snapshot.Snapshot) { s.Head.Position.Revision++ }, keys, snapshot.ErrCorrupt},
		{"a document that cannot be read", func(s *snapshot.Snapshot) {
			bad := snapshot.Document{Kind: catalog.KindModel, Key: "a.b", Doc: []byte(`{}`)}
			*s = *whole(keys, append(s.Docs, bad)...)
		}, keys, snapshot.ErrCorrupt},
		{"a secret of another provider", func(s *snapshot.Snapshot) {
			stolen := doc(t, "8", snapshot.ProviderDoc{ID: 8, Weight: 1, SealedAPIKey: keys.Seal("secret", "provider/7/api_key")})
			*s = *whole(keys, append(s.Docs, stolen)...)
		}, keys, catalog.ErrSealed},
		{"no keys", func(*snapshot.Snapshot) {}, nil, catalog.ErrSealed},
		{"other keys", func(*snapshot.Snapshot) {}, mustKeys(t, keyB), catalog.ErrSealed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := good()
			tc.spoil(s)
			if _, err := snapshot.NewView(s, tc.keys); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}

	t.Run("a format of a later version", func(t *testing.T) {
		s := good()
		s.Head.Format = 2
		if _, err := snapshot.NewView(s, keys); err == nil {
			t.Error("was read")
		}
	})
	t.Run("a kind of a later version", func(t *testing.T) {
		s := whole(keys, append(good().Docs, snapshot.Document{Kind: "teams", Key: "1", Doc: []byte("?")})...)
		if _, err := snapshot.NewView(s, keys); err != nil {
			t.Error(err)
		}
	})
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
	for range v.Models() {
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
			k.ID, k.Name, k.RPMLimit, k.ExpiresAt = int64(i+1), fmt.Sprintf("customer %d", i), 600, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
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
