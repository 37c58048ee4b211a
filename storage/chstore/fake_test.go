package chstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// password is in every connection string of these tests, and must be in no error.
const password = "hunter2/hunter2 ?"

// A fakeServer answers as ClickHouse does, with whatever a test wants. What real servers answer is
// tested in test/clickhouse.
type fakeServer struct {
	*httptest.Server

	mu   sync.Mutex
	sent []string // the first words of all statements but questions about the tables and the time

	slept time.Duration // how far the time of the server is beyond fakeNow

	// answer answers a statement, and returns false when it is to be answered as usual.
	answer func(w http.ResponseWriter, text string, data []byte) bool
}

func newFake(t testing.TB) *fakeServer {
	f := &fakeServer{}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	text := r.URL.Query().Get("query")
	if text == "" {
		text, data = string(data), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.Contains(r.URL.String(), "hunter2") || r.Header.Get("X-ClickHouse-Key") != password {
		refuse(w, codeAuthentication)
		return
	}
	if f.answer != nil && f.answer(w, text, data) {
		return
	}
	switch {
	case strings.Contains(text, "system.settings"): // an old version knows some
		fmt.Fprintln(w, "join_use_nulls\ngroup_by_overflow_mode\nof_no_interest")
	case strings.Contains(text, "system.tables"):
		for _, t := range tables() {
			fmt.Fprintln(w, t.name)
		}
	case strings.Contains(text, "/ 86400) FROM forgotten_days"): // none is
	case strings.Contains(text, "now64(6))"):
		_, _ = w.Write(binary.LittleEndian.AppendUint64(nil, uint64(fakeNow().Add(f.slept).UnixMicro())))
	default:
		f.sent = append(f.sent, strings.Join(strings.Fields(text)[:3], " "))
	}
}

// fakeNow is what the clock of the server says.
func fakeNow() time.Time { return time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC) }

// refuse answers with an exception.
func refuse(w http.ResponseWriter, code int) { complain(w, code, "no") }

func complain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, "Code: %d. DB::Exception: %s. (NO)\nstack", code, text)
}

func (f *fakeServer) sink(t testing.TB) *Sink {
	t.Helper()
	u, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSink(
		(&url.URL{Scheme: "clickhouse", Host: u.Host, User: url.UserPassword("u", password)}).String(),
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// entry makes an entry of so long before the server's time.
func entry(n byte, ago time.Duration) logbuf.Entry {
	return logbuf.Entry{ID: uuid.UUID{15: n}, Time: fakeNow().Add(-ago), Model: "m"}
}

// refusing answers inserts that hold some text with an exception.
func refusing(text string, code int) func(http.ResponseWriter, string, []byte) bool {
	return func(w http.ResponseWriter, statement string, data []byte) bool {
		if !strings.HasPrefix(statement, "INSERT INTO access_logs") || !bytes.Contains(data, []byte(text)) {
			return false
		}
		refuse(w, code)
		return true
	}
}
