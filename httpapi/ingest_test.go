package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
)

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err := io.WriteString(z, text)
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstdded(t testing.TB, text string, opts ...zstd.EOption) []byte {
	t.Helper()
	var buf bytes.Buffer
	z, err := zstd.NewWriter(&buf, opts...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(z, text)
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// stored returns how many entries there are, once all are stored.
func (s *service) stored() int {
	s.t.Helper()
	if err := s.plane.Logs().Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return len(s.must(http.StatusOK, viewer, "GET", "/logs?limit=1000", nil).object(s.t)["data"].([]any))
}

func TestIngest(t *testing.T) {
	const entry = `{"model":"m","status":200}`
	lines := strings.Repeat(entry+"\n", 3)
	for _, tc := range []struct {
		name, media, encoding string
		body                  []byte
		accepted              int
	}{
		{"an object", "application/json", "", []byte(entry), 1},
		{"an array", "application/json; charset=utf-8", "", []byte("[" + entry + "," + entry + "]"), 2},
		{"no media type", "", "identity", []byte(entry), 1},
		{"lines", "application/x-ndjson", "", []byte(lines), 3},
		{"gzip", "application/x-ndjson", "gzip", gzipped(t, lines), 3},
		{"gzip again, with what the first left", "application/x-ndjson", "GZIP", gzipped(t, lines), 3},
		{"two members of gzip", "application/x-ndjson", "gzip", append(gzipped(t, lines), gzipped(t, lines)...), 6},
		{"zstd", "application/x-ndjson", "zstd", zstdded(t, lines), 3},
		{"zstd again, with what the first left", "application/x-ndjson", "zstd", zstdded(t, lines), 3},
		{"zstd in two frames", "application/x-ndjson", "zstd", append(zstdded(t, "{}\n"), zstdded(t, lines)...), 4},
		{"unknown fields", "", "", []byte(`{"model":"m","colour":"red"}`), 1},
		{"the most bytes", "", "", []byte(entry + strings.Repeat(" ", logbuf.MaxBody-len(entry))), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t, ezapi.Config{}, nil)
			headers := []string{"Content-Encoding", tc.encoding}
			if tc.media != "" {
				headers = append(headers, "Content-Type", tc.media)
			}
			got := s.must(http.StatusAccepted, balancer, "POST", "/logs", tc.body, headers...).object(t)
			shows(t, got, object{"accepted": float64(tc.accepted), "rejected": []any{}, "durability": "memory"})
			if n := s.stored(); n != tc.accepted {
				t.Errorf("%d entries are stored, want %d", n, tc.accepted)
			}
		})
	}
}

