package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// maxAnswer is how much of a plain answer is looked at for its usage. Longer
// ones are passed on all the same.
const maxAnswer = 8 << 20

// pass copies an upstream's answer to the client and takes notes for the log.
// It returns what the client was told: the status.
func (x *exchange) pass(resp *http.Response, chat *chatRequest) error {
	if v := resp.Header.Get("Content-Type"); v != "" {
		x.w.Header().Set("Content-Type", v)
	}
	x.entry.Status = resp.StatusCode
	if resp.StatusCode >= http.StatusBadRequest {
		x.entry.Error = "upstream: " + resp.Status
	}
	x.w.WriteHeader(resp.StatusCode)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return x.passStream(resp.Body, chat.wantsUsage)
	}
	return x.passWhole(resp.Body)
}

func (x *exchange) passWhole(body io.Reader) error {
	var seen bytes.Buffer
	_, err := io.Copy(x.w, io.TeeReader(body, &limited{&seen, maxAnswer}))
	x.entry.TTFTMS = x.elapsed()
	if u, _, err := parseUsage(seen.Bytes()); err == nil {
		x.note(u)
	}
	return err
}

// passStream passes server-sent events on, each as soon as it is whole. The
// one that holds the usage alone is kept back unless the client asked for it.
func (x *exchange) passStream(body io.Reader, wantsUsage bool) error {
	flush := http.NewResponseController(x.w).Flush
	lines := bufio.NewReader(body)
	var event bytes.Buffer
	keep := true
	for {
		line, err := lines.ReadBytes('\n')
		event.Write(line)
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if u, alone, err := parseUsage(bytes.TrimSpace(data)); err == nil {
				x.note(u)
				keep = !alone || wantsUsage
			}
		}
		ended := len(bytes.TrimRight(line, "\r\n")) == 0
		if (ended || err != nil) && event.Len() > 0 {
			if keep {
				if x.entry.TTFTMS == 0 {
					x.entry.TTFTMS = x.elapsed()
				}
				if _, err := x.w.Write(event.Bytes()); err != nil {
					return err
				}
				if err := flush(); err != nil {
					return err
				}
			}
			event.Reset()
			keep = true
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// note takes the usage over. Input tokens are logged without those from the cache. Numbers that no
// entry may have are brought into its bounds, so that the entry is not lost.
func (x *exchange) note(u usage) {
	bounded := func(n int64) int64 { return min(max(n, 0), logbuf.MaxTokens) }
	prompt := bounded(u.PromptTokens)
	cached := min(bounded(u.Details.CachedTokens), prompt)
	x.entry.InputTokens = prompt - cached
	x.entry.CacheReadTokens = cached
	x.entry.OutputTokens = bounded(u.CompletionTokens)
}

// elapsed returns the milliseconds since the request came, at least 1.
func (x *exchange) elapsed() int64 {
	return max(1, time.Since(x.start).Milliseconds())
}

// limited keeps the first bytes that are written to it.
type limited struct {
	w    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.w.Write(p[:n])
	return len(p), nil
}
