package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/client"
)

const (
	admin  = "admin-token-0123456789abcdef0123456789"
	viewer = "viewer-token-0123456789abcdef012345678"
)

// A service is a plane behind its API, and what comes between for the tests.
type service struct {
	plane   *ezapi.Plane
	url     string
	between atomic.Pointer[func(w http.ResponseWriter, r *http.Request, api http.Handler)]
}

func newService(t *testing.T) *service {
	t.Helper()
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{plane: plane}
	api := httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{admin}, Viewer: []string{viewer}}), nil)
	server := httptest.NewServer(http.StripPrefix("/gateway",
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if between := s.between.Load(); between != nil {
				(*between)(w, r, api)
				return
			}
			api.ServeHTTP(w, r)
		})))
	t.Cleanup(func() {
		server.Close()
		_ = plane.Close(context.Background())
	})
	s.url = server.URL + "/gateway"
	return s
}

func (s *service) client(t *testing.T, token string) *client.Client {
	t.Helper()
	c, err := client.New(s.url, token, &client.Options{Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// alike compares what came over HTTP with what the plane has: all but what is never shown.
func alike() cmp.Options {
	return cmp.Options{
		cmpopts.IgnoreFields(catalog.Provider{}, "APIKey"), cmpopts.IgnoreFields(catalog.Credential{}, "Token", "Tokens"),
		cmpopts.EquateEmpty(),
	}
}

// walk takes a noun through every call, and compares with the plane each time.
func walk[T catalog.Noun](t *testing.T, over client.Nouns[T], direct catalog.Table[T], v T, edit func(*T)) {
	t.Helper()
	ctx := t.Context()
	same := func(got T) {
		t.Helper()
		want := must[T](t)(direct.Get(ctx, direct.Meta(got).ID))
		if diff := cmp.Diff(want, got, alike()); diff != "" {
			t.Errorf("of the plane (-) and over HTTP (+):\n%s", diff)
		}
	}
	created := must[T](t)(over.Create(ctx, v))
	same(created)
	id := direct.Meta(created).ID
	same(must[T](t)(over.Get(ctx, id)))
	edited := must[T](t)(over.Edit(ctx, id, func(v *T) error { edit(v); return nil }))
	same(edited)
	if direct.Meta(edited).Revision == direct.Meta(created).Revision {
		t.Error("the edit has changed nothing")
	}
	if again := must[T](t)(over.Edit(ctx, id, func(v *T) error { edit(v); return nil })); direct.Meta(
		again).Revision != direct.Meta(edited).Revision {
		t.Error("the same edit again makes a revision")
	}
	same(must[T](t)(over.Patch(ctx, id, []byte(`{"external_id":"mine"}`))))
	put := must[T](t)(over.Get(ctx, id))
	same(must[T](t)(over.Put(ctx, put)))
	if n := must[int64](t)(over.Count(ctx, client.Query{ExternalID: "mine"})); n != 1 {
		t.Errorf("%d are found", n)
	}
	if err := over.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := over.Get(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("after Delete: %v", err)
	}
}

// Every noun goes over HTTP as it does in a plane.
func TestNouns(t *testing.T) {
	s := newService(t)
	c := s.client(t, admin)
	price := must[catalog.NanoUSD](t)(catalog.ParseUSD("0.100000001"))
	must[catalog.Model](t)(c.Models.Create(t.Context(), catalog.Model{Name: "bound"}))
	t.Run("providers", func(t *testing.T) {
		walk(t, c.Providers, s.plane.Providers, catalog.Provider{
			Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789abcdef"), Models: []string{"m"},
			Options: map[string]any{"a": "b", "c": map[string]any{"d": "e", "f": "g"}},
		}, func(p *catalog.Provider) {
			p.Priority, p.Models = 3, []string{"n", "o"}
			p.Options = map[string]any{"c": map[string]any{"d": "e"}}
		})
	})
	t.Run("models", func(t *testing.T) {
		m := catalog.Model{Name: "a/b.c", ContextWindow: 1 << 52,
			Meta: catalog.Meta{Labels: map[string]string{"a": "b", "c": "d"}}}
		m.InputPrice = &price
		walk(t, c.Models, s.plane.Models, m, func(m *catalog.Model) {
			m.ContextWindow, m.InputPrice, m.OutputPrice = 0, nil, &price
			delete(m.Labels, "a")
		})
	})
	t.Run("bindings", func(t *testing.T) {
		walk(t, c.Bindings, s.plane.Bindings, catalog.Binding{Model: "bound"},
			func(b *catalog.Binding) { b.RouteGroup = "vip" })
	})
	t.Run("keys", func(t *testing.T) {
		walk(t, c.Keys.Nouns, s.plane.Keys.Table, catalog.Key{
			Name: "k", Limits: catalog.Limits{RPMLimit: 5}, ExpiresAt: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		}, func(k *catalog.Key) { k.RPMLimit, k.ExpiresAt, k.Status = 0, time.Time{}, catalog.Disabled })
	})
	t.Run("projects", func(t *testing.T) {
		walk(t, c.Projects, s.plane.Projects, catalog.Project{
			Name: "acme", Models: []string{"m"}, MaxKeys: 5,
			Budgets: []catalog.Budget{{Limit: &price, Window: "day", AlertAt: []int64{80}}},
		}, func(p *catalog.Project) { p.Models, p.MaxKeys, p.Budgets[0].Action = nil, 0, "alert" })
	})
	t.Run("operators", func(t *testing.T) {
		walk(t, c.Operators.Nouns, s.plane.Operators.Table, catalog.Operator{Name: "o", Role: "viewer"},
			func(o *catalog.Operator) { o.Role, o.Status = "admin", catalog.Disabled })
	})
	t.Run("holds", func(t *testing.T) {
		key := must[catalog.Key](t)(c.Keys.Create(t.Context(), catalog.Key{Name: "held"}))
		walk(t, c.Holds, s.plane.Holds, catalog.Hold{Target: catalog.HoldTarget{KeyID: key.ID}.String(), Message: "stop"},
			func(h *catalog.Hold) { h.Message, h.Until = "", time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) })
	})
	stored := must[catalog.Provider](t)(c.Providers.Create(t.Context(), catalog.Provider{
		Name: "q", Type: "openai", APIKey: catalog.NewSecret("sk-fedcba9876543210"),
	}))
	must[catalog.Provider](t)(c.Providers.Edit(t.Context(), stored.ID,
		func(p *catalog.Provider) error { p.Priority = 1; return nil }))
	got := must[catalog.Provider](t)(s.plane.Providers.Get(t.Context(), stored.ID))
	if got.APIKey.Reveal() != "sk-fedcba9876543210" {
		t.Error("the api_key is not what was sent, or an edit has lost it")
	}
}

// Every noun has a table, and those with tokens show them.
func TestEveryNounHasATable(t *testing.T) {
	s := newService(t)
	c := s.client(t, admin)
	known := map[catalog.Kind]bool{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if table, ok := v.Field(i).Interface().(interface{ Kind() catalog.Kind }); ok {
			known[table.Kind()] = true
		}
	}
	for _, k := range catalog.Kinds() {
		if !known[k] {
			t.Errorf("the client has no table of %s", k)
		}
	}
	o := must[catalog.Operator](t)(c.Operators.Create(t.Context(), catalog.Operator{Name: "o", Role: "viewer"}))
	again := must[catalog.Operator](t)(c.Operators.Rotate(t.Context(), o.ID, 0))
	if !catalog.IsOperatorToken(o.Token.Reveal()) || !catalog.IsOperatorToken(again.Token.Reveal()) ||
		o.Token.Equal(again.Token) {
		t.Error("an operator has no token, or keeps it when it is rotated")
	}
}

func TestKeys(t *testing.T) {
	s := newService(t)
	c := s.client(t, admin)
	ctx := t.Context()
	key := must[catalog.Key](t)(c.Keys.Create(ctx, catalog.Key{Name: "k"}))
	if key.Token.IsZero() {
		t.Fatal("no token")
	}
	rotated := must[catalog.Key](t)(c.Keys.Rotate(ctx, key.ID, time.Minute))
	for _, token := range []catalog.Secret{key.Token, rotated.Token} {
		if got := must[catalog.Key](t)(c.Keys.Lookup(ctx, token)); got.ID != key.ID || !got.Token.IsZero() {
			t.Errorf("looked up: %+v", got)
		}
	}
	imported := must[catalog.Key](t)(c.Keys.Create(ctx,
		catalog.Key{Name: "i", Credential: catalog.Credential{Tokens: []catalog.TokenHash{{Hash: catalog.HashToken(
			"somebody's")}}}}))
	if got := must[catalog.Key](t)(c.Keys.Lookup(ctx, catalog.NewSecret("somebody's"))); got.ID != imported.ID {
		t.Errorf("the imported key: %+v", got)
	}
	if _, err := c.Keys.Lookup(ctx, catalog.NewSecret("nobody's")); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("a token of nobody's: %v", err)
	}
}

// Problems match the sentinels of a plane, and name fields.
func TestErrors(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	m := must[catalog.Model](t)(c.Models.Create(ctx, catalog.Model{Name: "m"}))
	must[catalog.Binding](t)(c.Bindings.Create(ctx, catalog.Binding{Model: "m"}))
	for name, tc := range map[string]struct {
		call func() error
		err  error
		text string
	}{
		"exists": {func() error { _, err := c.Models.Create(ctx, catalog.Model{Name: "m"}); return err },
			catalog.ErrExists, "name is taken"},
		"referenced": {func() error { return c.Models.Delete(ctx, m.ID) }, catalog.ErrReferenced, "refers"},
		"invalid": {func() error { _, err := c.Keys.Create(ctx, catalog.Key{}); return err }, catalog.ErrInvalid,
			"name is required"},
		"dangling": {func() error { _, err := c.Bindings.Create(ctx, catalog.Binding{Model: "x"}); return err },
			catalog.ErrInvalid, "model"},
		"precondition": {func() error { return c.Models.Delete(ctx, m.ID, client.IfMatch(99)) }, catalog.ErrConflict,
			"If-Match"},
		"not found": {func() error { _, err := c.Keys.Rotate(ctx, 99, 0); return err }, catalog.ErrNotFound, "404"},
		"forbidden": {func() error { return s.client(t, viewer).Models.Delete(ctx, m.ID) }, client.ErrForbidden,
			"role"},
		"unauthenticated": {func() error { _, err := s.client(t, "nobody's").Models.Get(ctx, 1); return err },
			client.ErrUnauthenticated, "401"},
		"ahead": {func() error { _, err := c.Changes(ctx, client.ChangesQuery{After: "99"}); return err },
			catalog.ErrCompacted, "410"},
	} {
		err := tc.call()
		if !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", name, err)
		}
		if e, ok := errors.AsType[*client.Error](err); !ok || e.RequestID == "" {
			t.Errorf("%s: no request id: %v", name, err)
		}
	}
	_, err := c.Providers.Create(ctx, catalog.Provider{Type: "none"})
	if fields, ok := errors.AsType[catalog.FieldErrors](err); !ok || len(fields) != 2 {
		t.Errorf("fields of %v", err)
	}
}

