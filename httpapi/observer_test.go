package httpapi_test

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
)

// observed is what an observer was told.
type observed struct {
	mu       sync.Mutex
	requests []request
	decoded  atomic.Pointer[logbuf.Decoded]
}

type request struct {
	Route  string
	Status int
}

func (o *observed) Request(route string, status int, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if took < 0 {
		status = -1
	}
	o.requests = append(o.requests, request{route, status})
}

func (o *observed) Ingest(d logbuf.Decoded) { o.decoded.Store(&d) }

// Routes, not paths, are what metrics are labelled with: there are not endless
// many of them.
func TestObserver(t *testing.T) {
	o := &observed{}
	s := newService(t, ezapi.Config{},
		&httpapi.Options{Observer: o, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("up 1\n"))
		})})
	s.do(viewer, "GET", "/keys/5", nil)
	s.do(viewer, "HEAD", "/keys", nil)
	s.do(nobody, "POST", "/keys", nil)
	s.do(balancer, "POST", "/logs", "{}")
	s.do(nobody, "GET", "/nothing/at/all", nil)
	s.do(nobody, "DELETE", "/keys", nil)
	if got := s.must(http.StatusOK, viewer, "GET", "/metrics", nil).body; got != "up 1\n" {
		t.Errorf("metrics %q", got)
	}
	want := []request{
		{"GET /keys/{id}", 404}, {"GET /keys", 200}, {"POST /keys", 401}, {"POST /logs", 202}, {"other", 404},
		{"other", 405}, {"GET /metrics", 200},
	}
	if diff := cmp.Diff(want, o.requests); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	for _, r := range want {
		if r.Route != "other" && !slices.Contains(s.api.(*httpapi.Handler).Routes(), r.Route) {
			t.Errorf("%s is not among the routes", r.Route)
		}
	}
}
