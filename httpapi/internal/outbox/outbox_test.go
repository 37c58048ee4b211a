package outbox_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/httpapi/internal/room"
)

const (
	large = 8 << 20
	most  = 8                // of these are held at once
	stall = 31 * time.Second // is too long for one that reads nothing
)

// A site is a server on connections without buffers: what is not read is not sent.
type site struct {
	t       *testing.T
	conns   chan net.Conn
	box     *outbox.Outbox
	refused atomic.Int64 // answers for which there was no room
}

// serve serves answers made by a handler, in the bubble of the test.
func serve(t *testing.T, handler http.HandlerFunc) *site {
	s := &site{t: t, conns: make(chan net.Conn), box: outbox.New()}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := s.box.Answer(w, r)
		defer a.Close()
		handler(a, r)
		if err := a.End(); !errors.Is(err, outbox.ErrCrowded) {
			return
		}
		s.refused.Add(1)
		if !a.Reset() {
			panic(http.ErrAbortHandler)
		}
		a.WriteHeader(http.StatusServiceUnavailable)
		if err := a.End(); err != nil {
			t.Error(err)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return s
}

func (s *site) Accept() (net.Conn, error) {
	if c, ok := <-s.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (s *site) Close() error   { close(s.conns); return nil }
func (s *site) Addr() net.Addr { return &net.TCPAddr{} }

// A visitor is a client that reads only when it is told to.
type visitor struct {
	*site
	net.Conn
	in *bufio.Reader
}

func (s *site) visit() visitor {
	ours, theirs := net.Pipe()
	s.conns <- theirs
	s.t.Cleanup(func() { _ = ours.Close() })
	return visitor{s, ours, bufio.NewReader(ours)}
}

func (v visitor) ask(method string) visitor {
	if _, err := fmt.Fprintf(v, "%s / HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n", method); err != nil {
		v.t.Error(err)
	}
	synctest.Wait()
	return v
}

// read reads the answer, and returns its status and how many bytes it has.
func (v visitor) read() (status int, n int64, err error) {
	resp, err := http.ReadResponse(v.in, nil)
	if err != nil {
		return 0, 0, err
	}
	n, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, n, err
}

func (v visitor) wants(status int, n int64) {
	v.t.Helper()
	if gotStatus, got, err := v.read(); err != nil || gotStatus != status || got != n {
		v.t.Errorf("status %d with %d bytes, %v; want %d with %d", gotStatus, got, err, status, n)
	}
}

// write answers with so many bytes.
func write(w io.Writer, n int) error {
	_, err := w.Write(bytes.Repeat([]byte("x"), n))
	return err
}

func largeAnswer(w http.ResponseWriter, _ *http.Request) { _ = write(w, large) }

// However many read slowly, what is held for them is bounded; the slowest are given up as soon as they
// had their time and others need the room, and small answers are always given.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		size := large
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _ = write(w, size) })
		var slow []visitor
		for range most {
			slow = append(slow, s.visit().ask("GET"))
			time.Sleep(time.Millisecond) // so that the first would be the slowest, if it did not read
		}
		s.visit().ask("GET").wants(http.StatusServiceUnavailable, 0)
		size = 1000
		s.visit().ask("GET").wants(http.StatusOK, 1000)
		size = large
		time.Sleep(room.Patience / 2)
		reads, err := http.ReadResponse(slow[0].in, nil) // it is slow, but it reads
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(reads.Body, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		size = 1 << 19 // as much as was read is free again
		s.visit().ask("GET").wants(http.StatusOK, 1<<19)
		size = large
		time.Sleep(room.Patience/2 + time.Second)
		s.visit().ask("GET").wants(http.StatusOK, large)
		if n, err := io.Copy(io.Discard, reads.Body); n != large-1<<20 || err != nil {
			t.Errorf("the one that reads gets %d bytes, %v; want all", n, err)
		}
		cut := 0
		for _, v := range slow[1:] {
			switch _, n, err := v.read(); {
			case err != nil:
				cut++
			case n != large:
				t.Errorf("one that reads late gets %d bytes, want all", n)
			}
		}
		if got := s.refused.Load(); cut != 1 || got != 1 {
			t.Errorf("%d were broken off and %d refused, want one of each", cut, got)
		}
	})
}