func TestWrites(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	var progress client.Progress
	var warnings []string
	tiny := catalog.NanoUSD(1)
	model := catalog.Model{Name: "m"}
	model.InputPrice = &tiny
	must[catalog.Model](t)(c.Models.Create(ctx, model, client.Wait(client.Applied, 5*time.Second, &progress),
		client.Warnings(&warnings)))
	if progress.Stage != client.Published || progress.Nodes != "applied=0 lagging=0 lost=0" || len(warnings) != 1 {
		t.Errorf("progress %+v, warnings %q", progress, warnings)
	}
	page := must[client.Page[catalog.Change]](t)(c.Changes(ctx, client.ChangesQuery{Kind: catalog.KindModel}))
	if len(page.Data) != 1 || page.Data[0].Action != catalog.ActionCreate || page.Next == "" {
		t.Errorf("changes %+v", page)
	}
	key := must[catalog.Key](t)(c.Keys.Create(ctx, catalog.Key{Name: "k"},
		client.Wait(client.Published, time.Second, nil)))
	if e := must[client.Explanation](t)(c.Explain(ctx, key.ID, "m")); e.Reachable || e.Reason == "" || len(e.Steps) == 0 {
		t.Errorf("explanation %+v", e)
	}
	for i := range 7 {
		must[catalog.Key](t)(c.Keys.Create(ctx,
			catalog.Key{Name: "all", Meta: catalog.Meta{ExternalID: string(rune('a' + i))}}))
	}
	n := 0
	for k, err := range c.Keys.All(ctx, client.Query{Name: "all", Limit: 3}) {
		if err != nil || k.Name != "all" {
			t.Fatal(k, err)
		}
		n++
	}
	if n != 7 {
		t.Errorf("All finds %d", n)
	}
}

