package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func roundTrip(t *testing.T, h http.HandlerFunc) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://console/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	return inProcess{h}.RoundTrip(r)
}

// TestShortAnswersArrive: a handler that ends at once has answered all the same.
func TestShortAnswersArrive(t *testing.T) {
	nothing := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	for range 2000 {
		resp, err := roundTrip(t, nothing)
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatal(resp, err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) > 0 {
			t.Fatal(body, err)
		}
		_ = resp.Body.Close()
	}
}

// TestLongAnswersComeAsTheyAreWritten: nothing keeps the whole, and a reader that goes ends the handler.
func TestLongAnswersComeAsTheyAreWritten(t *testing.T) {
	ended := make(chan error, 1)
	resp, err := roundTrip(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "more\n"); err != nil {
				<-r.Context().Done()
				ended <- err
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	some := make([]byte, 10)
	if _, err := io.ReadFull(resp.Body, some); err != nil || string(some) != "more\nmore\n" {
		t.Fatal(string(some), err)
	}
	_ = resp.Body.Close()
	if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the handler ends with %v", err)
	}
}

// TestBrokenAnswersHaveNoEnd: who reads one must not take it for the whole.
func TestBrokenAnswersHaveNoEnd(t *testing.T) {
	resp, err := roundTrip(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(body) != "half" {
		t.Errorf("%q, %v", body, err)
	}
}

// TestCallersWhoGoAreAnswered: a handler that does not end holds nobody up.
func TestCallersWhoGoAreAnswered(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://console/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	begun, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(begun); <-release })
	go func() { <-begun; cancel() }()
	resp, err := inProcess{h}.RoundTrip(r)
	if !errors.Is(err, context.Canceled) {
		_ = resp.Body.Close()
		t.Errorf("%v", err)
	}
}
