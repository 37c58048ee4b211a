package logbuf_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// printer is the smallest sink: it stores nothing twice because it is asked only once.
type printer struct{}

func (printer) Write(_ context.Context, b logbuf.Batch) (logbuf.Result, error) {
	for _, e := range b.Entries {
		fmt.Println(e.Status, e.Namespace, e.Model, e.InputTokens+e.OutputTokens)
	}
	return logbuf.Result{Stored: len(b.Entries)}, nil
}

func Example() {
	ctx := context.Background()
	q, err := logbuf.Open(printer{}, nil) // in memory; Options.Dir makes it durable
	if err != nil {
		fmt.Println(err)
		return
	}
	err = q.Append(ctx,
		logbuf.Entry{Model: "gpt-4o", Status: 200, InputTokens: 1200, OutputTokens: 345},
		logbuf.Entry{Model: "gpt-4o", Status: 429, Error: "rate limited"},
	)
	if errors.Is(err, logbuf.ErrFull) {
		fmt.Println("slow down")
	}
	if err := q.Close(ctx); err != nil {
		fmt.Println(err)
	}
	s := q.Stats()
	fmt.Println(s.Durability, s.Accepted, "accepted,", s.Stored, "stored")
	// Output:
	// 200 default gpt-4o 1545
	// 429 default gpt-4o 0
	// memory 2 accepted, 2 stored
}

func ExampleDecoder() {
	d := logbuf.Decoder{Retention: 90 * 24 * time.Hour}
	got, err := d.Decode([]byte(`[
		{"model": "gpt-4o", "status": 200, "input_tokens": 1200},
		{"model": "gpt-4o", "status": "OK"}
	]`), "application/json")
	if err != nil {
		fmt.Println(err) // the body as a whole cannot be read
		return
	}
	for _, r := range got.Rejected {
		fmt.Println("entry", r.Index, "rejected:", r.Field, r.Message)
	}
	price := logbuf.Price{Input: new(int64(2_500_000_000))} // 2.50 USD a million tokens
	cost, known := price.Cost(&got.Entries[0])
	fmt.Println("cost:", cost, "nano-USD; known:", known)
	// Output:
	// entry 1 rejected: status must be a whole number
	// cost: 3000000 nano-USD; known: true
}

// A balancer ships its log to the control plane.
func ExampleNewHTTPSink() {
	controlPlane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path, r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"accepted": 1, "rejected": [], "durability": "disk"}`)
	}))
	defer controlPlane.Close()

	sink := logbuf.NewHTTPSink(controlPlane.URL, "balancer token", &logbuf.HTTPOptions{Client: controlPlane.Client()})
	q, err := logbuf.Open(sink, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := q.Append(ctx, logbuf.Entry{Balancer: "edge-1", KeyID: 42, Status: 200}); err != nil {
		fmt.Println(err)
	}
	if err := q.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// POST /logs application/x-ndjson
}
