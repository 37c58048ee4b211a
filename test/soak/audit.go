package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/test/process"
)

// audit checks that a healed town has lost nothing.
func audit(w *town, l *load) {
	w.t.Helper()
	w.settled(2 * time.Minute)
	auditRequests(w, l)
	shipped(w)
	drained(w)
	total := auditEntries(w, l)
	auditUsage(w, total)
	auditDocuments(w)
	auditViews(w, l)
}

// shipped waits until balancers send nothing any more.
func shipped(w *town) {
	w.t.Helper()
	last := -1.0
	process.Eventually(w.t, 2*time.Minute, "balancers have sent all", func() bool {
		before := last
		last = 0
		for _, s := range w.servers {
			last += metric(w, s, "ezapi_logs_accepted_total")
		}
		time.Sleep(3 * time.Second)
		return last == before
	})
}

// drained waits until servers have stored all that they have accepted.
func drained(w *town) {
	w.t.Helper()
	for _, s := range w.servers {
		process.Eventually(w.t, 5*time.Minute, "server "+s.name+" has stored all", func() bool {
			time.Sleep(200 * time.Millisecond)
			return metric(w, s, "ezapi_logs_pending") == 0
		})
	}
}

// metric reads one of a server's metrics without labels; -1 when there is no answer.
func metric(w *town, s *member, name string) float64 {
	got, err := w.ask(s, "GET", "/metrics", w.admin, nil)
	if err != nil || got.status != http.StatusOK {
		return -1
	}
	for line := range strings.Lines(string(got.body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				w.t.Errorf("metric %s: %v", name, err)
			}
			return n
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

// A price is what a token of a model costs from a revision on, in billionths of a US dollar.
type price struct{ revision, input, output int64 }

// priceHistory reads from the change feed what every model ever cost.
func priceHistory(w *town) map[string][]price {
	w.t.Helper()
	type model struct {
		Name   string      `json:"name"`
		Input  json.Number `json:"input_price"`
		Output json.Number `json:"output_price"`
	}
	history := map[string][]price{}
	for cursor := "0"; ; {
		got, err := w.ask(w.servers[0], "GET", "/changes?kind=models&limit=500&after="+cursor, w.admin, nil)
		var page struct {
			Data []struct {
				Revision int64  `json:"revision"`
				After    *model `json:"after"`
			} `json:"data"`
			Next string `json:"next_cursor"`
		}
		if err == nil {
			err = got.read(&page)
		}
		if err != nil {
			w.t.Fatalf("changes: %v", err)
		}
		for _, change := range page.Data {
			if change.After == nil {
				continue
			}
			input, _ := change.After.Input.Int64() // whole dollars for a million tokens
			output, _ := change.After.Output.Int64()
			history[change.After.Name] = append(history[change.After.Name], price{change.Revision, 1000 * input, 1000 * output})
		}
		if page.Next == "" || page.Next == cursor || len(page.Data) == 0 {
			return history
		}
		cursor = page.Next
	}
}

// at returns the price of a revision.
func at(history []price, revision int64) (price, bool) {
	i, found := slices.BinarySearchFunc(history, revision,
		func(p price, r int64) int { return cmp.Compare(p.revision, r) })
	if !found {
		i--
	}
	if i < 0 {
		return price{}, false
	}
	return history[i], true
}

// A sum is what entries used.
type sum struct{ requests, cost int64 }

// auditEntries checks that every acknowledged entry is stored once, with what was sent, and that each
// entry costs what its model did at the revision that it names.
func auditEntries(w *town, l *load) (total sum) {
	w.t.Helper()
	history := priceHistory(w)
	db, err := pgx.Connect(w.t.Context(), w.database.DSN()+"&search_path=ezapi")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close(context.Background())
	rows, err := db.Query(w.t.Context(),
		`select id, model, input_tokens, cache_read_tokens + cache_write_tokens, output_tokens, cost_nano_usd,
		priced_revision, status from access_logs`)
	if err != nil {
		w.t.Fatal(err)
	}
	seen, unpriced := map[uuid.UUID]bool{}, 0
	var (
		id                    uuid.UUID
		model                 string
		input, cached, output int64
		revision, status      int64
		cost                  *int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &model, &input, &cached, &output, &cost, &revision, &status}, func() error {
		if seen[id] {
			w.t.Errorf("entry %s is stored twice", id)
		}
		seen[id] = true
		total.requests++
		if cost == nil {
			unpriced++
			return nil
		}
		total.cost += *cost
		p, ok := at(history[model], revision)
		if want := p.input*(input+cached) + p.output*output; status < 400 && (!ok || *cost != want) {
			w.t.Errorf("entry %s of %s costs %d as of revision %d; want %d", id, model, *cost, revision, want)
		}
		if e, ok := l.acked[id]; ok &&
			(model != fmt.Sprint("m", e.model) || input != int64(e.input) || output != int64(e.output)) {
			w.t.Errorf("entry %s is stored as another", id)
		} else if ok && revision < e.least {
			w.t.Errorf("entry %s is priced as of revision %d, though %d was applied before it was sent", id, revision, e.least)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	lost := 0
	for id := range l.acked {
		if !seen[id] {
			lost++
		}
	}
	var dead int
	if err := db.QueryRow(w.t.Context(), `select count(*) from log_dead_letter`).Scan(&dead); err != nil {
		w.t.Fatal(err)
	}
	if lost+dead+unpriced > 0 {
		w.t.Errorf("%d acknowledged entries are lost, %d are dead letters, %d have no price", lost, dead, unpriced)
	}
	w.t.Logf("%d entries are stored, %d of them acknowledged here, for %d.%09d USD", total.requests, len(l.acked)-lost,
		total.cost/1e9, total.cost%1e9)
	return total
}

// auditRequests checks that each request to a balancer which was never ended is in the logs, once.
func auditRequests(w *town, l *load) {
	w.t.Helper()
	db, err := pgx.Connect(w.t.Context(), w.database.DSN()+"&search_path=ezapi")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close(context.Background())
	var rows, requests int
	process.Eventually(w.t, 2*time.Minute, "every request is in the logs", func() bool {
		time.Sleep(500 * time.Millisecond)
		err = db.QueryRow(w.t.Context(), `select count(*), count(distinct request_id) from access_logs
			where request_id = any ($1)`, l.logged).Scan(&rows, &requests)
		return err == nil && requests == len(l.logged)
	})
	if err != nil || rows != requests {
		w.t.Errorf("%d requests have %d entries: %v", requests, rows, err)
	}
	w.t.Logf("%d requests that a balancer answered are in the logs, each once", requests)
}

// auditUsage checks that usage is the sum of the entries, at both servers.
func auditUsage(w *town, want sum) {
	w.t.Helper()
	for _, s := range w.servers {
		var page struct {
			Data []struct {
				Requests int64 `json:"requests"`
				Cost     int64 `json:"cost_nano_usd"`
			} `json:"data"`
		}
		got, err := w.ask(s, "GET", "/usage?since=3d&limit=1000", w.admin, nil)
		if err == nil {
			err = got.read(&page)
		}
		if err != nil {
			w.t.Errorf("usage at server %s: %v", s.name, err)
		}
		var total sum
		for _, row := range page.Data {
			total.requests += row.Requests
			total.cost += row.Cost
		}
		if total != want {
			w.t.Errorf("usage at server %s: %+v; the entries are %+v", s.name, total, want)
		}
	}
}

// documents reads all that is published in a Redis.
func documents(w *town, m *member) map[string]string {
	w.t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: m.url})
	defer rdb.Close()
	all := map[string]string{}
	for _, kind := range []string{"providers", "models", "bindings", "keys", "projects", "holds"} {
		docs, err := rdb.HGetAll(w.t.Context(), "{"+prefix+"}:"+kind).Result()
		if err != nil {
			w.t.Fatal(err)
		}
		for key, doc := range docs {
			all[kind+"/"+key] = doc
		}
	}
	return all
}

// auditDocuments checks that both Redis have what the catalog says, which is published anew for that.
func auditDocuments(w *town) {
	w.t.Helper()
	var center, region map[string]string
	process.Eventually(w.t, time.Minute, "the region has what the center has", func() bool {
		time.Sleep(500 * time.Millisecond)
		center, region = documents(w, w.center), documents(w, w.region)
		return difference(center, region) == ""
	})
	got, err := w.ask(w.servers[1], "POST", "/sync/snapshot", w.admin, nil)
	if err != nil || got.status != http.StatusOK {
		w.t.Errorf("publish anew: %d %s %v", got.status, got.body, err)
	}
	if d := difference(center, documents(w, w.center)); d != "" {
		w.t.Errorf("what was published is not what the catalog says: %s", d)
	}
	w.t.Logf("%d documents are right in the center and in the region", len(center))
}

// difference names a few documents that are not the same.
func difference(a, b map[string]string) string {
	var differ []string
	for key, doc := range a {
		if b[key] != doc {
			differ = append(differ, key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			differ = append(differ, key)
		}
	}
	slices.Sort(differ)
	if len(differ) > 5 {
		differ = append(differ[:5], "…")
	}
	return strings.Join(differ, ", ")
}

// auditViews checks that every balancer serves the keys that are active, and no others.
func auditViews(w *town, l *load) {
	w.t.Helper()
	active := map[int64]bool{}
	for cursor := ""; ; {
		var page struct {
			Data []struct {
				ID     int64  `json:"id"`
				Status string `json:"status"`
			} `json:"data"`
			Next string `json:"next_cursor"`
		}
		got, err := w.ask(w.servers[0], "GET", "/keys?limit=1000"+cursor, w.admin, nil)
		if err == nil {
			err = got.read(&page)
		}
		if err != nil {
			w.t.Fatalf("keys: %v", err)
		}
		for _, key := range page.Data {
			active[key.ID] = key.Status == "active"
		}
		if cursor = "&cursor=" + page.Next; page.Next == "" {
			break
		}
	}
	wrong := func(b *member) (ids []int64) {
		for id, token := range l.tokens {
			got, err := w.ask(b, "GET", "/v1/models", token, nil)
			if err != nil || (got.status == http.StatusOK) != active[id] {
				ids = append(ids, id)
			}
		}
		return ids
	}
	for _, b := range w.balancers {
		var ids []int64
		begin := time.Now()
		for ids = wrong(b); len(ids) > 0 && time.Since(begin) < 30*time.Second; ids = wrong(b) {
			time.Sleep(time.Second)
		}
		if len(ids) > 0 {
			w.t.Errorf("balancer %s is wrong about the keys %v", b.name, ids[:min(len(ids), 5)])
		}
	}
	w.t.Logf("%d balancers are right about %d keys", len(w.balancers), len(l.tokens))
}

// A footprint is what a process takes.
type footprint struct {
	goroutines, files int
	memory            int64 // bytes
}

// footprints measures every program of ours that is to be measured.
func footprints(w *town, measured func(*member) bool) map[string]footprint {
	w.t.Helper()
	all := map[string]footprint{}
	for _, m := range slices.Concat(w.servers, w.balancers, []*member{w.mirror}) {
		if !measured(m) {
			continue
		}
		var f footprint
		if m.clock != "" {
			f.goroutines = int(metric(w, m, "go_goroutines"))
		}
		proc := fmt.Sprintf("/proc/%d", m.p.Cmd.Process.Pid)
		files, err := os.ReadDir(filepath.Join(proc, "fd"))
		if err != nil {
			w.t.Errorf("files of %s: %v", m.name, err)
		}
		f.files = len(files)
		statm, _ := os.ReadFile(filepath.Join(proc, "statm"))
		if fields := strings.Fields(string(statm)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			f.memory = pages * int64(os.Getpagesize())
		}
		all[m.name] = f
	}
	return all
}

// auditLeaks checks that nothing has grown in those that were measured before.
func auditLeaks(w *town, when string, before, after map[string]footprint) {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		b, a := before[name], after[name]
		if a.goroutines > b.goroutines+b.goroutines/4+10 || a.files > b.files+b.files/4+10 ||
			a.memory > b.memory+b.memory/2+64<<20 {
			w.t.Errorf("%s grows %s: %+v, and then %+v", name, when, b, a)
		}
		w.t.Logf("%s %s: goroutines %d to %d, files %d to %d, MiB %d to %d", name, when, b.goroutines, a.goroutines,
			b.files, a.files, b.memory>>20, a.memory>>20)
	}
}
