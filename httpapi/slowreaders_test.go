package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// largeArchive answers with pages of some 8 MB, and remembers which.
type largeArchive struct {
	*memstore.Sink
	mu    sync.Mutex
	pages []weak.Pointer[logbuf.Entry]
	err   error
}

const largeEntries = 1000

func (a *largeArchive) Logs(context.Context, logbuf.LogQuery) (logbuf.LogPage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	text := strings.Repeat("x", 8<<10)
	entries := make([]logbuf.Entry, largeEntries)
	for i := range entries {
		entries[i] = logbuf.Entry{ID: uuid.New(), Error: text}
	}
	a.pages = append(a.pages, weak.Make(&entries[0]))
	return logbuf.LogPage{Entries: entries}, a.err
}

func (a *largeArchive) held() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pages {
		if p.Value() != nil {
			n++
		}
	}
	return n
}

// deafClient reads nothing of its answer, until its connection is closed.
type deafClient struct {
	*httptest.ResponseRecorder
	closed chan struct{}
	once   *sync.Once
}

func (c deafClient) Write([]byte) (int, error) {
	<-c.closed
	return 0, os.ErrDeadlineExceeded
}

func (c deafClient) SetWriteDeadline(at time.Time) error {
	if !at.IsZero() && !at.After(time.Now()) {
		c.once.Do(func() { close(c.closed) })
	}
	return nil
}

// However many clients ask for large answers and do not read them, what is held for them is bounded;
// beyond it a client is told to come again, and gets its answer once the slow ones had their time. The
// entries themselves are let go of before anything is sent, and small answers are always given.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive := &largeArchive{Sink: memstore.NewSink(nil)}
		s := newService(t, ezapi.Config{LogSink: archive},
			&httpapi.Options{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(make([]byte, 8<<20))
			})})
		const clients = 12
		var closed sync.WaitGroup
		var deaf []deafClient
		for range clients {
			c := deafClient{httptest.NewRecorder(), make(chan struct{}), new(sync.Once)}
			deaf = append(deaf, c)
			closed.Go(func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/logs?limit=1000", nil)
				r.Header.Set("Authorization", "Bearer "+viewer)
				s.api.ServeHTTP(c, r)
			})
			synctest.Wait()
		}
		served := 0
		for _, c := range deaf {
			if c.Code == http.StatusOK {
				served++
			} else if c.Code != http.StatusServiceUnavailable {
				t.Errorf("status %d, want 200 or 503", c.Code)
			}
		}
		if served < 2 || served > 8 {
			t.Errorf("%d of %d answers of 8 MB are held, want a few", served, clients)
		}
		runtime.GC()
		if n := archive.held(); n > 0 {
			t.Errorf("the entries of %d answers are held while nobody reads", n)
		}
		a := s.do(viewer, "GET", "/logs", nil)
		a.problem(t, http.StatusServiceUnavailable, "crowded")
		if a.Header.Get("Retry-After") != "5" {
			t.Errorf("Retry-After %q, want 5", a.Header.Get("Retry-After"))
		}
		for _, path := range []string{"/healthz", "/keys", "/usage"} {
			s.must(http.StatusOK, viewer, "GET", path, nil)
		}
		if a := s.must(http.StatusOK, nobody, "GET", "/openapi.json", nil); a.ContentLength >= 0 {
			t.Error("the OpenAPI document is held for each of its readers")
		}
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
					t.Errorf("an answer that had begun, without room for the rest: %v, want that it is cut off", got)
				}
			}()
			s.do(viewer, "GET", "/metrics", nil)
		}()
		time.Sleep(6 * time.Second)
		a = s.must(http.StatusOK, viewer, "GET", "/logs", nil)
		if n := len(a.object(t)["data"].([]any)); n != largeEntries || a.ContentLength != int64(len(a.body)) {
			t.Errorf("%d entries in %d bytes of %d; want all", n, len(a.body), a.ContentLength)
		}
		archive.err = logbuf.ErrUnavailable
		s.do(viewer, "GET", "/logs", nil).problem(t, http.StatusServiceUnavailable, "unavailable")
		for _, c := range deaf {
			_ = c.SetWriteDeadline(time.Now())
		}
		closed.Wait()
	})
}

// What a handler has written before it panics is not sent, unless it was flushed: then all that is left
// is to cut the answer off.
func TestPanicInTheAnswer(t *testing.T) {
	flush := false
	s := newService(t, ezapi.Config{},
		&httpapi.Options{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("half"))
			if flush {
				_ = http.NewResponseController(w).Flush()
			}
			panic(errors.New("a secret"))
		})})
	a := s.do(viewer, "GET", "/metrics", nil)
	a.problem(t, http.StatusInternalServerError, "internal")
	if strings.Contains(a.body, "half") || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("%v, %s", a.Header, a.body)
	}
	flush = true
	defer func() {
		if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
			t.Errorf("recovered %v, want http.ErrAbortHandler", got)
		}
	}()
	s.do(viewer, "GET", "/metrics", nil)
	t.Error("no panic")
}
