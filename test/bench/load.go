package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A load posts bodies to a server, over connections that are kept.
type load struct {
	url    string
	token  string
	client *http.Client
}

func newLoad(p *process, token string, connections int) *load {
	return &load{p.url + "/logs", token, &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true},
	}}
}

// post sends one body, and returns the status, 0 when there was no answer.
func (l *load) post(ctx context.Context, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if l.token != "" {
		req.Header.Set("Authorization", "Bearer "+l.token)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusTooManyRequests {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	return resp.StatusCode, err
}

// all posts every body until it is taken, from a number of callers at once.
func (l *load) all(ctx context.Context, bodies [][]byte, callers int) error {
	var next atomic.Int64
	return together(callers, func() error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(bodies) {
				return nil
			}
			for {
				status, err := l.post(ctx, bodies[i])
				if err != nil {
					return err
				}
				if status == http.StatusAccepted {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
}

// at posts bodies at so many a second, whether or not the ones before were
// answered, as far as the connections suffice. It returns which were acknowledged: a
// server may be killed meanwhile.
func (l *load) at(ctx context.Context, bodies [][]byte, perSecond float64, callers int) (acknowledged []int, took time.Duration) {
	var mu sync.Mutex
	var next atomic.Int64
	start := time.Now()
	_ = together(callers, func() error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(bodies) {
				return nil
			}
			time.Sleep(time.Until(start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
			if status, err := l.post(ctx, bodies[i]); err == nil && status == http.StatusAccepted {
				mu.Lock()
				acknowledged = append(acknowledged, i)
				mu.Unlock()
			}
		}
	})
	return acknowledged, time.Since(start)
}

// together runs n goroutines, and returns the first error.
func together(n int, run func() error) error {
	errs := make(chan error, n)
	for range n {
		go func() { errs <- run() }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
