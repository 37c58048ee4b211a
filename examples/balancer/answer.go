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

// pass copies an upstream's answer to the client and takes notes for the log. The error says why
// the answer could not be passed on whole.
func (x *exchange) pass(resp *http.Response, chat *chatRequest) error {
	if v := resp.Header.Get("Content-Type"); v != "" {
		x.w.Header().Set("Content-Type", v)
	}
	x.entry.Status = resp.StatusCode
	if resp.StatusCode >= http.StatusBadRequest {
		x.entry.Error = "upstream: " + resp.Status
	}
	x.w.WriteHeader(resp.StatusCode)
	x.receiver = &receiver{Writer: x.w, left: maxReadOn}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		x.receiver.flush = http.NewResponseController(x.w).Flush
		return x.passStream(resp.Body, chat.wantsUsage)
	}
	return x.passWhole(resp.Body)
}

func (x *exchange) passWhole(body io.Reader) error {
	var seen bytes.Buffer
	n, err := io.Copy(x.receiver, io.TeeReader(body, &limited{&seen, maxAnswer}))
	x.entry.TTFTMS = x.elapsed()
	x.answered += n / bytesPerToken
	if u, _, err := parseUsage(seen.Bytes()); err == nil {
		x.note(u)
	}
	return err
}

// maxEvent is how much of a stream is kept until an event is whole. What is longer is no event
// of a chat: it and the rest are passed on as they come.
const maxEvent = 1 << 20

// passStream passes server-sent events on, each as soon as it is whole. The
// one that holds the usage alone is kept back unless the client asked for it.
func (x *exchange) passStream(body io.Reader, wantsUsage bool) error {
	lines := bufio.NewReader(body)
	var event bytes.Buffer
	begin := 0 // of the last line of the event
	keep := true
	for {
		part, err := lines.ReadSlice('\n')
		event.Write(part)
		switch {
		case event.Len() > maxEvent:
			n, err := io.Copy(x.receiver, io.MultiReader(&event, lines))
			x.answered += n / bytesPerToken
			return err
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		}
		line := event.Bytes()[begin:]
		begin = event.Len()
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			x.answered++
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
				if _, err := x.receiver.Write(event.Bytes()); err != nil {
					return err
				}
			}
			event.Reset()
			begin, keep = 0, true
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// When the client has gone, the answer is read on for its usage, so that hanging up early makes
// no answer free: for so long, and so many bytes.
const (
	readOn    = 30 * time.Second
	maxReadOn = 16 << 20
)

// A receiver is the client of an answer. What is written to one that has gone is dropped, until
// that is too much.
type receiver struct {
	io.Writer
	flush func() error // after each write; nil is never
	gone  error        // why nothing can be written any more
	left  int          // bytes that may be dropped
}

func (r *receiver) Write(p []byte) (int, error) {
	if r.gone == nil {
		_, r.gone = r.Writer.Write(p)
	}
	if r.gone == nil && r.flush != nil {
		r.gone = r.flush()
	}
	if r.gone == nil {
		return len(p), nil
	}
	if r.left -= len(p); r.left < 0 {
		return 0, r.gone
	}
	return len(p), nil
}

// bytesPerToken is what a token of English text has, about.
const bytesPerToken = 4

// estimate fills the tokens in when an answer has begun and no usage came: an entry without tokens would
// cost nothing. The tag says that they are no more than a guess.
func (x *exchange) estimate(chat *chatRequest) {
	if x.noted || x.entry.Status >= http.StatusBadRequest {
		return
	}
	x.entry.InputTokens = int64(chat.size+bytesPerToken-1) / bytesPerToken
	if x.entry.Endpoint != embeddings { // whose answers are numbers
		x.entry.OutputTokens = min(x.answered, logbuf.MaxTokens)
	}
	x.entry.Tags = map[string]string{"usage": "estimated"}
}

// note takes the usage over. Input tokens are logged without those from the cache. Numbers that no
// entry may have are brought into its bounds, so that the entry is not lost.
func (x *exchange) note(u usage) {
	x.noted = true
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
