package chstore

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

func TestDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"clickhouse://h":                                  "http://h:8123/ default default ",
		"clickhouse://u:p%2F%40@h:1/db":                   "http://h:1/ u db p/@",
		"clickhouse://u@[::1]/db?secure=true":             "https://[::1]:8443/ u db ",
		"clickhouse://h/db?cluster=main&replicated=false": "http://h:8123/ default db ",
	} {
		a, err := parseDSN(dsn)
		if got := strings.Join([]string{a.url.String(), a.user, a.database, a.password}, " "); err != nil ||
			got != want {
			t.Errorf("%s: %q, %v; want %q", dsn, got, err, want)
		}
	}
	for dsn, want := range map[string]string{
		"":                                        "must be clickhouse://",
		"http://u:hunter2@h":                      "must be clickhouse://",
		"clickhouse://u:hunter2@":                 "must be clickhouse://",
		"clickhouse://u:hunter2@h:port":           "must be clickhouse://",
		"clickhouse://u:hunter2 /@h":              "must be clickhouse://",
		"clickhouse:u:hunter2@h":                  "must be clickhouse://",
		"clickhouse://u:hunter2@h:9000":           "HTTP interface",
		"clickhouse://u:hunter2@h:9440?secure=1":  "HTTP interface",
		"clickhouse://u:hunter2@a:1,b:2/db":       "one host",
		"clickhouse://u:hunter2@h/a`hunter2":      "letters, digits",
		"clickhouse://u:hunter2@h?secure=hunter2": "secure in the connection string must be true or false",
		"clickhouse://u:hunter2@h?cluster=a'b":    "cluster in the connection string",
		"clickhouse://u:hunter2@h?hunter2=1":      "no others",
		"clickhouse://u:hunter2@h?ca=/hunter2":    "cannot be read",
	} {
		_, err := NewSink(dsn, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want an error with %q", dsn, err, want)
		}
	}
}

// exception and status answer with nothing but an error.
func exception(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { refuse(w, code) }
}

func status(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

// An error says whether time or an operator helps, and never holds the password.
func TestErrors(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the credentials went elsewhere: %v", r.Header)
	}))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   error
		text   string
	}{
		"no such table":   {exception(codeUnknownTable), logbuf.ErrPaused, "Code: 60"},
		"no right":        {exception(codeAccessDenied), logbuf.ErrPaused, "Code: 497"},
		"wrong password":  {exception(codeAuthentication), logbuf.ErrPaused, "Code: 516"},
		"too many parts":  {exception(codeTooManyParts), logbuf.ErrUnavailable, "Code: 252"},
		"no space":        {exception(codeNoSpace), logbuf.ErrUnavailable, "Code: 243"},
		"read only":       {exception(codeTableReadOnly), logbuf.ErrUnavailable, "Code: 242"},
		"too long":        {exception(codeTimeout), logbuf.ErrUnavailable, "Code: 159"},
		"an empty answer": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, logbuf.ErrUnavailable, "EOF"},
		"a gateway":       {status(http.StatusBadGateway), logbuf.ErrUnavailable, "502"},
		"no ClickHouse":   {status(http.StatusTeapot), logbuf.ErrPaused, "418"},
		"another protocol": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("Port 9001 is for clickhouse-client program"))
		}, logbuf.ErrPaused, "8123"},
		"an error behind a good status": {func(w http.ResponseWriter) {
			w.Header().Set("X-ClickHouse-Exception-Code", "241")
			_, _ = w.Write([]byte("Code: 241. DB::Exception: memory"))
		}, logbuf.ErrUnavailable, "Code: 241"},
		"a redirect": {func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, logbuf.ErrPaused, "307"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.answer = func(w http.ResponseWriter, _ string, _ []byte) bool { c.answer(w); return true }
			s := f.sink(t)
			_, written := s.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{entry(1, 0)}})
			_, logs := s.Logs(t.Context(), logbuf.LogQuery{})
			_, usage := s.Usage(t.Context(), logbuf.UsageQuery{})
			_, keys := s.KeyUsage(t.Context(), map[int64][]time.Time{1: {{}}})
			_, ready := s.Ready(t.Context())
			for _, err := range []error{written, logs, usage, keys, ready} {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) ||
					strings.Contains(err.Error(), "hunter2") ||
					strings.Contains(err.Error(), "stack") {
					t.Errorf("%v; want %v with %q", err, c.want, c.text)
				}
			}
		})
	}
	s, err := NewSink("clickhouse://u:hunter2@127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Logs(t.Context(), logbuf.LogQuery{}); !errors.Is(err, logbuf.ErrUnavailable) ||
		strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a server that is not there: %v", err)
	}
	_ = s.Close()
	if _, err := s.Logs(t.Context(), logbuf.LogQuery{}); !errors.Is(err, logbuf.ErrClosed) {
		t.Errorf("a sink that is closed: %v", err)
	}
}

