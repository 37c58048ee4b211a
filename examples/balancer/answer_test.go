package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// cut asks for a stream, hangs up at its first event, and then calls done.
func (b *bench) cut(t *testing.T, done func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+endpoint,
		strings.NewReader(`{"model":"public-name","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	done()
}

// A client that hangs up before the usage comes pays for the answer all the same: by the usage, or by
// an estimate where the upstream says none.
func TestClientHangsUp(t *testing.T) {
	for name, tc := range map[string]struct {
		last          string
		input, output int64
		tag           string
	}{
		"the usage comes": {last: "data: " + lastUsage + "\n\n", input: 5, output: 2},
		"no usage comes":  {input: 10, output: 2, tag: "estimated"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			hungUp, gone := make(chan struct{}), make(chan struct{})
			handler := b.g.handler()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				context.AfterFunc(r.Context(), func() { close(gone) }) // the balancer knows
				handler.ServeHTTP(w, r)
			}))
			t.Cleanup(server.Close)
			b.url = server.URL
			b.first = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "data: %s\n\n", piece)
				_ = http.NewResponseController(w).Flush()
				<-hungUp
				<-gone
				fmt.Fprintf(w, "data: %s\n\n%s", piece, tc.last)
			}
			b.cut(t, func() { close(hungUp) })
			e := b.logs.only(t)
			if e.Status != 200 || len(e.Failures) > 0 ||
				e.InputTokens != tc.input || e.OutputTokens != tc.output || e.Tags["usage"] != tc.tag {
				t.Errorf("logged %+v", e)
			}
		})
	}
}

// What is read on for a client that has gone is bounded.
func TestReadingOnIsBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("data: x\n\n"), zeros{})
	x := &exchange{receiver: &receiver{Writer: broken{}, left: maxReadOn}}
	if err := x.passStream(endless, true); err == nil {
		t.Error("the end of a stream that has none")
	}
	if x.receiver.left < -maxEvent-64<<10 {
		t.Errorf("%d bytes too many were read", -x.receiver.left)
	}
}

// A context for an upstream ends with the client's until the answer begins, and lasts then.
func TestUpstreamContext(t *testing.T) {
	for _, begun := range []bool{false, true} {
		client, hangUp := context.WithCancel(t.Context())
		ctx, begins, cancel := upstreamContext(client)
		if begun {
			begins()
		}
		hangUp()
		wait := 10 * time.Second
		if begun {
			wait = 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			if begun {
				t.Error("an answer that has begun ends with the client")
			}
		case <-time.After(wait):
			if !begun {
				t.Error("nobody waits for the answer, and the upstream is asked on")
			}
		}
		cancel()
		<-ctx.Done()
	}
}

// A line without an end is passed on as it comes, and is not kept.
func TestLongLineIsPassedOn(t *testing.T) {
	const size = 8 * maxEvent
	w := &widest{}
	x := &exchange{receiver: &receiver{Writer: w, left: maxReadOn}}
	if err := x.passStream(io.LimitReader(zeros{}, size), true); err != nil || w.sum != size {
		t.Errorf("%d of %d bytes came, %v", w.sum, size, err)
	}
	if w.most > 2*maxEvent {
		t.Errorf("%d bytes were kept", w.most)
	}
	var short bytes.Buffer // longer than what is read at once, and an event all the same
	text := "data: {\"x\":\"" + strings.Repeat("y", 100_000) + "\",\"choices\":[],\"usage\":{\"prompt_tokens\":7}}\n\n"
	x = &exchange{receiver: &receiver{Writer: &short, left: maxReadOn}}
	if err := x.passStream(strings.NewReader(text), false); err != nil || short.Len() > 0 || x.entry.InputTokens != 7 {
		t.Errorf("a long event: %d bytes passed on, %d tokens, %v", short.Len(), x.entry.InputTokens, err)
	}
}

// zeros has no end, and no line.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// broken is a client that has gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// widest keeps how much it was given at once, and in all.
type widest struct{ most, sum int }

func (w *widest) Write(p []byte) (int, error) {
	w.most, w.sum = max(w.most, len(p)), w.sum+len(p)
	return len(p), nil
}
