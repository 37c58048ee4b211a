//go:build clickhouse

package clickhouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/storage/storagetest"
	"github.com/ez-api/ez-api/test/clickhouse"
)

var server *clickhouse.Server

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ez-clickhouse")
	if err == nil {
		server, err = clickhouse.Start(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Stop()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var databases atomic.Int64

// newDatabase returns the name of a database that nobody uses.
func newDatabase() string { return fmt.Sprint("test_", databases.Add(1)) }

// openSink returns a sink on a database whose hours are closed as soon as may be.
func openSink(t testing.TB, database string) *chstore.Sink {
	t.Helper()
	s, err := chstore.NewSink(server.DSN(database), &chstore.SinkOptions{Settle: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// query runs a statement beside the sink.
func query(t testing.TB, database, text string) string {
	t.Helper()
	answer, err := server.Ask(t.Context(), database, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return answer
}

// poison is a model that the tables of tests refuse.
const poison = "poison"

func TestSink(t *testing.T) {
	storagetest.RunSink(t, func(t testing.TB) storagetest.SinkHarness {
		database := newDatabase()
		sink := openSink(t, database)
		if _, err := sink.Clock(t.Context()); err != nil { // makes the tables
			t.Fatal(err)
		}
		return storagetest.SinkHarness{
			Sink: sink, Second: openSink(t, database), Days: 50,
			Poison: func(t testing.TB, e *logbuf.Entry) {
				if e.Model != poison {
					query(
						t,
						database,
						"ALTER TABLE access_logs ADD CONSTRAINT IF NOT EXISTS no_poison CHECK model != 'poison'",
					)
					e.Model = poison
				}
			},
			Dead: func(t testing.TB, id uuid.UUID) (n int) {
				text := query(
					t,
					database,
					fmt.Sprintf("SELECT count() FROM log_dead_letter FINAL WHERE id = unhex('%x')", id[:]),
				)
				if _, err := fmt.Sscan(text, &n); err != nil {
					t.Fatal(err)
				}
				return n
			},
			Close: func(t testing.TB) { _ = sink.Close() },
		}
	})
}

// Where an operator's constraints refuse many entries of a batch, those go to the dead letters, and the
// others are stored in one part, although blocks of the profile are small.
func TestPoisonThroughout(t *testing.T) {
	t.Parallel()
	for name, profile := range map[string][]setting{"as it is": nil, "small blocks": {{"max_insert_block_size", "7"}}} {
		database := newDatabase()
		s, err := chstore.NewSink(profiled(t, database, profile), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Clock(t.Context()); err != nil { // makes the tables
			t.Fatal(err)
		}
		query(t, database, "ALTER TABLE access_logs ADD CONSTRAINT no_poison CHECK model != 'poison'")
		query(t, database, "ALTER TABLE access_logs ADD CONSTRAINT no_status CHECK status != 499")
		var entries []logbuf.Entry
		for i := range 240 {
			e := spent(i)
			e.Time = day.Add(time.Duration(i) * time.Second)
			switch i % 24 {
			case 3:
				e.Model = poison
			case 17:
				e.Status = 499
			}
			entries = append(entries, e)
		}
		got, err := s.Write(t.Context(), logbuf.Batch{Entries: entries})
		if want := (logbuf.Result{Stored: 220, Dead: 20}); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
		for text, want := range map[string]string{
			"SELECT count() FROM access_logs FINAL":     "220",
			"SELECT count() FROM log_dead_letter FINAL": "20",
		} {
			if got := query(t, database, text); got != want {
				t.Errorf("%s: %s: %s; want %s", name, text, got, want)
			}
		}
		parts := "SELECT count() FROM system.parts WHERE database = '" + database + "' AND table = 'access_logs' AND active"
		if got := query(t, database, parts); profile == nil && got != "1" {
			t.Errorf("%s: %s parts; want one", name, got)
		}
	}
}

// Where there is no cluster, and no macros are set, tables that replicate themselves cannot be
// made. The server understands what it is asked for all the same, and an operator is told.
func TestReplicated(t *testing.T) {
	t.Parallel()
	for option, want := range map[string]string{"replicated=true": "139", "cluster=main": "701"} {
		s, err := chstore.NewSink(server.DSN(newDatabase())+"?"+option, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, err = s.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{spent(1)}})
		if !errors.Is(err, logbuf.ErrPaused) || !strings.Contains(err.Error(), "Code: "+want) ||
			strings.Contains(err.Error(), clickhouse.Password) {
			t.Errorf("%s: %v; want ErrPaused with code %s", option, err, want)
		}
	}
}

// The statements that make tables for several hosts cannot be carried out on one, but the engine reads each: it is
// given all of them to explain, in the place of doing them.
func TestStatementsForReplicas(t *testing.T) {
	t.Parallel()
	explained := func(option string) (n int64) {
		var read atomic.Int64
		front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: server.Addr()})
			text, err := io.ReadAll(r.In.Body)
			if err != nil {
				t.Error(err)
			}
			if bytes.HasPrefix(text, []byte("CREATE ")) {
				read.Add(1)
				text = append([]byte("EXPLAIN AST "), text...)
			}
			r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		}})
		defer front.Close()
		dsn := strings.Replace(server.DSN(newDatabase()), server.Addr(), front.Listener.Addr().String(), 1)
		s, err := chstore.NewSink(dsn+"?"+option, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		// Nothing was made, so what comes after that has no database.
		if _, err := s.Clock(t.Context()); err != nil && !strings.Contains(err.Error(), "UNKNOWN_DATABASE") {
			t.Errorf("%q: %v", option, err)
		}
		return read.Load()
	}
	alone := explained("")
	for _, option := range []string{"replicated=true", "cluster=main"} {
		if n := explained(option); n != alone || n < 2 {
			t.Errorf("%q: the engine has read %d statements, and %d of a server that is alone", option, n, alone)
		}
	}
}

// A wrong password pauses the sink, and is not shown.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s, err := chstore.NewSink(strings.Replace(server.DSN("default"), "ch-s3cret", "hunter2", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Logs(t.Context(), logbuf.LogQuery{})
	if !errors.Is(err, logbuf.ErrPaused) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v; want ErrPaused without the password", err)
	}
}
