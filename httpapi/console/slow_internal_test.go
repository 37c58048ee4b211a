package console

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/httpapi/internal/outbox"
)

// deafBrowser reads nothing, until its connection is closed.
type deafBrowser struct {
	*httptest.ResponseRecorder
	closed chan struct{}
	once   *sync.Once
}

func (b deafBrowser) Write([]byte) (int, error) {
	<-b.closed
	return 0, os.ErrDeadlineExceeded
}

func (b deafBrowser) SetWriteDeadline(at time.Time) error {
	if !at.IsZero() && !at.After(time.Now()) {
		b.once.Do(func() { close(b.closed) })
	}
	return nil
}

// Browsers that do not read their tables do not take the memory: beyond its bound a browser is told to
// come again, and no more rows are read for those whose connections were closed.
func TestSlowBrowsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			rows, pages = 100, 3
			browsers    = 8
		)
		var read atomic.Int64 // pages of rows
		c := &Console{outbox: outbox.New(), now: time.Now, load: func() error { return nil }}
		c.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			out := newTable(&page{Console: c, w: w, r: r}, "logs", "text")
			for range pages {
				read.Add(1)
				for range rows {
					out.row(strings.Repeat("x", 80<<10)) // 8 MB a page
				}
				if !out.send() {
					return
				}
			}
		})
		ask := func(w http.ResponseWriter) {
			c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/logs.csv", nil))
		}
		var ended sync.WaitGroup
		var deaf []deafBrowser
		for range browsers {
			b := deafBrowser{httptest.NewRecorder(), make(chan struct{}), new(sync.Once)}
			deaf = append(deaf, b)
			ended.Go(func() { ask(b) })
			synctest.Wait()
		}
		w := httptest.NewRecorder()
		ask(w)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" ||
			w.Header().Get("Content-Disposition") != "" {
			t.Errorf("beside %d slow ones: %d, %v; want 503, no file, and a time", browsers, w.Code, w.Header())
		}
		time.Sleep(6 * time.Second)
		w = httptest.NewRecorder()
		ask(w)
		if lines := strings.Count(w.Body.String(), "\n"); w.Code != http.StatusOK || lines != 1+rows*pages {
			t.Errorf("after the slow ones had their time: %d, %d lines", w.Code, lines)
		}
		for _, b := range deaf {
			_ = b.SetWriteDeadline(time.Now())
		}
		ended.Wait()
		if read, want := read.Load(), int64(browsers+1+pages); read != want {
			t.Errorf("%d pages of rows were read, want %d", read, want)
		}
	})
}
