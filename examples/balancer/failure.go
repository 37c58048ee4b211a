package main

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// failureOf says what is wrong with an attempt that another upstream may do better; nil is nothing. What
// the client has asked for wrongly is its own affair, and is passed on.
func failureOf(resp *http.Response, err error, begun time.Time) *logbuf.Failure {
	f := &logbuf.Failure{LatencyMS: max(1, time.Since(begun).Milliseconds())}
	if err != nil {
		f.Class = classOf(err)
		return f
	}
	f.Status, f.Class = resp.StatusCode, logbuf.ClassOfStatus(resp.StatusCode)
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400: // it leads elsewhere, where no secret is sent
		f.Class = logbuf.FailedServer
	case resp.StatusCode < 400, f.Class == logbuf.FailedClient:
		return nil
	}
	f.RetryAfterMS = retryAfter(resp.Header, time.Now()).Milliseconds()
	return f
}

// classOf tells a connection that could not be made from an answer that did not come.
func classOf(err error) logbuf.FailureClass {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return logbuf.FailedNetwork
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return logbuf.FailedTimeout
	}
	return logbuf.FailedNetwork
}

// retryAfter reads the header: seconds, or a date (RFC 9110, section 10.2.3). It is at most a day.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err == nil || errors.Is(err, strconv.ErrRange) { // then it is the largest that there is
		return min(time.Duration(seconds)*time.Second, 24*time.Hour)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), 24*time.Hour)
	}
	return 0
}