// Two that edit at once both succeed, and neither undoes the other.
func TestEditRunsAgain(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	key := must[catalog.Key](t)(c.Keys.Create(ctx, catalog.Key{Name: "k"}))
	ran := 0
	edited := must[catalog.Key](t)(c.Keys.Edit(ctx, key.ID, func(k *catalog.Key) error {
		if ran++; ran == 1 {
			must[catalog.Key](t)(c.Keys.Patch(ctx, key.ID, []byte(`{"group":"vip"}`)))
		}
		k.Name = "renamed"
		return nil
	}))
	if ran != 2 || edited.Name != "renamed" || edited.Group != "vip" {
		t.Errorf("after %d runs: %+v", ran, edited)
	}
	mine := errors.New("mine")
	if _, err := c.Keys.Edit(ctx, key.ID, func(*catalog.Key) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the error of the edit: %v", err)
	}
}

// What may be sent again is, and nothing else.
func TestRetries(t *testing.T) {
	lost := func(w http.ResponseWriter, r *http.Request, api http.Handler) { // done, and the answer is lost
		api.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	refused := func(w http.ResponseWriter, r *http.Request, _ http.Handler) { // not done
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	away := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	unconfirmed := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { // it may be under way
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"type":"urn:ezapi:unconfirmed","status":503}`)
	}
	type fault = func(http.ResponseWriter, *http.Request, http.Handler)
	ctx := context.Background()
	for name, tc := range map[string]struct {
		fault fault
		times int64
		call  func(c *client.Client) error
		ok    bool
		sent  int64
	}{
		"reading, lost": {lost, 2, func(c *client.Client) error { _, err := c.Keys.Get(ctx, 1); return err },
			true, 3},
		"reading, away": {away, 3, func(c *client.Client) error { _, err := c.Keys.Get(ctx, 1); return err },
			true, 4},
		"reading, away for long": {away, 9, func(c *client.Client) error { _, err := c.Keys.Get(ctx, 1); return err },
			false, 4},
		"creating, lost": {lost, 1,
			func(c *client.Client) error { _, err := c.Keys.Create(ctx, catalog.Key{Name: "k"}); return err }, false, 1},
		"creating, away": {away, 1,
			func(c *client.Client) error { _, err := c.Keys.Create(ctx, catalog.Key{Name: "k"}); return err }, false, 1},
		"creating, refused": {refused, 2,
			func(c *client.Client) error { _, err := c.Keys.Create(ctx, catalog.Key{Name: "k"}); return err }, true, 3},
		"rotating, lost": {lost, 1,
			func(c *client.Client) error { _, err := c.Keys.Rotate(ctx, 1, 0); return err }, false, 1},
		"putting, lost": {lost, 1,
			func(c *client.Client) error { _, err := c.Models.Put(ctx, catalog.Model{Name: "m"}); return err }, true, 2},
		"putting what has a token, lost": {lost, 1,
			func(c *client.Client) error {
				_, err := c.Keys.Put(ctx, catalog.Key{Name: "k", Meta: catalog.Meta{ExternalID: "k"}})
				return err
			}, false, 1},
		"patching, lost":             {lost, 1, func(c *client.Client) error { _, err := c.Keys.Patch(ctx, 1, []byte(`{"group":"g"}`)); return err }, true, 2},
		"deleting, lost":             {lost, 1, func(c *client.Client) error { return c.Keys.Delete(ctx, 1) }, true, 2},
		"deleting what is not there": {away, 0, func(c *client.Client) error { return c.Keys.Delete(ctx, 99) }, false, 1},
		"deleting, unconfirmed": {unconfirmed, 1,
			func(c *client.Client) error { return c.Keys.Delete(ctx, 1) }, false, 1},
		"guarded, lost": {lost, 1,
			func(c *client.Client) error { return c.Keys.Delete(ctx, 1, client.IfMatch(1)) }, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			c := s.client(t, admin)
			must[catalog.Key](t)(c.Keys.Create(ctx, catalog.Key{Name: "first"}))
			var sent atomic.Int64
			between := func(w http.ResponseWriter, r *http.Request, api http.Handler) {
				if sent.Add(1) <= tc.times {
					tc.fault(w, r, api)
					return
				}
				api.ServeHTTP(w, r)
			}
			s.between.Store(&between)
			if err := tc.call(c); (err == nil) != tc.ok || sent.Load() != tc.sent {
				t.Errorf("sent %d times, want %d: %v", sent.Load(), tc.sent, err)
			}
		})
	}
	c := must[*client.Client](t)(client.New("http://127.0.0.1:1", admin, &client.Options{Backoff: time.Millisecond}))
	if _, err := c.Keys.Create(ctx, catalog.Key{Name: "k"}); err == nil || strings.Contains(err.Error(), admin) {
		t.Errorf("nobody is there: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Keys.Get(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, url := range []string{"", "ez.example.com", "ftp://ez.example.com", "https://",
		"https://ez.example.com/?a=b", "https://ez.example.com/#a"} {
		if _, err := client.New(url, admin, nil); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := client.New("https://ez.example.com", "token\n", nil); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a token with a line feed: %v", err)
	}
}
