package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// awayStore is a catalog whose database can be away.
type awayStore struct {
	catalog.Store
	away atomic.Bool
}

func (s *awayStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	if s.away.Load() {
		return catalog.ErrUnavailable
	}
	return s.Store.Read(ctx, fn)
}

// TestReadyOnceTheCatalogWasReached: a new server whose catalog cannot be reached stays out of
// rotation; one that has worked stays in it, because it still takes logs.
func TestReadyOnceTheCatalogWasReached(t *testing.T) {
	store := &awayStore{Store: memstore.New(nil)}
	store.away.Store(true)
	s := newService(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()}, nil)
	a := s.must(http.StatusServiceUnavailable, nobody, "GET", "/readyz", nil)
	for _, part := range []string{`"status":"unavailable"`, `"note":"not reached since the start"`} {
		if !strings.Contains(a.body, part) {
			t.Errorf("the answer lacks %s: %s", part, a.body)
		}
	}
	store.away.Store(false)
	s.must(http.StatusOK, nobody, "GET", "/readyz", nil)
	store.away.Store(true)
	if a := s.must(http.StatusOK, nobody, "GET", "/readyz", nil); !strings.Contains(a.body, `"status":"degraded"`) {
		t.Errorf("the answer is %s", a.body)
	}
	a = s.must(http.StatusServiceUnavailable, viewer, "GET", "/models", nil)
	if a.Header.Get("Retry-After") != "1" || !strings.Contains(a.body, "Retry-After") {
		t.Errorf("Retry-After %q: %s", a.Header.Get("Retry-After"), a.body)
	}
}

// TestReadyWhileLogsAreFull: whoever can read nothing and take no logs is not ready.
func TestReadyWhileLogsAreFull(t *testing.T) {
	store := &awayStore{Store: memstore.New(nil)}
	full := fullBuffer{}
	s := newService(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing(), LogBuffer: full}, nil)
	if status, note, whole := s.state("logs"); status != "failed" || whole != "degraded" ||
		!strings.Contains(note, "full") {
		t.Errorf("logs: %s, %q; all %s", status, note, whole)
	}
	store.away.Store(true)
	s.must(http.StatusServiceUnavailable, nobody, "GET", "/readyz", nil)
}

// A server that can be read stays in rotation, also where the database takes no writes and there is no room for logs.
// Who writes is told that it is not known what became of it, and not to wait and repeat.
func TestReadyWhileWritesFail(t *testing.T) {
	store := &unconfirmingStore{Store: memstore.New(nil)}
	s := newService(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing(), LogBuffer: fullBuffer{}}, nil)
	if status, note, _ := s.state("catalog_writes"); status != "ok" || note != "" {
		t.Errorf("before: %s, %q", status, note)
	}
	store.fails.Store(true)
	a := s.must(http.StatusServiceUnavailable, admin, "POST", "/keys", object{"name": "k"})
	if a.object(t)["type"] != "urn:ezapi:unconfirmed" || a.Header.Get("Retry-After") != "" {
		t.Errorf("Retry-After %q: %s", a.Header.Get("Retry-After"), a.body)
	}
	if status, note, whole := s.state("catalog_writes"); status != "failed" || whole != "degraded" ||
		!strings.Contains(note, "the last write failed") {
		t.Errorf("%s, %q; all %s", status, note, whole)
	}
	store.fails.Store(false)
	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k"})
	if status, note, _ := s.state("catalog_writes"); status != "ok" || note != "" {
		t.Errorf("after a write that works: %s, %q", status, note)
	}
}

// unconfirmingStore does not know what became of its commits.
type unconfirmingStore struct {
	catalog.Store
	fails atomic.Bool
}

func (s *unconfirmingStore) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if s.fails.Load() {
		return 0, catalog.ErrUnconfirmed
	}
	return s.Store.Commit(ctx, c)
}

// fullBuffer has no room on its disk.
type fullBuffer struct{}

func (fullBuffer) Append(context.Context, ...logbuf.Entry) error { return logbuf.ErrFull }
func (fullBuffer) Flush(context.Context) error                   { return nil }
func (fullBuffer) Close(context.Context) error                   { return nil }
func (fullBuffer) Stats() logbuf.Stats                           { return logbuf.Stats{Full: true} }

