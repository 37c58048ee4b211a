package chstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxAnswer bounds what an answer may hold: 1,001 entries with all text at its limits are 30 MiB.
	maxAnswer = 128 << 20

	// maxComplaint bounds what is read, and shown, of an error.
	maxComplaint = 500

	dialTimeout  = 5 * time.Second
	connections  = 32
	keepIdle     = 90 * time.Second
	maxStatement = 16 << 20 // of a statement with its literals, bytes
)

// A client sends statements to the HTTP interface of a server. It is safe for concurrent use.
type client struct {
	address address
	http    *http.Client
	pinned  atomic.Pointer[settings] // what each statement is sent with; nil before it is known
}

func newClient(a address) *client {
	transport := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: a.tls, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: a.tls == nil,
		MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: keepIdle,
	}
	return &client{address: a, http: &http.Client{
		Transport: transport,
		// A server does not redirect, and credentials are not for whoever stands in its place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// settings are those of one statement, as the server names them.
type settings map[string]string

// A statement is what is sent to the server.
type statement struct {
	text     string
	data     []byte // the rows of an insert
	settings settings
	nowhere  bool // not in the database, which may not exist yet
}

// run sends a statement and returns its answer. The server gives up when the context's time is over.
func (c *client) run(ctx context.Context, s statement) ([]byte, error) {
	request, err := c.request(ctx, s)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // it quotes the URL
			err = wrapped.Err
		}
		return nil, &unreachableError{err}
	}
	defer response.Body.Close() //nolint:errcheck // it was read, or is of no use
	if code := response.Header.Get("X-ClickHouse-Exception-Code"); response.StatusCode != http.StatusOK ||
		code != "" {
		return nil, complaint(response, code)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &unreachableError{err}
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return answer, nil
}

func (c *client) request(ctx context.Context, s statement) (*http.Request, error) {
	values := url.Values{"wait_end_of_query": {"1"}} // an error in the middle is the status of the answer
	all := settings{"max_query_size": strconv.Itoa(maxStatement)}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline).Seconds()
		all["max_execution_time"] = strconv.FormatFloat(math.Max(1, math.Ceil(left)), 'f', -1, 64)
	}
	pins := always()
	if known := c.pinned.Load(); known != nil {
		pins = *known
	}
	maps.Copy(all, pins)
	maps.Copy(all, s.settings)
	for name, value := range all {
		values.Set(name, value)
	}
	if !s.nowhere {
		values.Set("database", c.address.database)
	}
	body := []byte(s.text)
	if s.data != nil {
		values.Set("query", s.text)
		body = s.data
	}
	u := c.address.url
	u.RawQuery = values.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-ClickHouse-User", c.address.user)
	if c.address.password != "" {
		request.Header.Set("X-ClickHouse-Key", c.address.password)
	}
	request.Header.Set("User-Agent", "ezapi")
	return request, nil
}

// complaint makes an error of an answer that is one.
func complaint(response *http.Response, code string) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4*maxComplaint)) // what there is of it
	e := &serverError{status: response.StatusCode, text: firstLine(string(text))}
	e.code, _ = strconv.Atoi(code) // 0 when it is not from ClickHouse
	return e
}

// firstLine cuts the text of an error to what is worth reading.
func firstLine(text string) string {
	text = strings.TrimSpace(strings.ToValidUTF8(text, "\ufffd"))
	if i := strings.IndexAny(text, "\r\n"); i >= 0 {
		text = text[:i]
	}
	if len(text) > maxComplaint {
		text = strings.ToValidUTF8(text[:maxComplaint], "") + "…"
	}
	return text
}