// Who reads nothing loses the connection, though nobody needs the room.
func TestWhoReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, largeAnswer)
		v := s.visit().ask("GET")
		time.Sleep(stall)
		if _, n, err := v.read(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, %v; want that it breaks off", n, err)
		}
	})
}

// Who reads a little now and then is given time, as long as nobody needs the room.
func TestWhoReadsALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, largeAnswer).visit().ask("GET")
		buf := make([]byte, 128<<10)
		for range 40 {
			time.Sleep(stall - 2*time.Second)
			if _, err := io.ReadFull(v.in, buf); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The answer to a request that has changed something is given, whether there is room or not.
func TestAnswersToChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, largeAnswer)
		for range most {
			s.visit().ask("GET")
		}
		s.visit().ask("POST").wants(http.StatusOK, large)
	})
}

// The time of an answer ends with it: a connection may rest for long, where the server allows it.
func TestConnectionsAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, largeAnswer).visit()
		for range 3 {
			v.ask("GET").wants(http.StatusOK, large)
			time.Sleep(10 * stall)
		}
	})
}

// What is flushed goes at once, and does not wait for what is written later; then no other answer
// can be given.
func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const part, parts = 100_000, 5
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for range parts {
				if err := write(outbox.Through(w), part); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * stall)
			}
		})
		v := s.visit().ask("GET")
		resp, err := http.ReadResponse(v.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range parts {
			start := time.Now()
			if _, err := io.ReadFull(resp.Body, make([]byte, part)); err != nil {
				t.Fatalf("part %d: %v", i, err)
			}
			if waited := time.Since(start); i > 0 && waited != 10*stall {
				t.Errorf("part %d came after %v", i, waited)
			}
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != 0 || err != nil {
			t.Errorf("%d bytes more, %v", n, err)
		}
	})
}

// A stream that finds no room is broken off: whoever reads it sees that it has no end.
func TestStreamsBreakOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Stream") != "" {
				if err := write(outbox.Through(w), 1000); err != nil {
					t.Error(err)
				}
				<-rest
			}
			_ = write(w, large)
		})
		v := s.visit()
		if _, err := io.WriteString(v, "GET / HTTP/1.1\r\nHost: site\r\nX-Stream: 1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(v.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range most {
			s.visit().ask("GET")
		}
		close(rest)
		if n, err := io.Copy(io.Discard, resp.Body); n != 1000 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, %v; want 1000, and that it breaks off", n, err)
		}
	})
}

// What is sent through takes no room, however much it is.
func TestThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		through := false
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if through {
				_ = write(outbox.Through(w), large)
				return
			}
			largeAnswer(w, r)
		})
		for range most {
			s.visit().ask("GET")
		}
		through = true
		s.visit().ask("GET").wants(http.StatusOK, large)
	})
}

// What was not sent can be dropped, with what its headers say of it.
func TestReset(t *testing.T) {
	w := httptest.NewRecorder()
	a := outbox.New().Answer(w, httptest.NewRequest(http.MethodGet, "/", nil))
	defer a.Close()
	a.Header().Set("Content-Encoding", "gzip")
	a.Header().Set("X-Request-ID", "1")
	if err := write(a, large); err != nil {
		t.Fatal(err)
	}
	if !a.Reset() || a.Status() != 0 {
		t.Error("an answer of which nothing was sent cannot be dropped")
	}
	a.WriteHeader(http.StatusTeapot)
	if err := errors.Join(write(a, 3), a.End()); err != nil {
		t.Fatal(err)
	}
	h := w.Result().Header
	if w.Code != http.StatusTeapot || w.Body.String() != "xxx" || h.Get("Content-Encoding") != "" ||
		h.Get("X-Request-ID") != "1" {
		t.Errorf("status %d, %q, %v", w.Code, w.Body, h)
	}
	if a.Reset() {
		t.Error("an answer that was sent can be dropped")
	}
}
