package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/metrics"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

const admin = "admin-token-0123456789abcdef0123456789"

// A service is a plane with its API, which is scraped as Prometheus does.
type service struct {
	t     testing.TB
	plane *ezapi.Plane
	api   http.Handler
}

func newService(t testing.TB, config ezapi.Config) *service {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	plane, err := ezapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close(context.Background()) })
	c := metrics.New(plane)
	registry := prometheus.NewPedanticRegistry() // refuses what was not described
	registry.MustRegister(c)
	return &service{t, plane, httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{admin}}),
		&httpapi.Options{
			Logger: config.Logger, Observer: c, Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		})}
}

func (s *service) do(method, path, body string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+admin)
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	return w
}

// scrape returns every sample by its name with its labels.
func (s *service) scrape() map[string]float64 {
	s.t.Helper()
	w := s.do("GET", "/metrics", "")
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		s.t.Fatalf("status %d, %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		samples[line[:at]] = v
	}
	return samples
}

// shows checks that there are samples, by their names without ezapi_.
func (s *service) shows(want map[string]float64) {
	s.t.Helper()
	all := s.scrape()
	got := map[string]float64{}
	for name := range want {
		if v, ok := all["ezapi_"+name]; ok {
			got[name] = v
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("samples (-want +got):\n%s", diff)
	}
	if all["ezapi_logs_accepted_total"] != all["ezapi_logs_stored_total"]+all["ezapi_logs_duplicate_total"]+
		all["ezapi_logs_dead_total"]+
		all["ezapi_logs_damaged_total"]+all["ezapi_logs_pending"] {
		s.t.Errorf("the log counters do not add up: %v", all)
	}
}

func (s *service) sync() snapshot.Head {
	s.t.Helper()
	head, err := s.plane.Sync(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return head
}

func TestCatalogRelayAndNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, ezapi.Config{})
		s.shows(map[string]float64{
			"catalog_revision": 0, "published_revision": 0, "published_epoch": 0, `published_documents{kind="keys"}`: 0, "publisher_up": 1,
			`nodes{state="applied"}`: 0, `nodes{state="lagging"}`: 0, `nodes{state="lost"}`: 0, "nodes_lag_revisions": 0,
			"nodes_behind_seconds": 0, "relay_failing": 0, "relay_idle_seconds": 0,
		})
		for i := range 3 {
			s.do("POST", "/models", fmt.Sprintf(`{"name":"m%d"}`, i))
		}
		s.do("POST", "/keys", `{"name":"k"}`)
		first := s.sync() // the new epoch is a revision of its own
		report := func(name string, at snapshot.Position, problem string) {
			n := snapshot.Node{ID: name, Position: at, Store: first.Store, Kinds: snapshot.Kinds(), Error: problem}
			if _, err := s.plane.Publisher().Report(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		report("lost", first.Position, "whatever")
		time.Sleep(16 * time.Second)
		s.do("POST", "/models", `{"name":"m3"}`)
		s.do("POST", "/models", `{"name":"m4"}`)
		last := s.sync()
		report("a", last.Position, "")
		report("b", last.Position, "")
		report("c", first.Position, "the digest is wrong")
		time.Sleep(2 * time.Second)
		s.shows(map[string]float64{
			"catalog_revision": 7, "published_revision": 7, "published_epoch": float64(last.Position.Epoch),
			`published_documents{kind="keys"}`: 1, `published_documents{kind="models"}`: 5, `published_documents{kind="bindings"}`: 5, `published_documents{kind="providers"}`: 0,
			`nodes{state="applied"}`: 2, `nodes{state="lagging"}`: 1, `nodes{state="lost"}`: 1,
			"nodes_lag_revisions": 2, "nodes_failing": 1, "nodes_behind_seconds": 0,
			"relay_deltas_total": 1, "relay_replaces_total": 1, "relay_documents_total": 7 +
				4, "relay_failing": 0, "relay_idle_seconds": 2,
		})
		time.Sleep(10 * time.Second)
		s.shows(map[string]float64{"nodes_behind_seconds": 10})
	})
}