func TestIngestRefuses(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	bomb := strings.Repeat(" ", logbuf.MaxBody+1)
	many := "[" + strings.Repeat("{},", logbuf.MaxEntries) + "{}]"
	for _, tc := range []struct {
		name    string
		body    any
		headers []string
		status  int
		slug    string
		detail  string
	}{
		{"no body", nil, nil, 400, "malformed", "empty"},
		{"no JSON", "{", nil, 400, "malformed", "byte 1"},
		{"half an array", `[{"model":"m"},`, nil, 400, "malformed", ""},
		{"a string", `"x"`, nil, 400, "malformed", "object"},
		{"an empty array", `[]`, nil, 422, "invalid", ""},
		{"nothing valid", `[{"status":"x"},{"key_id":-1}]`, nil, 422, "invalid", ""},
		{"too many bytes", bomb, nil, 413, "too-large", "8388608"},
		{"too many bytes of gzip", gzipped(t, bomb), []string{"Content-Encoding", "gzip"}, 413, "too-large", "8388608"},
		{"too many bytes of zstd", zstdded(t, bomb), []string{"Content-Encoding", "zstd"}, 413, "too-large", "8388608"},
		{"too many bytes without a length", io.MultiReader(strings.NewReader(bomb)), nil, 413, "too-large", "8388608"},
		{"too large a window of zstd", zstdded(t, bomb[:1<<20], zstd.WithWindowSize(64<<20),
			zstd.WithSingleSegment(false)), []string{"Content-Encoding", "zstd"}, 400, "malformed", "RFC 9659"},
		{"too many entries", many, nil, 413, "too-large", "10000"},
		{"no gzip", "{}", []string{"Content-Encoding", "gzip"}, 400, "malformed", "Content-Encoding"},
		{"half of gzip", gzipped(t, `{"model":"m"}`)[:20], []string{"Content-Encoding", "gzip"}, 400, "malformed", ""},
		{"no zstd", "{}", []string{"Content-Encoding", "zstd"}, 400, "malformed", ""},
		{"half of zstd", zstdded(t, `{"model":"m"}`)[:12], []string{"Content-Encoding", "zstd"}, 400, "malformed", ""},
		{"an encoding that is not known", "{}", []string{"Content-Encoding", "br"}, 415, "unsupported-media-type", "gzip"},
		{"two encodings", "{}", []string{"Content-Encoding", "gzip, zstd"}, 415, "unsupported-media-type", ""},
		{"a form", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported-media-type",
			"x-ndjson"},
		{"a body that breaks off", io.MultiReader(strings.NewReader(`{"model":`), broken{}), nil, 400, "malformed", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			p := s.do(balancer, "POST", "/logs", tc.body, tc.headers...).problem(t, tc.status, tc.slug)
			if !strings.Contains(p.Detail, tc.detail) {
				t.Errorf("detail %q, want %q in it", p.Detail, tc.detail)
			}
			if tc.status == 422 && len(p.Errors) == 0 {
				t.Error("it does not say which fields")
			}
		})
	}
	s.t = t
	if n := s.stored(); n != 0 {
		t.Errorf("%d entries are stored of bodies that were refused", n)
	}
}

// broken is a body that cannot be read.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset by a secret") }

// The valid entries of a body are taken, the others are listed.
func TestIngestTakesWhatIsValid(t *testing.T) {
	observer := &observed{}
	s := newService(t, ezapi.Config{}, &httpapi.Options{Observer: observer})
	got := s.must(http.StatusAccepted, balancer, "POST", "/logs", `[{"model":"a"},{"status":"sk-secret"},{"model":"b","nope":1},7]`).object(t)
	rejected := got["rejected"].([]any)
	if got["accepted"] != 2.0 || len(rejected) != 2 {
		t.Fatalf("answer %v", got)
	}
	shows(t, rejected[0].(object), object{"index": 1.0, "field": "status"})
	shows(t, rejected[1].(object), object{"index": 3.0})
	if n := s.stored(); n != 2 {
		t.Errorf("%d entries are stored", n)
	}
	if d := observer.decoded.Load(); d == nil || len(d.Entries) != 2 || len(d.Rejected) != 2 || d.Unknown != 1 {
		t.Errorf("the observer was told %+v", d)
	}
}

// A full buffer refuses before it reads.
func TestIngestBackPressure(t *testing.T) {
	release := make(chan struct{})
	sink := sinkFunc(func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		select {
		case <-release:
			return logbuf.Result{Stored: len(b.Entries)}, nil
		case <-ctx.Done():
			return logbuf.Result{}, ctx.Err()
		}
	})
	s := newService(t, ezapi.Config{LogSink: sink, Logs: logbuf.Options{Capacity: 10}}, nil)
	s.must(http.StatusAccepted, balancer, "POST", "/logs", "["+strings.Repeat("{},", 8)+"{}]")
	a := s.do(balancer, "POST", "/logs", "[{},{}]") // two do not fit, all or none
	a.problem(t, http.StatusTooManyRequests, "overloaded")
	reading, filled := make(chan struct{}), make(chan struct{})
	late := make(chan answer, 1)
	go func() {
		body := io.MultiReader(strings.NewReader("no JSON"), gate{filled, func() { close(reading) }})
		late <- s.do(balancer, "POST", "/logs", body)
	}()
	<-reading
	s.must(http.StatusAccepted, balancer, "POST", "/logs", "{}")
	close(filled)
	(<-late).problem(t, http.StatusTooManyRequests, "overloaded") // it was not decoded
	body := &counted{Reader: strings.NewReader("{}")}
	a = s.do(balancer, "POST", "/logs", io.Reader(body))
	a.problem(t, http.StatusTooManyRequests, "overloaded")
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	if body.n.Load() != 0 {
		t.Error("the body was read")
	}
	close(release)
	if err := s.plane.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.do(balancer, "POST", "/logs", "{}").problem(t, http.StatusServiceUnavailable, "unavailable")
}