// What is refused goes to the dead letters, and the rest is stored.
func TestPoison(t *testing.T) {
	f := newFake(t)
	f.answer = refusing("poison", codeConstraint)
	entries := []logbuf.Entry{entry(1, 0), entry(2, 0), entry(3, 0), entry(4, 0), entry(5, 0)}
	entries[2].Model = "poison"
	entries[4].Time = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	got, err := f.sink(t).Write(t.Context(), logbuf.Batch{Segment: uuid.New(), To: 5, Entries: entries})
	if want := (logbuf.Result{Stored: 3, Dead: 2}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	want := []string{"INSERT INTO access_logs", "INSERT INTO access_logs", "INSERT INTO log_dead_letter"}
	if !slices.Equal(f.sent, want) {
		t.Errorf("sent %q; want %q", f.sent, want)
	}

	// A schema that is wrong buries nothing.
	f.sent, f.answer = nil, refusing("m", codeNoColumn)
	if _, err := f.sink(t).Write(t.Context(), logbuf.Batch{Entries: entries}); !errors.Is(
		err,
		logbuf.ErrPaused,
	) ||
		f.sent != nil {
		t.Errorf("a column that is missing: %v, sent %q", err, f.sent)
	}
}

// Where a constraint refuses many entries of a batch, the others go in one insert, and each of the refused
// takes two statements. Where it refuses too many, nothing is set aside, and an operator is told why.
func TestPoisonThroughout(t *testing.T) {
	const n, each = 5000, 20
	for _, c := range []struct {
		name          string
		refused, also func(model string) bool // constraints, in the order in which they are looked at
		dead          int                     // -1: the batch waits
		numbered      bool
	}{
		{"one in 20", func(m string) bool { return m == "b" }, nil, n / each, true},
		{"and some by another constraint", func(m string) bool { return m == "b" },
			func(m string) bool { return m == "c" }, 2 * n / each, true},
		{"all", func(string) bool { return true }, nil, -1, true},
		{"one in 20, by an error that names no row", func(m string) bool { return m == "b" }, nil, -1, false},
	} {
		f := newFake(t)
		parts, statements, stored := 0, 0, make(map[uuid.UUID]bool)
		f.answer = func(w http.ResponseWriter, text string, data []byte) bool {
			if !strings.HasPrefix(text, "INSERT INTO access_logs") {
				return false
			}
			statements++
			var rows []logbuf.Entry
			for r := (rowReader{rest: data}); r.more(); {
				e, _ := readLog(&r)
				rows = append(rows, e)
			}
			for _, refused := range []func(string) bool{c.refused, c.also} {
				if refused == nil {
					continue
				}
				if i := slices.IndexFunc(rows, func(e logbuf.Entry) bool { return refused(e.Model) }); i >= 0 {
					at := ""
					if c.numbered {
						at = fmt.Sprintf(" at row %d. Expression: (x)", i+1)
					}
					complain(w, codeConstraint, "Constraint `no` for table `logs`.access_logs is violated"+at)
					return true
				}
			}
			for i := range rows {
				stored[rows[i].ID] = true
			}
			parts++
			return true
		}
		entries := make([]logbuf.Entry, n)
		for i := range entries {
			entries[i] = entry(0, 0)
			entries[i].ID, entries[i].Model = uuid.New(), string(rune('a'+i*7%each))
		}
		got, err := f.sink(t).Write(t.Context(), logbuf.Batch{Segment: uuid.New(), To: n, Entries: entries})
		if c.dead < 0 {
			if !errors.Is(err, logbuf.ErrPaused) || !strings.Contains(err.Error(), "is violated") || len(f.sent) > 0 {
				t.Errorf("%s: %+v, %v, sent %q; want ErrPaused with the reason, and no dead letters", c.name, got, err, f.sent)
			}
			continue
		}
		if want := (logbuf.Result{Stored: n - c.dead, Dead: c.dead}); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, want)
		}
		for i := range entries {
			bad := c.refused(entries[i].Model) || c.also != nil && c.also(entries[i].Model)
			if stored[entries[i].ID] == bad {
				t.Fatalf("%s: entry %d is stored: %v", c.name, i, !bad)
			}
		}
		if most := 2*c.dead + 4*n/probeRows; parts != 1 || statements > most {
			t.Errorf("%s: %d parts by %d inserts; want one by at most %d", c.name, parts, statements, most)
		}
	}
}

