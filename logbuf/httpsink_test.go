package logbuf_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// receiver is a control plane's POST /logs.
type receiver struct {
	t       testing.TB
	decoder logbuf.Decoder
	answer  func(n int) (status int, header http.Header) // of the n-th request; status 0: take it

	mu       sync.Mutex
	requests int
	order    []string
	ids      map[uuid.UUID]int // how often each came
	bodies   []int             // entries a request
}

func serve(t testing.TB, r *receiver) (baseURL string, client *http.Client) {
	r.t, r.ids = t, make(map[uuid.UUID]int)
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s.URL + "/prefix/", s.Client()
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Method != http.MethodPost || req.URL.Path != "/prefix/logs" ||
		req.Header.Get("Authorization") != "Bearer token" {
		r.t.Errorf("request %s %s, Authorization %q", req.Method, req.URL, req.Header.Get("Authorization"))
	}
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			r.t.Error(err)
			return
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.requests++
	if r.answer != nil {
		if status, header := r.answer(r.requests); status != 0 {
			for k, v := range header {
				w.Header()[k] = v
			}
			w.WriteHeader(status)
			return
		}
	}
	if len(text) > logbuf.MaxBody {
		r.t.Errorf("a body of %d bytes", len(text))
	}
	got, err := r.decoder.Decode(text, req.Header.Get("Content-Type"))
	if err != nil {
		r.t.Error(err)
		return
	}
	r.bodies = append(r.bodies, len(got.Entries)+len(got.Rejected))
	if len(got.Entries) == 0 {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	for _, e := range got.Entries {
		if r.ids[e.ID]++; r.ids[e.ID] == 1 {
			r.order = append(r.order, e.RequestID)
		}
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]any{"accepted": len(got.Entries), "rejected": got.Rejected,
		"durability": "memory"})
}

func TestHTTPSinkShips(t *testing.T) {
	for _, zipped := range []bool{false, true} {
		t.Run(fmt.Sprintf("gzip=%v", zipped), func(t *testing.T) {
			r := &receiver{}
			baseURL, client := serve(t, r)
			sink := logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client, Gzip: zipped})
			o := disk(t.TempDir())
			o.BatchSize = 40
			q := mustOpen(t, sink, &o)
			mustAppend(t, q, entries(0, 100)...)
			mustClose(t, q)
			if diff := cmp.Diff(requestIDs(0, 100), r.order); diff != "" {
				t.Errorf("received (-want +got):\n%s", diff)
			}
			if s := q.Stats(); s.Stored != 100 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// A proxy that says 422 knows nothing about entries: they are sent again.
func TestHTTPSinkGivesUpOnlyWhatTheReceiverRefuses(t *testing.T) {
	r := &receiver{answer: func(n int) (int, http.Header) {
		if n <= 2 {
			return http.StatusUnprocessableEntity, http.Header{"Content-Type": {"text/html"}}
		}
		return 0, nil
	}}
	baseURL, client := serve(t, r)
	q := mustOpen(t, logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client}),
		&logbuf.Options{MinBackoff: time.Millisecond})
	mustAppend(t, q, entries(0, 5)...)
	mustClose(t, q)
	if s := q.Stats(); s.Stored != 5 || s.Dead != 0 || s.Retries != 2 {
		t.Errorf("%d stored, %d dead after %d retries; want all to be stored after 2", s.Stored, s.Dead, s.Retries)
	}
}

func TestHTTPSinkSendsTheSameIDsAgain(t *testing.T) {
	r := &receiver{}
	baseURL, client := serve(t, r)
	lossy := *client
	lossy.Transport = &losesAnswers{next: client.Transport, first: 3}
	q := mustOpen(t, logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: &lossy}),
		&logbuf.Options{MinBackoff: time.Millisecond})
	mustAppend(t, q, entries(0, 5)...)
	mustClose(t, q)
	if r.requests != 4 || len(r.ids) != 5 {
		t.Errorf("%d requests with %d ids, want 4 with the same 5", r.requests, len(r.ids))
	}
	client.CloseIdleConnections()
}

// losesAnswers cuts the connection after the request was served.
type losesAnswers struct {
	next  http.RoundTripper
	first int
}

func (l *losesAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err == nil && l.first > 0 {
		l.first--
		return nil, errors.Join(errDown, resp.Body.Close())
	}
	return resp, err
}

func TestHTTPSinkWaitsAsAsked(t *testing.T) {
	r := &receiver{answer: func(n int) (int, http.Header) {
		switch n {
		case 1:
			return http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}
		case 2:
			return http.StatusServiceUnavailable,
				http.Header{"Retry-After": {time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat)}}
		}
		return 0, nil
	}}
	baseURL, client := serve(t, r)
	q := mustOpen(t, logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client}),
		&logbuf.Options{MinBackoff: time.Millisecond})
	start := time.Now()
	mustAppend(t, q, entries(0, 5)...)
	mustClose(t, q)
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("sent again after %v, asked were 1 s and then about 2", took)
	}
	if s := q.Stats(); s.Stored != 5 || s.Retries != 2 || s.Paused {
		t.Errorf("stats %+v", s)
	}
}

