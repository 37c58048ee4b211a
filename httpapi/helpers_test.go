package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
)

// The tokens of the tests.
const (
	admin    = "admin-token-0123456789abcdef0123456789"
	viewer   = "viewer-token-0123456789abcdef012345678"
	balancer = "balancer-token-0123456789abcdef0123456"
	nobody   = ""
)

// A service is an API in memory, asked without a network.
type service struct {
	t     testing.TB
	plane *ezapi.Plane
	api   http.Handler
	log   *logged
}

func newService(t testing.TB, config ezapi.Config, opts *httpapi.Options) *service {
	t.Helper()
	s := &service{t: t, log: &logged{}}
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config.Logger = logger
	plane, err := ezapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close(context.Background()) })
	o := httpapi.Options{}
	if opts != nil {
		o = *opts
	}
	o.Logger = logger
	s.plane = plane
	s.api = httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{admin}, Viewer: []string{viewer},
		Balancer: []string{balancer}}), &o)
	return s
}

// logged is what was logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// An answer is a response that was read.
type answer struct {
	*http.Response
	body string
}

// do sends a request with headers: name, value, name, value… A body that is no
// text is sent as JSON.
func (s *service) do(token, method, path string, body any, headers ...string) answer {
	s.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	case io.Reader:
		reader = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, path, reader)
	if token != nobody {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	resp := w.Result()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.Header.Get("X-Request-ID") == "" {
		s.t.Errorf("%s %s: no X-Request-ID", method, path)
	}
	return answer{resp, string(text)}
}

// must is do, which has to be answered with the status.
func (s *service) must(status int, token, method, path string, body any, headers ...string) answer {
	s.t.Helper()
	a := s.do(token, method, path, body, headers...)
	if a.StatusCode != status {
		s.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.StatusCode, status, a.body)
	}
	return a
}

// object is JSON, read or to be written.
type object = map[string]any

func (a answer) object(t testing.TB) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(a.body), &o); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return o
}

// A problem is a problem document.
type problem struct {
	Type, Title, Detail string
	Status              int
	RequestID           string `json:"request_id"`
	Errors              []struct{ Field, Message string }
}

// problem reads an answer that has to be a problem of the kind.
func (a answer) problem(t testing.TB, status int, slug string) problem {
	t.Helper()
	var p problem
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("status %d, content type %q, want a problem: %s", a.StatusCode, got, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != status || p.Status != status || p.Type != "urn:ezapi:"+slug || p.Title == "" ||
		p.RequestID != a.Header.Get("X-Request-ID") {
		t.Errorf("status %d, %s; want %d, %s", a.StatusCode, a.body, status, slug)
	}
	return p
}

// fields returns the names of the fields that a problem names.
func (p problem) fields() (names []string) {
	for _, e := range p.Errors {
		names = append(names, e.Field)
	}
	return names
}

// shows checks that got has these fields.
func shows(t testing.TB, got, want object) {
	t.Helper()
	for name, v := range want {
		if diff := cmp.Diff(v, got[name]); diff != "" {
			t.Errorf("field %s (-want +got):\n%s", name, diff)
		}
	}
}

// number writes a number that JSON brought.
func number(v any) string {
	f, _ := v.(float64)
	return strconv.FormatInt(int64(f), 10)
}

// keeper seals with a key of its own.
func keeper() catalog.Keeper { return catalog.NewRandomKeyRing() }

// A brokenStore fails whatever is asked of it, or panics.
type brokenStore struct {
	err    error
	panics any
}

func (s *brokenStore) fail() error {
	if s.panics != nil {
		panic(s.panics)
	}
	return s.err
}

func (s *brokenStore) Read(context.Context, func(catalog.Reader) error) error { return s.fail() }

func (s *brokenStore) Commit(context.Context, catalog.Commit) (catalog.Revision, error) {
	return 0, s.fail()
}
func (s *brokenStore) NextIDs(context.Context, int) (int64, error) { return 0, s.fail() }

func (s *brokenStore) Wait(ctx context.Context, _ catalog.Revision) (catalog.Revision, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}