// The search for refused entries ends after a time, however few were found, and nothing of it is set aside.
func TestPoisonTakesLong(t *testing.T) {
	why, e := &serverError{code: codeConstraint, text: "is violated"}, entry(1, 0)
	for _, c := range []struct {
		since time.Duration
		over  bool
	}{{siftWithin - 5*time.Second, false}, {siftWithin + time.Second, true}} {
		w := writer{sink: newFake(t).sink(t), sifting: time.Now().Add(-c.since)}
		err := w.buryRefused(&e, why, &w.refused, maxRefused)
		if over := err != nil; over != c.over || w.dead == 1 == c.over || over && !errors.Is(err, why) {
			t.Errorf("after %s: %v, %d dead letters; want an end: %t", c.since, err, w.dead, c.over)
		}
	}
}

// Whoever writes into an hour that may be closed marks it before and after; without the marks
// nothing is stored for sure.
func TestMarks(t *testing.T) {
	const log, mark = "INSERT INTO access_logs", "INSERT INTO usage_marks"
	for _, c := range []struct {
		ago  time.Duration
		want []string
	}{
		{0, []string{log}},
		{-time.Hour, []string{log}},
		{time.Hour, []string{log}}, // 11:00: its hour ends now
		{time.Hour + time.Microsecond, []string{mark, log, mark}},
		{99 * time.Hour, []string{mark, log, mark}},
	} {
		f := newFake(t)
		b := logbuf.Batch{Entries: []logbuf.Entry{entry(1, 0), entry(2, c.ago)}}
		if _, err := f.sink(t).Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.sent, c.want) {
			t.Errorf("%s ago: sent %q; want %q", c.ago, f.sent, c.want)
		}
	}
	for nth := range 2 {
		f, marks := newFake(t), 0
		f.answer = func(w http.ResponseWriter, text string, _ []byte) bool {
			if !strings.HasPrefix(text, mark) {
				return false
			}
			if marks++; marks == nth+1 {
				refuse(w, codeTooManyParts)
				return true
			}
			return false
		}
		b := logbuf.Batch{Entries: []logbuf.Entry{entry(1, 9*time.Hour)}}
		if _, err := f.sink(t).Write(t.Context(), b); err == nil {
			t.Errorf("mark %d was not kept, and Write says nothing", nth+1)
		}
	}
}

