package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A load posts bodies to a server from a number of callers, each over a connection
// of its own. It writes requests itself: net/http's client takes as much of
// the processors, which the server needs as well, as the server does.
type load struct {
	addr    string
	head    string
	callers int
}

func newLoad(p *process, token string, callers int) *load {
	addr := strings.TrimPrefix(p.url, "http://")
	head := "POST /logs HTTP/1.1\r\nHost: " + addr + "\r\nContent-Type: application/json\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	return &load{addr, head, callers}
}

// A caller is one connection.
type caller struct {
	load   *load
	conn   net.Conn
	answer *bufio.Reader
	head   []byte
}

// post sends one body, and returns the status of the answer.
func (c *caller) post(ctx context.Context, body []byte) (status int, err error) {
	if c.conn == nil {
		if c.conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", c.load.addr); err != nil {
			return 0, err
		}
		c.answer = bufio.NewReader(c.conn)
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.head = fmt.Appendf(c.head[:0], "%sContent-Length: %d\r\n\r\n", c.load.head, len(body))
	if _, err := (&net.Buffers{c.head, body}).WriteTo(c.conn); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.answer, nil)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusTooManyRequests {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	if resp.Close {
		c.close()
	}
	return resp.StatusCode, err
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is in it any more
		c.conn = nil
	}
}

// all posts every body until it is taken, as fast as the answers come.
func (l *load) all(ctx context.Context, bodies [][]byte) error {
	return l.each(len(bodies), func(c *caller, i int) error {
		for {
			status, err := c.post(ctx, bodies[i])
			if err != nil || status == http.StatusAccepted {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// at posts bodies at so many a second, whether or not the ones before were
// answered, as far as the callers suffice. It returns which were acknowledged: a
// server may be killed meanwhile.
func (l *load) at(ctx context.Context, bodies [][]byte, perSecond float64) (acknowledged []int, took time.Duration) {
	var mu sync.Mutex
	start := time.Now()
	_ = l.each(len(bodies), func(c *caller, i int) error {
		time.Sleep(time.Until(start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		if status, err := c.post(ctx, bodies[i]); err == nil && status == http.StatusAccepted {
			mu.Lock()
			acknowledged = append(acknowledged, i)
			mu.Unlock()
		}
		return nil
	})
	return acknowledged, time.Since(start)
}

// each calls do for every number below n, from all callers, and returns the first error.
func (l *load) each(n int, do func(c *caller, i int) error) error {
	var next atomic.Int64
	errs := make(chan error, l.callers)
	for range l.callers {
		go func() {
			c := &caller{load: l}
			defer c.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					errs <- nil
					return
				}
				if err := do(c, i); err != nil {
					next.Store(int64(n)) // the others may stop
					errs <- err
					return
				}
			}
		}()
	}
	var first error
	for range l.callers {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}
