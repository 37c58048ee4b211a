package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// slowArchive answers no question before its context ends, or a whole hour is over.
type slowArchive struct{ *memstore.Sink }

func waitForEnd(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Hour):
		return errors.New("the query had no end")
	}
}

func (slowArchive) Logs(ctx context.Context, _ logbuf.LogQuery) (logbuf.LogPage, error) {
	return logbuf.LogPage{}, waitForEnd(ctx)
}

func (slowArchive) Usage(ctx context.Context, _ logbuf.UsageQuery) (logbuf.UsagePage, error) {
	return logbuf.UsagePage{}, waitForEnd(ctx)
}

func (slowArchive) KeyUsage(ctx context.Context, _ map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	return nil, waitForEnd(ctx)
}

// Every query has a deadline, and ends with its client.
func TestQueriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, ezapi.Config{LogSink: slowArchive{memstore.NewSink(nil)}}, nil)
		s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k"})
		for _, c := range []struct {
			path   string
			status int
			after  time.Duration
		}{
			{"/logs", http.StatusServiceUnavailable, 30 * time.Second},
			{"/usage", http.StatusServiceUnavailable, 30 * time.Second},
			{"/keys", http.StatusOK, 5 * time.Second}, // without what they have used
			{"/keys/1", http.StatusOK, 5 * time.Second},
		} {
			begin := time.Now()
			s.must(c.status, viewer, "GET", c.path, nil)
			if took := time.Since(begin); took != c.after {
				t.Errorf("GET %s ended after %v; want %v", c.path, took, c.after)
			}
			begin = time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			request := httptest.NewRequestWithContext(ctx, http.MethodGet, c.path, nil)
			request.Header.Set("Authorization", "Bearer "+viewer)
			s.api.ServeHTTP(httptest.NewRecorder(), request)
			cancel()
			if took := time.Since(begin); took != time.Second {
				t.Errorf("GET %s ended %v after its client had left", c.path, took-time.Second)
			}
		}
	})
}

// crowdedArchive turns every query away.
type crowdedArchive struct{ *memstore.Sink }

func (crowdedArchive) Logs(context.Context, logbuf.LogQuery) (logbuf.LogPage, error) {
	return logbuf.LogPage{}, fmt.Errorf("read logs: %w", logbuf.ErrTooManyQueries)
}

func (crowdedArchive) Usage(context.Context, logbuf.UsageQuery) (logbuf.UsagePage, error) {
	return logbuf.UsagePage{}, fmt.Errorf("read usage: %w", logbuf.ErrTooManyQueries)
}

// A query that is turned away says why, and when to ask again; nobody is sent to look for a
// database that is fine.
func TestQueriesAreTurnedAway(t *testing.T) {
	s := newService(t, ezapi.Config{LogSink: crowdedArchive{memstore.NewSink(nil)}}, nil)
	for _, path := range []string{"/logs", "/usage"} {
		a := s.do(viewer, "GET", path, nil)
		p := a.problem(t, http.StatusServiceUnavailable, "crowded")
		if a.Header.Get("Retry-After") != "5" || !strings.Contains(p.Detail, "queries") ||
			strings.Contains(p.Detail, "database") {
			t.Errorf("GET %s: %s, Retry-After %q", path, p.Detail, a.Header.Get("Retry-After"))
		}
	}
}

// stuckWriter is a client of an answer that does not read on.
type stuckWriter struct {
	*httptest.ResponseRecorder
	until chan struct{}
}

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w.until
	return len(p), nil
}

// Exports that nobody reads on hold few connections: another waits for its turn, and is told when
// to come again.
func TestExportsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, ezapi.Config{}, nil)
		until := make(chan struct{})
		ended := make(chan struct{}, 2)
		for range cap(ended) {
			go func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/export", nil)
				r.Header.Set("Authorization", "Bearer "+admin)
				s.api.ServeHTTP(stuckWriter{httptest.NewRecorder(), until}, r)
				ended <- struct{}{}
			}()
		}
		synctest.Wait()
		begin := time.Now()
		a := s.do(admin, "GET", "/export", nil)
		a.problem(t, http.StatusServiceUnavailable, "crowded")
		if took := time.Since(begin); took != 10*time.Second || a.Header.Get("Retry-After") == "" {
			t.Errorf("turned away after %v, Retry-After %q; want 10s and a time", took, a.Header.Get("Retry-After"))
		}
		s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m"})
		close(until)
		<-ended
		<-ended
		s.must(http.StatusOK, admin, "GET", "/export", nil)
	})
}

// Logs are asked for by times, or by spans back from now.
func TestLogSpans(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 7, 30, 0, time.UTC)
	clock := func() time.Time { return now }
	sink := memstore.NewSink(&memstore.SinkOptions{Clock: clock})
	var entries []logbuf.Entry
	for _, ago := range []time.Duration{time.Minute, 89 * time.Minute, 91 * time.Minute, 6 * 24 * time.Hour} {
		entries = append(entries, logbuf.Entry{ID: uuid.New(), Time: now.Add(-ago), Status: 200})
	}
	if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: entries}); err != nil {
		t.Fatal(err)
	}
	s := newService(t, ezapi.Config{LogSink: sink, Clock: clock}, nil)
	for query, want := range map[string]int{
		"since=90m": 2, "since=1d": 3, "since=7d": 4, "since=1w&until=90m": 2, "since=5m": 1, "since=7m": 1, "": 3,
		"since=2026-03-14T10:37:00Z": 2,
	} {
		answer := s.must(http.StatusOK, viewer, "GET", strings.TrimSuffix("/logs?"+query, "?"), nil).object(t)
		if page := answer["data"].([]any); len(page) != want {
			t.Errorf("logs by %q: %d; want %d", query, len(page), want)
		}
	}
	for _, wrong := range []string{"1y", "0m", "-1d", "d", "1.5h", "yesterday", "99999999999999999999m", "999999w"} {
		p := s.do(viewer, "GET", "/logs?since="+wrong, nil).problem(t, http.StatusUnprocessableEntity, "invalid")
		if len(p.Errors) != 1 || p.Errors[0].Field != "since" || !strings.Contains(p.Errors[0].Message, "RFC 3339") ||
			!strings.Contains(p.Errors[0].Message, "90m") {
			t.Errorf("since=%s: %+v; want the rule of since", wrong, p.Errors)
		}
	}
}
