package faults_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/faults"
)

// echo is a server that says what it hears.
func echo(t *testing.T) *faults.Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	link, err := faults.NewLink(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	return link
}

// say sends a text over a new connection, and returns what comes back within a time.
func say(t *testing.T, link *faults.Link, text string, within time.Duration) string {
	t.Helper()
	conn, err := net.Dial("tcp", link.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return sayOn(conn, text, within)
}

func sayOn(conn net.Conn, text string, within time.Duration) string {
	_, _ = io.WriteString(conn, text)
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, len(text))
	n, _ := io.ReadFull(conn, buf)
	return string(buf[:n])
}

func TestLink(t *testing.T) {
	t.Parallel()
	link := echo(t)
	const long, short = 10 * time.Second, 200 * time.Millisecond
	text := strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		fault  faults.Fault
		within time.Duration
		want   string
	}{
		"nothing": {faults.Fault{}, long, text},
		"cut":     {faults.Fault{Cut: true}, long, ""},
		"silent":  {faults.Fault{Silent: true}, short, ""},
		"deaf":    {faults.Fault{Deaf: true}, short, ""},
		"limit":   {faults.Fault{Limit: 40}, long, text[:40]},
	} {
		link.Set(c.fault)
		if got := say(t, link, text, c.within); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
	link.Set(faults.Fault{Delay: 100 * time.Millisecond})
	begin := time.Now()
	if got := say(t, link, text, long); got != text || time.Since(begin) < 200*time.Millisecond {
		t.Errorf("slow: %q after %s", got, time.Since(begin))
	}
}

// A connection lives through silence, and not through a cut.
func TestLinkRecovers(t *testing.T) {
	t.Parallel()
	link := echo(t)
	conn, err := net.Dial("tcp", link.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	link.Set(faults.Fault{Silent: true})
	if got := sayOn(conn, "one", 100*time.Millisecond); got != "" {
		t.Errorf("heard %q in the silence", got)
	}
	link.Set(faults.Fault{})
	if got := sayOn(conn, "two", 10*time.Second); got != "one" {
		t.Errorf("after the silence: %q; want what was said in it", got)
	}
	link.Set(faults.Fault{Cut: true})
	link.Set(faults.Fault{})
	if got := sayOn(conn, "three", 10*time.Second); got == "three" {
		t.Error("the connection lives on after it was cut")
	}
	if got := say(t, link, "four", 10*time.Second); got != "four" {
		t.Errorf("a new connection: %q", got)
	}
}
