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

// A network that has lost an answer does not say so, nor does a control plane that has frozen.
func TestHTTPSourceNoticesSilence(t *testing.T) {
	beforeIt := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	inIt := func(contentType string) transport {
		return func(r *http.Request) (*http.Response, error) {
			a := answer(200, contentType, "")
			a.Body = silence{r.Context()}
			return a, nil
		}
	}
	for _, c := range []struct {
		name     string
		contents string
		before   time.Duration // that it takes when no answer begins
		in       time.Duration // and when one begins
		call     func(ctx context.Context, src *snapshot.HTTPSource) error
	}{
		{"next", lines, time.Minute, time.Minute, func(ctx context.Context, src *snapshot.HTTPSource) error {
			_, err := src.Next(ctx, snapshot.Position{})
			return err
		}},
		{"head", "application/json", 5 * time.Second, 5 * time.Second,
			func(ctx context.Context, src *snapshot.HTTPSource) error {
				_, err := src.Head(ctx)
				return err
			}},
		{"last beat", "application/json", 5 * time.Second, 5 * time.Second,
			func(ctx context.Context, src *snapshot.HTTPSource) error {
				_, err := src.LastBeat(ctx)
				return err
			}},
		{"report", "application/json", 5 * time.Second, 5 * time.Second,
			func(ctx context.Context, src *snapshot.HTTPSource) error {
				_, err := src.Report(ctx, snapshot.Node{ID: "a"})
				return err
			}},
		{"load", lines, 11 * time.Minute, time.Minute, func(ctx context.Context, src *snapshot.HTTPSource) error {
			return src.Load(ctx, snapshot.NewLoader(nil))
		}},
	} {
		for where, silent := range map[string]struct {
			transport
			takes time.Duration
		}{"before the answer": {beforeIt, c.before}, "in the answer": {inIt(c.contents), c.in}} {
			t.Run(c.name+"/"+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src, start := over(silent.transport), time.Now()
					ended, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					err := c.call(ended, src)
					if err == nil || !strings.Contains(err.Error(), "silent") || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v", err)
					}
					if took := time.Since(start); took != silent.takes {
						t.Errorf("it took %v", took)
					}

					ended, cancel = context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := c.call(ended, src); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("until the context ends: %v", err)
					}
				})
			})
		}
	}
}

// slowly is a body that pauses before it gives something, and ends with its request.
type slowly struct {
	io.Reader
	ctx context.Context
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(50 * time.Second)
	if s.ctx.Err() != nil {
		return 0, s.ctx.Err()
	}
	return s.Reader.Read(p)
}

// busyLoader takes its time for all that it is given.
type busyLoader struct{ snapshot.Loader }

func (l busyLoader) Add(changes []snapshot.Change) error {
	time.Sleep(2 * time.Minute)
	return l.Loader.Add(changes)
}

// A whole that comes slowly is no silence, nor is a loader that is slow.
func TestHTTPSourceLoadsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		var tokens []string
		for i := range 2000 {
			tokens = append(tokens, fmt.Sprint(i))
		}
		s.replace(1, 2, tokens...)
		var body bytes.Buffer
		x := ok[*snapshot.Export](t)(snapshot.NewExporter(s.Publisher, s.keys).Open(t.Context()))
		defer x.Close()
		ok[int64](t)(x.WriteTo(&body))
		src := over(func(r *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Minute) // it is made
			a := answer(200, lines, "")
			a.Body = io.NopCloser(slowly{bytes.NewReader(body.Bytes()), r.Context()})
			return a, nil
		})
		l := snapshot.NewLoader(s.keys)
		if err := src.Load(t.Context(), busyLoader{l}); err != nil || l.View().Position() != s.now.head.Position {
			t.Errorf("load: %v", err)
		}
	})
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