// brokenBuffer is one whose disk has failed.
type brokenBuffer struct{ logbuf.Buffer }

func (brokenBuffer) Append(context.Context, ...logbuf.Entry) error { return logbuf.ErrBroken }
func (brokenBuffer) Close(context.Context) error                   { return nil }

// What a spool cannot promise any more is not accepted.
func TestIngestIntoABrokenSpool(t *testing.T) {
	s := newService(t, ezapi.Config{LogBuffer: brokenBuffer{}}, nil)
	a := s.do(balancer, "POST", "/logs", "{}")
	a.problem(t, http.StatusServiceUnavailable, "unavailable")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// However many large bodies come at once, together they take no more memory than
// four of the largest; what is beyond is refused, and none of the others suffers.
func TestIngestBoundsMemory(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	const bodies = 12
	large := strings.Repeat(" ", 3<<20)
	for _, tc := range []struct {
		name string
		body func() io.Reader
		gzip bool
	}{
		{"as they are", func() io.Reader { return strings.NewReader(large) }, false},
		{"compressed", func() io.Reader { return bytes.NewReader(gzipped(t, large)) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			end := make(chan struct{})
			events := make(chan int, 2*bodies) // 0: all but the end was read; else the status
			var all sync.WaitGroup
			for range bodies {
				all.Go(func() {
					rest := []io.Reader{tc.body(), gate{end, func() { events <- 0 }}}
					var headers []string
					if tc.gzip {
						rest = append(rest, bytes.NewReader(gzipped(t, "{}"))) // a second member
						headers = []string{"Content-Encoding", "gzip"}
					} else {
						rest = append(rest, strings.NewReader("{}"))
					}
					events <- s.do(balancer, "POST", "/logs", io.MultiReader(rest...), headers...).StatusCode
				})
			}
			refused := 0
			for range bodies {
				if e := <-events; e != 0 {
					refused++
					if e != http.StatusTooManyRequests {
						t.Errorf("status %d, want 429", e)
					}
				}
			}
			if refused == 0 || refused > bodies/2 {
				t.Errorf("%d of %d bodies of 3 MiB are refused while the others are read; want one, or a few "+
					"that were too close", refused, bodies)
			}
			close(end)
			all.Wait()
			for range bodies - refused {
				if e := <-events; e != http.StatusAccepted {
					t.Errorf("status %d, want 202", e)
				}
			}
			s.must(http.StatusAccepted, balancer, "POST", "/logs", "{}")
		})
	}
}

// A gate is the empty end of a reader, reached when it is open.
type gate struct {
	open    <-chan struct{}
	reached func()
}

func (g gate) Read([]byte) (int, error) {
	g.reached()
	<-g.open
	return 0, io.EOF
}

type sinkFunc func(context.Context, logbuf.Batch) (logbuf.Result, error)

func (f sinkFunc) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) { return f(ctx, b) }

type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	c.n.Add(1)
	return c.Reader.Read(p)
}