// state returns what readiness says of a check.
func (s *service) state(check string) (status, note, whole string) {
	s.t.Helper()
	body := s.must(http.StatusOK, nobody, "GET", "/readyz", nil).object(s.t)
	c := body["checks"].(object)[check].(object)
	status, _ = c["status"].(string)
	note, _ = c["note"].(string)
	return status, note, body["status"].(string)
}

// A check that does not heed its context holds nothing up, and is not called again meanwhile.
func TestACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		s := newService(t, ezapi.Config{}, &httpapi.Options{Checks: map[string]httpapi.Check{
			"slow": func(context.Context) (string, error) {
				if calls.Add(1) == 1 {
					<-release
				}
				return "", nil
			},
		}})
		for range 3 {
			began := time.Now()
			if status, _, whole := s.state("slow"); status != "failed" || whole != "degraded" {
				t.Errorf("the check is %s, the server %s", status, whole)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("readiness took %s", took)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("it was called %d times", n)
		}
		if log := s.log.String(); strings.Count(log, "a readiness check fails") != 1 ||
			!strings.Contains(log, "no answer within 2s") {
			t.Errorf("the log has: %s", log)
		}
		close(release)
		synctest.Wait()
		if status, _, whole := s.state("slow"); status != "ok" || whole != "ok" {
			t.Errorf("afterwards the check is %s, the server %s", status, whole)
		}
	})
}

// A check that panics fails, and ends nothing.
func TestACheckThatPanics(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{Checks: map[string]httpapi.Check{
		"broken": func(context.Context) (string, error) { panic("sk-in-a-panic-0123456789") },
	}})
	for range 2 {
		if status, _, whole := s.state("broken"); status != "failed" || whole != "degraded" {
			t.Errorf("the check is %s, the server %s", status, whole)
		}
	}
	log := s.log.String()
	if !strings.Contains(log, "health_test.go") || strings.Contains(log, "sk-in-a-panic") {
		t.Errorf("the log does not say where, or says the value: %s", log)
	}
}

// Secrets that no key of this server opens make it degraded, and the log says so once.
func TestSecretsThatCannotBeOpened(t *testing.T) {
	store := memstore.New(nil)
	first := newService(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()}, nil)
	first.must(http.StatusCreated, admin, "POST", "/providers",
		object{"name": "p", "type": "openai", "api_key": "sk-0123456789"})
	s := newService(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()}, nil)
	if _, err := s.plane.Reseal(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		status, note, whole := s.state("seals")
		if status != "failed" || whole != "degraded" || !strings.Contains(note, "1 provider secrets cannot be opened") {
			t.Errorf("seals are %s (%s), the server %s", status, note, whole)
		}
	}
	if n := strings.Count(s.log.String(), "check=seals"); n != 1 {
		t.Errorf("%d lines of the log say so: %s", n, s.log.String())
	}
}

// waitingBuffer takes everything, and stores nothing.
type waitingBuffer struct {
	fullBuffer
	stats atomic.Pointer[logbuf.Stats]
}

func (b *waitingBuffer) Stats() logbuf.Stats { return *b.stats.Load() }

// TestReadyWhileLogsAreNotStored: that the log store takes nothing is seen whatever engine it is. The server goes on.
func TestReadyWhileLogsAreNotStored(t *testing.T) {
	b := &waitingBuffer{}
	b.stats.Store(&logbuf.Stats{})
	s := newService(t, ezapi.Config{LogBuffer: b}, nil)
	long, lately := time.Now().Add(-time.Minute), time.Now()
	for name, c := range map[string]struct {
		stats logbuf.Stats
		want  string
	}{
		"nothing waits":    {logbuf.Stats{}, "ok"},
		"a slow batch":     {logbuf.Stats{OldestPending: long}, "ok"},
		"a passing fault":  {logbuf.Stats{LastError: "no space", OldestPending: lately}, "ok"},
		"a lasting fault":  {logbuf.Stats{LastError: "no space", OldestPending: long}, "failed"},
		"it needs mending": {logbuf.Stats{LastError: "no right", OldestPending: lately, Paused: true}, "failed"},
	} {
		b.stats.Store(&c.stats)
		if status, note, whole := s.state("log_store"); status != c.want || (whole == "degraded") != (c.want == "failed") {
			t.Errorf("%s: %s, %q; all %s; want %s", name, status, note, whole, c.want)
		}
	}
	s.must(http.StatusOK, nobody, "GET", "/readyz", nil)
}