// While this machine is suspended the server's clock goes on: an hour that ended meanwhile is marked,
// whether that was before the write or in the middle of it.
func TestMarksAfterSuspension(t *testing.T) {
	const log, mark = "INSERT INTO access_logs", "INSERT INTO usage_marks"
	b := logbuf.Batch{Entries: []logbuf.Entry{entry(1, 0)}}
	f := newFake(t)
	s := f.sink(t)
	if _, err := s.Clock(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.slept = 3 * time.Hour
	if _, err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if want := []string{mark, log, mark}; !slices.Equal(f.sent, want) {
		t.Errorf("after a suspension: sent %q; want %q", f.sent, want)
	}
	f = newFake(t)
	f.answer = func(_ http.ResponseWriter, text string, _ []byte) bool {
		if strings.HasPrefix(text, log) {
			f.slept = 3 * time.Hour
		}
		return false
	}
	if _, err := f.sink(t).Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if want := []string{log, mark}; !slices.Equal(f.sent, want) {
		t.Errorf("with a suspension in the middle: sent %q; want %q", f.sent, want)
	}
}

// Tables that are missing are made, with the engine and on the cluster that are asked for.
func TestTables(t *testing.T) {
	for dsn, want := range map[string][]string{
		"clickhouse://h/logs": {
			"CREATE TABLE IF NOT EXISTS `logs`.access_logs (", "ENGINE = ReplacingMergeTree(version) ",
			"non_replicated_deduplication_window",
		},
		"clickhouse://h/logs?replicated=true": {
			"CREATE TABLE IF NOT EXISTS `logs`.access_logs (",
			"ENGINE = ReplicatedReplacingMergeTree(",
			"('/clickhouse/tables/{shard}/logs/access_logs', '{replica}', version) PARTITION",
		},
		"clickhouse://h/logs?cluster=main": {
			"CREATE TABLE IF NOT EXISTS `logs`.access_logs ON CLUSTER `main` (",
			"ENGINE = ReplicatedReplacingMergeTree(version) ",
		},
	} {
		a, err := parseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		text := a.create(tables()[0])
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %s lacks %s", dsn, text, part)
			}
		}
	}
	f, missing := newFake(t), true
	f.answer = func(w http.ResponseWriter, text string, _ []byte) bool {
		if strings.HasPrefix(text, "CREATE DATABASE") {
			refuse(w, codeAccessDenied) // it may be there
			return true
		}
		return missing && strings.Contains(text, "system.tables")
	}
	s := f.sink(t)
	for range 2 {
		if _, err := s.Clock(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.sent) != len(tables()) {
		t.Errorf("made %q; want each of %d tables once", f.sent, len(tables()))
	}
}

// Every statement is sent with the settings that decide what it does, as far as the server knows them; where the
// profile forbids that, an operator is told so.
func TestPinnedSettings(t *testing.T) {
	f := newFake(t)
	var asked []url.Values
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.Query()
		if asked = append(asked, sent); sent.Has("sort_overflow_mode") && len(asked) == 1 {
			refuse(w, codeUnknownSetting)
			return
		}
		f.ServeHTTP(w, r)
	})
	s := f.sink(t)
	if _, err := s.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{entry(1, time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	for i, sent := range asked {
		if sent.Get("limit") != "0" || i > 1 && sent.Get("group_by_overflow_mode") != "throw" ||
			i > 0 && sent.Has("sort_overflow_mode") || sent.Has("of_no_interest") {
			t.Errorf("statement %d was sent with %v", i, sent)
		}
	}
	for _, code := range []int{codeReadOnly, codeSettingBounds} {
		f := newFake(t)
		f.answer = func(w http.ResponseWriter, _ string, _ []byte) bool { refuse(w, code); return true }
		_, err := f.sink(t).Logs(t.Context(), logbuf.LogQuery{})
		if !errors.Is(err, logbuf.ErrPaused) || !strings.Contains(err.Error(), "the profile of the user forbids") {
			t.Errorf("%d: %v", code, err)
		}
	}
}