func TestLogs(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	now := time.Now().UTC().Truncate(time.Second)
	var body []object
	for i := range 10 {
		body = append(body, object{
			"ts": now.Add(-time.Duration(i) * time.Minute), "request_id": fmt.Sprint("r", i), "model": fmt.Sprint("m/",
				i%2), "key_id": 1 + i%3,
			"provider_id": 7, "namespace": "n", "status": 200 + i%2*300, "input_tokens": 10, "cost_nano_usd": 5,
		})
	}
	s.must(http.StatusAccepted, balancer, "POST", "/logs", body)
	if n := s.stored(); n != 10 {
		t.Fatalf("%d entries", n)
	}
	for _, tc := range []struct {
		query string
		want  string
	}{
		{"", "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9"},
		{"key_id=1", "r0 r3 r6 r9"},
		{"model=m%2F1&status=500", "r1 r3 r5 r7 r9"},
		{"provider_id=8", ""},
		{"namespace=n&request_id=r4", "r4"},
		{"since=" + now.Add(-2*time.Minute).Format(time.RFC3339), "r0 r1 r2"},
		{"until=" + now.Add(-7*time.Minute).Format(time.RFC3339), "r8 r9"},
	} {
		for _, limit := range []int{1, 3, 1000} {
			var got []string
			for cursor := ""; ; {
				path := fmt.Sprintf("/logs?limit=%d", limit)
				if cursor != "" {
					path += "&cursor=" + cursor
				}
				if tc.query != "" {
					path += "&" + tc.query
				}
				page := s.must(http.StatusOK, viewer, "GET", path, nil).object(t)
				for _, e := range page["data"].([]any) {
					got = append(got, e.(object)["request_id"].(string))
				}
				next, more := page["next_cursor"].(string)
				if !more {
					break
				}
				cursor = next
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%q in pages of %d: %q, want %q", tc.query, limit, got, tc.want)
			}
		}
	}

	usage := s.must(http.StatusOK, viewer, "GET",
		"/usage?interval=day&group_by=key,model&since="+
			now.Add(-time.Hour).Truncate(logbuf.Quarter).Format(time.RFC3339), nil).object(t)["data"].([]any)
	requests, keys := 0.0, map[any]bool{}
	for _, row := range usage {
		requests += row.(object)["requests"].(float64)
		keys[row.(object)["key_id"]] = true
		if _, shown := row.(object)["provider_id"]; shown {
			t.Error("a dimension is shown that was not asked for")
		}
	}
	if requests != 10 || len(keys) != 3 {
		t.Errorf("usage %v", usage)
	}
	total := s.must(http.StatusOK, viewer, "GET",
		"/usage?since="+now.Add(-time.Hour).Truncate(logbuf.Quarter).Format(time.RFC3339), nil).object(t)["data"].([]any)
	sum := map[string]float64{}
	for _, row := range total {
		for _, field := range []string{"requests", "errors", "input_tokens", "cost_nano_usd", "unpriced_requests"} {
			sum[field] += row.(object)[field].(float64)
		}
	}
	for field, want := range map[string]float64{"requests": 10, "errors": 5, "input_tokens": 100, "cost_nano_usd": 50,
		"unpriced_requests": 0} {
		if sum[field] != want {
			t.Errorf("%s: %v, want %v", field, sum[field], want)
		}
	}
}

// A sink that stores and answers no questions is enough to take logs.
func TestNoArchive(t *testing.T) {
	s := newService(t, ezapi.Config{LogSink: sinkFunc(func(_ context.Context, b logbuf.Batch) (logbuf.Result, error) {
		return logbuf.Result{Stored: len(b.Entries)}, nil
	})}, nil)
	s.must(http.StatusAccepted, balancer, "POST", "/logs", "{}")
	s.do(viewer, "GET", "/logs", nil).problem(t, http.StatusNotFound, "not-found")
	s.do(viewer, "GET", "/usage", nil).problem(t, http.StatusNotFound, "not-found")
}

// Whatever is sent, the answer is one of those that the contract lists, and
// what it says was accepted is in the buffer.
func FuzzIngest(f *testing.F) {
	f.Add([]byte(`{"model":"m"}`), "application/json", "")
	f.Add([]byte("{}\n{"), "application/x-ndjson", "")
	f.Add(gzipped(f, `[{"status":1}]`), "", "gzip")
	f.Add(zstdded(f, `[{"status":1}]`), "", "zstd")
	s := newService(f, ezapi.Config{}, nil)
	f.Fuzz(func(t *testing.T, body []byte, media, encoding string) {
		s.t = t
		before := s.plane.Logs().Stats().Accepted
		a := s.do(balancer, "POST", "/logs", body, "Content-Type", media, "Content-Encoding", encoding)
		took := s.plane.Logs().Stats().Accepted - before
		switch a.StatusCode {
		case http.StatusAccepted:
			if got := a.object(t)["accepted"].(float64); got < 1 || int64(got) != took {
				t.Errorf("accepted %v, took %d", got, took)
			}
		case 400, 413, 415, 422, 429:
			if took != 0 {
				t.Errorf("%d, and %d were taken", a.StatusCode, took)
			}
		default:
			t.Errorf("status %d: %s", a.StatusCode, a.body)
		}
	})
}

