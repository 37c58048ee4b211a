package server

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// quietLogger returns a logger whose warnings are over after 30 s and said again after 10 min.
func quietLogger() (*slog.Logger, *output) {
	out := &output{}
	next := slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(newQuietHandler(next, 30*time.Second, 10*time.Minute)), out
}

func TestWhatFailsAgainIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := quietLogger()
		for i := range 100 {
			log.Warn("cannot follow", "error", errors.New(strings.Repeat("e", i)), "retry_in", time.Duration(i))
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines for one failure, want 1:\n%s", n, out)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := out.String(); !strings.Contains(text, `level=INFO msg="not repeated for 30s: cannot follow" times=100 lasted=1m39s`) {
			t.Errorf("it does not say that it is over:\n%s", text)
		}
		log.Warn("cannot follow", "error", "again")
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("the next failure is not said:\n%s", out)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("a failure that came once needs no end:\n%s", out)
		}
	})
}

func TestWhatGoesOnFailingIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := quietLogger()
		for range 25 * 60 {
			log.Error("down")
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "level=ERROR"); n != 3 || !strings.Contains(out.String(), "times=601") {
			t.Errorf("%d lines in 25 minutes, want 3:\n%s", n, out)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

func TestDifferentWarningsAreAllSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := quietLogger()
		log.Warn("refused", "address", "192.0.2.1")
		log.Warn("refused", "address", "192.0.2.2")
		log.Error("refused", "address", "192.0.2.2")
		log.With("node", "a").Warn("refused", "address", "192.0.2.2")
		log.With("node", "b").Warn("refused", "address", "192.0.2.2")
		log.WithGroup("g").Warn("refused", "address", "192.0.2.2")
		for range 3 {
			log.Info("not a warning")
		}
		if n := strings.Count(out.String(), "\n"); n != 9 {
			t.Errorf("%d lines, want 9:\n%s", n, out)
		}
		for i := range 2 * maxRepeats { // beyond the bound all are passed on
			log.Warn("many", "i", i)
		}
		if n := strings.Count(out.String(), "\n"); n != 9+2*maxRepeats {
			t.Errorf("%d lines, want %d", n, 9+2*maxRepeats)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

// A client that sends one X-Request-ID again and again hides no refusal.
func TestWarningsOfRequestsAreAllSaid(t *testing.T) {
	log, out := quietLogger()
	for range 5 {
		log.Warn("a request was not authenticated", "address", "192.0.2.1", "request_id", "same")
	}
	if n := strings.Count(out.String(), "\n"); n != 5 {
		t.Errorf("%d lines, want 5", n)
	}
}

// A duration has a unit, in JSON too, wherever it stands.
func TestDurationsHaveUnits(t *testing.T) {
	out := &output{}
	log := newLogger(&Config{LogFormat: "json"}, out)
	log.With("age", 90*time.Second).Info("seen", "retry_in", 100*time.Millisecond, slog.Group("of", "took", time.Hour))
	for _, want := range []string{`"age":"1m30s"`, `"retry_in":"100ms"`, `"took":"1h0m0s"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s; want %s", out, want)
		}
	}
}