func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mode atomic.Value // of the sink
		mode.Store("stores")
		s := newService(t, ezapi.Config{
			Logs: logbuf.Options{Capacity: 7},
			LogSink: sinkFunc(func(_ context.Context, b logbuf.Batch) (logbuf.Result, error) {
				switch n := len(b.Entries); mode.Load() {
				case "stores":
					return logbuf.Result{Stored: n}, nil
				case "knows":
					return logbuf.Result{Duplicate: n}, nil
				}
				return logbuf.Result{}, errors.New("down")
			}),
		})
		flush := func() {
			if err := s.plane.Logs().Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.do("POST", "/logs", `[{},{"colour":1},{"status":"x"},{"key_id":-1},{"key_id":-2},{"ts":"2001-01-01T00:00:00Z"}]`)
		s.do("POST", "/logs", `[{"model":"`+strings.Repeat("m", 2000)+`","user_agent":"\u0000"}]`)
		flush()
		mode.Store("knows")
		s.do("POST", "/logs", `{}`)
		flush()
		mode.Store("is down")
		s.do("POST", "/logs", `[{},{}]`)
		s.do("POST", "/logs", `[{},{},{},{},{},{}]`) // does not fit
		time.Sleep(30 * time.Second)
		got := s.scrape()
		if got["ezapi_logs_retries_total"] < 1 {
			t.Errorf("retries: %v", got["ezapi_logs_retries_total"])
		}
		s.shows(map[string]float64{
			"logs_accepted_total": 6, "logs_stored_total": 3, "logs_duplicate_total": 1, "logs_dead_total": 0,
			"logs_damaged_total": 0, "logs_pending": 2,
			`logs_rejected_total{reason="type"}`: 1, `logs_rejected_total{reason="value"}`: 2, `logs_rejected_total{reason="time"}`: 1, `logs_rejected_total{reason="malformed"}`: 0,
			"logs_unknown_fields_total": 1, "logs_strings_cut_total": 1, "logs_strings_replaced_total": 1,
			"logs_refused_total": 6, "logs_capacity": 7,
			"logs_failing": 1, "logs_paused": 0, "logs_oldest_pending_seconds": 30, "logs_spool_bytes": 0,
			"logs_spool_syncs_total": 0,
			`http_request_duration_seconds_count{route="POST /logs",status="202"}`: 4, `http_request_duration_seconds_count{route="POST /logs",status="429"}`: 1,
		})
		s.shows(map[string]float64{"logs_full": 0})
		s.do("POST", "/logs", `[{},{},{},{},{}]`) // the last that fit
		s.shows(map[string]float64{"logs_pending": 7, "logs_full": 1})
		mode.Store("stores")
		flush()
		s.shows(map[string]float64{"logs_stored_total": 10, "logs_pending": 0, "logs_full": 0, "logs_failing": 0,
			"logs_oldest_pending_seconds": 0})
	})
}

func TestSpool(t *testing.T) {
	s := newService(t, ezapi.Config{Logs: logbuf.Options{Dir: t.TempDir(), SpoolMax: 64 << 20}})
	s.do("POST", "/logs", `{}`)
	s.shows(map[string]float64{"logs_accepted_total": 1, "logs_spool_max_bytes": 64 << 20, "logs_spool_broken": 0,
		"logs_full": 0})
	got := s.scrape()
	for _, name := range []string{"logs_spool_bytes", "logs_spool_segments", "logs_spool_syncs_total",
		"logs_spool_sync_seconds_total"} {
		if got["ezapi_"+name] <= 0 {
			t.Errorf("%s is %v", name, got["ezapi_"+name])
		}
	}
}

// While the publisher is down there is nothing to say about it, and all else is said.
func TestPublisherDown(t *testing.T) {
	pub := &publisher{Publisher: memstore.NewPublisher()}
	s := newService(t, ezapi.Config{Publisher: pub})
	s.do("POST", "/models", `{"name":"m"}`)
	s.sync()
	s.shows(map[string]float64{"publisher_up": 1, "published_revision": 2, "relay_failing": 0})
	pub.down.Store(true)
	s.do("POST", "/models", `{"name":"n"}`)
	if _, err := s.plane.Sync(t.Context()); err == nil {
		t.Fatal("no error")
	}
	s.shows(map[string]float64{"publisher_up": 0, "relay_failing": 1, "logs_accepted_total": 0})
	for name := range s.scrape() {
		if strings.HasPrefix(name, "ezapi_published") || strings.HasPrefix(name, "ezapi_nodes") {
			t.Errorf("%s is shown", name)
		}
	}
}

// Every name has the prefix, counters and nothing else end in _total, and all say what they are.
func TestNames(t *testing.T) {
	s := newService(t, ezapi.Config{})
	s.do("GET", "/nothing", "")
	kinds, helps := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(s.do("GET", "/metrics", "").Body.String()) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# TYPE "):
			kinds[fields[2]] = fields[3]
		case strings.HasPrefix(line, "# HELP ") && len(fields) > 4:
			helps[fields[2]] = true
		}
	}
	if len(kinds) < 35 {
		t.Errorf("only %d metrics", len(kinds))
	}
	for name, kind := range kinds {
		if !strings.HasPrefix(name, "ezapi_") || strings.HasSuffix(name, "_total") != (kind == "counter") || !helps[name] {
			t.Errorf("%s %s, help %v", kind, name, helps[name])
		}
	}
}

type sinkFunc func(context.Context, logbuf.Batch) (logbuf.Result, error)

func (f sinkFunc) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) { return f(ctx, b) }

// A publisher can be down.
type publisher struct {
	snapshot.Publisher
	down atomic.Bool
}

func (p *publisher) Head(ctx context.Context) (snapshot.Head, error) {
	if p.down.Load() {
		return snapshot.Head{}, errors.New("connection refused")
	}
	return p.Publisher.Head(ctx)
}