func BenchmarkIngest(b *testing.B) {
	discard := sinkFunc(func(_ context.Context, batch logbuf.Batch) (logbuf.Result, error) {
		return logbuf.Result{Stored: len(batch.Entries)}, nil
	})
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprint("array", size), func(b *testing.B) {
			s := newService(b, ezapi.Config{LogSink: discard, Logs: logbuf.Options{Capacity: 1 << 20}}, nil)
			entry := `{"request_id":"req_0123456789abcdef","balancer":"edge-1","key_id":42,"provider_id":7,"model":"gpt-4o","status":200,"latency_ms":1234,"input_tokens":1200,"output_tokens":345}`
			body := []byte("[" + strings.Repeat(entry+",", size-1) + entry + "]")
			b.ReportAllocs()
			for b.Loop() {
				for s.do(balancer, "POST", "/logs", body).StatusCode != http.StatusAccepted {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
}

// A body that announces more than any may have is refused for that, and makes nobody give way for
// room that it never gets.
func TestIngestOfAnnouncedLengths(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	server := httptest.NewServer(s.api)
	t.Cleanup(server.Close) // after the connections
	send := func(length, encoding, body string) net.Conn {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST /logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
			"%sContent-Length: %s\r\n\r\n%s", balancer, encoding, length, body)
		return conn
	}
	status := func(conn net.Conn) string {
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		answer := make([]byte, 12)
		_, _ = io.ReadFull(conn, answer)
		return string(answer)
	}
	slow := send("2000", "", strings.Repeat(" ", 1000))
	time.Sleep(5500 * time.Millisecond) // its patience is used up, and it may have to give way
	for _, length := range []string{"8388609", "33554433", "41000000", "9223372036854775807"} {
		if got := status(send(length, "", " ")); got != "HTTP/1.1 413" {
			t.Errorf("a body of %s bytes: %q; want 413", length, got)
		}
	}
	for _, length := range []string{"33554433", "9223372036854775807"} { // compressed, it may be anything
		send(length, "Content-Encoding: gzip\r\n", "\x1f\x8b")
	}
	time.Sleep(200 * time.Millisecond)
	fmt.Fprint(slow, strings.Repeat(" ", 998)+"{}")
	if got := status(slow); got != "HTTP/1.1 202" {
		t.Errorf("a slow body beside them: %q; want 202", got)
	}
}

// Bodies that stall, or come a byte at a time, give way to others, soon; one that is merely
// large does not.
func TestIngestOutlivesStalledBodies(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	server := httptest.NewServer(s.api)
	defer server.Close()
	const stalled = 5
	answers := make(chan string, stalled)
	for n := range stalled {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() { // reads meanwhile: what is sent after the answer may reset the connection
			answer := make([]byte, 12)
			_, _ = io.ReadFull(conn, answer)
			answers <- string(answer)
		}()
		go func() {
			fmt.Fprintf(conn, "POST /logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: "+
				"application/json\r\nContent-Length: %d\r\n\r\n",
				balancer, logbuf.MaxBody)
			_, _ = conn.Write(bytes.Repeat([]byte(" "), logbuf.MaxBody-1000))
			for range 500 { // some of them come slowly
				time.Sleep(10 * time.Millisecond)
				if n%2 == 0 {
					if _, err := conn.Write([]byte(" ")); err != nil {
						break
					}
				}
			}
		}()
	}
	begun := time.Now()
	for status := 0; status != http.StatusAccepted; time.Sleep(50 * time.Millisecond) {
		status = s.do(balancer, "POST", "/logs", strings.Repeat(" ", 1<<20)+"{}").StatusCode
		if took := time.Since(begun); took > 30*time.Second {
			t.Fatalf("nobody's logs are taken for %s", took)
		}
		if time.Since(begun) < time.Second {
			status = 0 // until all the others have come so far
		}
	}
	told := false
	for n := 0; n < stalled && !told; n++ {
		select {
		case answer := <-answers:
			told = answer == "HTTP/1.1 429"
		case <-time.After(15 * time.Second):
		}
	}
	if !told {
		t.Error("no stalled body was told that it gave way")
	}
}
