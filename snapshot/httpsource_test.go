package snapshot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// transport answers requests without a network, so that time can be a bubble's.
type transport func(r *http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(strings.NewReader(body))}
}

func over(f transport) *snapshot.HTTPSource {
	return snapshot.NewHTTPSource("http://control/", "token", &snapshot.HTTPOptions{Client: &http.Client{Transport: f}})
}

// silence is a body of which nothing ever comes.
type silence struct{ ctx context.Context }

func (s silence) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }
func (silence) Close() error               { return nil }

const lines = "application/x-ndjson"

// What a proxy, a wrong address or another program may answer is no snapshot, and not
// damage of what is published either.
func TestHTTPSourceRefusesAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer *http.Response
		want   error // nil for one that says nothing of what is published
		text   string
	}{
		{"a page", answer(200, "text/html", "<html>"), nil, `"text/html"`},
		{"no token", answer(401, "application/problem+json", `{"type":"urn:ezapi:unauthorized","detail":"no such token"}`), nil, "401"},
		{"a proxy's page", answer(502, "text/html", "<html>"), nil, "502"},
		{"nothing published", answer(404, "application/problem+json", `{"type":"`+snapshot.TypeUnpublished+`"}`), snapshot.ErrNone, ""},
		{"another 404", answer(404, "text/plain", "not found"), nil, "404"},
		{"no line", answer(200, lines, ""), snapshot.ErrCorrupt, "too early"},
		{"a line cut", answer(200, lines, `{"head":{`), snapshot.ErrCorrupt, "too early"},
		{"another line", answer(200, lines, "[]\n"), snapshot.ErrCorrupt, "byte 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := io.ReadAll(c.answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			src := over(func(*http.Request) (*http.Response, error) {
				again := *c.answer
				again.Body = io.NopCloser(bytes.NewReader(body))
				return &again, nil
			})
			for _, err := range []error{src.Load(t.Context(), snapshot.NewLoader(nil))} {
				if err == nil || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%v, want one that says %q", err, c.text)
				}
				for _, sentinel := range []error{snapshot.ErrNone, snapshot.ErrGap, snapshot.ErrCorrupt} {
					if errors.Is(err, sentinel) != (sentinel == c.want) {
						t.Errorf("%v: is it %q?", err, sentinel)
					}
				}
			}
		})
	}
}

func TestHTTPSourceDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		src := over(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			return answer(200, lines, ""), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := src.Next(ctx, snapshot.Position{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("next: %v", err)
		}
		if n := asked.Load(); n < 10 || n > 65 {
			t.Errorf("it asked %d times in a minute", n)
		}
	})
}

// A network that has lost an answer does not say so.
func TestHTTPSourceNoticesSilence(t *testing.T) {
	for _, c := range []struct {
		name   string
		silent func(r *http.Request) (*http.Response, error)
	}{
		{"before the answer", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}},
		{"in the answer", func(r *http.Request) (*http.Response, error) {
			a := answer(200, lines, "")
			a.Body = silence{r.Context()}
			return a, nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, start := over(c.silent), time.Now()
				_, err := src.Next(t.Context(), snapshot.Position{})
				if err == nil || !strings.Contains(err.Error(), "silent") || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("next: %v", err)
				}
				if took := time.Since(start); took != time.Minute {
					t.Errorf("it took %v", took)
				}

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := src.Next(ctx, snapshot.Position{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("next until the context ends: %v", err)
				}
			})
		})
	}
}

// A watcher without the right token goes on serving what it has, says why it does not
// follow, and follows as soon as it may.
func TestWatcherOverHTTPIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		var refused atomic.Bool
		refused.Store(true)
		src := over(func(r *http.Request) (*http.Response, error) {
			var body bytes.Buffer
			switch {
			case r.Header.Get("Authorization") != "Bearer token" || refused.Load():
				return answer(401, "application/problem+json", `{"detail":"no such token"}`), nil
			case r.URL.Path == "/sync/snapshot":
				x, err := snapshot.NewExporter(s.Publisher, s.keys).Open(r.Context())
				if err != nil {
					return nil, err
				}
				defer x.Close()
				_, err = x.WriteTo(&body)
				return answer(200, lines, body.String()), err
			case r.URL.Path == "/sync/nodes":
				text, err := io.ReadAll(r.Body)
				if err != nil {
					return nil, err
				}
				n, err := snapshot.ParseNode(text)
				if err != nil {
					return nil, err
				}
				a, err := s.Publisher.Report(r.Context(), n)
				if err != nil {
					return nil, err
				}
				err = json.NewEncoder(&body).Encode(snapshot.NewReportAnswer(a))
				return answer(200, "application/json", body.String()), err
			}
			position, err := snapshot.ParsePosition(r.URL.Query().Get("after"))
			if err != nil {
				return nil, err
			}
			d, err := s.Publisher.Next(r.Context(), position)
			if err != nil {
				return nil, err
			}
			err = snapshot.WriteDelta(&body, d)
			return answer(200, lines, body.String()), err
		})
		w := snapshot.NewWatcher(src, &snapshot.WatcherOptions{Keys: s.keys, Logger: slog.New(slog.DiscardHandler)})
		run(t, w, func() {
			time.Sleep(time.Second)
			if got := w.Status().Error; !strings.Contains(got, "no such token") {
				t.Errorf("status %q", got)
			}
			serves(t, w)
			refused.Store(false)
			time.Sleep(6 * time.Second)
			serves(t, w, "first")
			for i := range 3 {
				s.delta(fmt.Sprint(i))
				time.Sleep(2 * time.Second)
			}
			serves(t, w, "first", "0", "1", "2")
			if got := w.Status(); got.Error != "" || got.Loads != 1 || got.Deltas != 3 {
				t.Errorf("status %+v", got)
			}
			refused.Store(true)
			s.delta("on its way") // asked for before
			time.Sleep(2 * time.Second)
			s.delta("unseen")
			time.Sleep(time.Minute)
			serves(t, w, "first", "0", "1", "2", "on its way")
			if got := w.Status().Error; !strings.Contains(got, "no such token") {
				t.Errorf("status %q", got)
			}
		})
	})
}