func TestHTTPSinkAnswers(t *testing.T) {
	for _, tt := range []struct {
		status int
		paused bool
	}{
		{http.StatusBadRequest, true},
		{http.StatusUnauthorized, true},
		{http.StatusForbidden, true},
		{http.StatusNotFound, true},
		{http.StatusNoContent, true},
		{http.StatusRequestTimeout, false},
		{http.StatusTooManyRequests, false},
		{http.StatusInternalServerError, false},
		{http.StatusBadGateway, false},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			r := &receiver{answer: func(int) (int, http.Header) { return tt.status, nil }}
			baseURL, client := serve(t, r)
			_, err := logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client}).Write(t.Context(),
				logbuf.Batch{Entries: entries(0, 1)})
			if err == nil || errors.Is(err, logbuf.ErrPaused) != tt.paused || !strings.Contains(err.Error(),
				fmt.Sprint(tt.status)) {
				t.Errorf("error %v, want one with the status, ErrPaused: %v", err, tt.paused)
			}
		})
	}
	t.Run("another server", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>please log in</html>")
		}))
		defer s.Close()
		if _, err := logbuf.NewHTTPSink(s.URL, "token", &logbuf.HTTPOptions{Client: s.Client()}).Write(t.Context(),
			logbuf.Batch{Entries: entries(0, 1)}); err == nil {
			t.Error("a page that says 200 was taken for success")
		}
	})
	t.Run("a URL with a password", func(t *testing.T) {
		_, err := logbuf.NewHTTPSink("http://user:secret\x7f@host", "token", nil).Write(t.Context(),
			logbuf.Batch{Entries: entries(0, 1)})
		if err == nil || strings.Contains(err.Error(), "secret") || !errors.Is(err, logbuf.ErrPaused) {
			t.Errorf("error %v", err)
		}
	})
}

func TestHTTPSinkCountsTheRejectedAsDead(t *testing.T) {
	r := &receiver{}
	baseURL, client := serve(t, r)
	var dead []string
	sink := logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client,
		Dead: func(e logbuf.Entry, r logbuf.Rejection) {
			dead = append(dead, fmt.Sprintf("%s %s %s", e.RequestID, r.Field, r.Reason))
		}})
	q := mustOpen(t, sink, &logbuf.Options{BatchSize: 3})
	list := entries(0, 6)
	for _, i := range []int{1, 3, 4, 5} {
		list[i].Time = time.Now().Add(-30 * 24 * time.Hour) // too old
	}
	mustAppend(t, q, list...)
	mustClose(t, q)
	s := q.Stats()
	checkIdentity(t, s)
	if s.Stored != 2 || s.Dead != 4 {
		t.Errorf("stats %+v", s)
	}
	if diff := cmp.Diff([]string{"1 ts refused", "3  refused", "4  refused", "5  refused"}, dead); diff != "" {
		t.Errorf("dead (-want +got):\n%s", diff)
	}
}

// JSON knows no year beyond 9999, which is what milliseconds taken for seconds
// make. Such an entry must not keep the others waiting for ever.
func TestHTTPSinkBuriesWhatJSONCannotHold(t *testing.T) {
	r := &receiver{}
	baseURL, client := serve(t, r)
	var dead []string
	sink := logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client,
		Dead: func(e logbuf.Entry, r logbuf.Rejection) {
			dead = append(dead, fmt.Sprintf("%s %s %s", e.RequestID, r.Field, r.Reason))
		}})
	list := entries(0, 6)
	for i := range list {
		list[i].ID, list[i].Time = uuid.New(), time.Now()
	}
	list[0].Time, list[3].Time = time.Unix(time.Now().UnixMilli(), 0), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)
	got, err := sink.Write(t.Context(), logbuf.Batch{Entries: list})
	if err != nil || got.Stored != 4 || got.Dead != 2 {
		t.Errorf("result %+v, %v; want 4 stored and 2 dead", got, err)
	}
	if diff := cmp.Diff([]string{"1", "2", "4", "5"}, r.order); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0  time", "3  time"}, dead); diff != "" {
		t.Errorf("dead (-want +got):\n%s", diff)
	}
}

func TestHTTPSinkSplitsWhatIsTooLarge(t *testing.T) {
	t.Run("for the contract", func(t *testing.T) {
		r := &receiver{}
		baseURL, client := serve(t, r)
		list := entries(0, 2000)
		for i := range list {
			list[i].ID, list[i].Time, list[i].Error = uuid.New(), time.Now(), strings.Repeat("x", 8<<10)
		}
		got, err := logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: client}).Write(t.Context(),
			logbuf.Batch{Entries: list})
		if err != nil || got.Stored != 2000 || len(r.bodies) != 2 {
			t.Errorf("result %+v, %v in requests of %v", got, err, r.bodies)
		}
	})
	t.Run("for a proxy", func(t *testing.T) {
		const limit = 3000
		r := &receiver{}
		baseURL, client := serve(t, r)
		small := *client
		small.Transport = refuseLarge{client.Transport, limit}
		list := entries(0, 20)
		for i := range list {
			list[i].ID, list[i].Time = uuid.New(), time.Now()
		}
		list[7].Error = strings.Repeat("x", limit)
		got, err := logbuf.NewHTTPSink(baseURL, "token", &logbuf.HTTPOptions{Client: &small}).Write(t.Context(),
			logbuf.Batch{Entries: list})
		if err != nil || got.Stored != 19 || got.Dead != 1 {
			t.Errorf("result %+v, %v in requests of %v", got, err, r.bodies)
		}
	})
}

type refuseLarge struct {
	next  http.RoundTripper
	limit int64
}

func (p refuseLarge) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.ContentLength > p.limit {
		return &http.Response{StatusCode: http.StatusRequestEntityTooLarge, Body: http.NoBody, Request: req}, nil
	}
	return p.next.RoundTrip(req)
}

func TestHTTPSinkHeedsTheContext(t *testing.T) {
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer s.Close()
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := logbuf.NewHTTPSink(s.URL, "token", &logbuf.HTTPOptions{Client: s.Client()}).Write(ctx,
		logbuf.Batch{Entries: entries(0, 1)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}
