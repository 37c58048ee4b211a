package bench

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	token   = "a-token-for-benchmarks-of-32-bytes"
	callers = 16
)

// server starts the program under test with its default settings but for those given.
func (w *world) server(ctx context.Context, dir string, settings ...string) (*process, error) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	env := append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "EZ_API_ADDR=127.0.0.1", "EZ_API_PORT=0", "EZ_PG_DSN=" + w.dsn,
		"EZ_REDIS_ADDR=embedded", "EZ_SYNC_KEYS=none", "EZ_DB_KEYS=k1:" + key, "EZ_ADMIN_TOKEN=" + token,
		"EZ_DATA_DIR=" + filepath.Join(dir, "data"),
	}, settings...)
	return start(ctx, env, w.Server)
}

// servers compares whole servers, from HTTP to rows, with the load generator on the
// same processors, and looks at what becomes of entries beyond the historic limit.
func (w *world) servers(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "ez-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk, err := w.server(ctx, filepath.Join(dir, "disk"))
	if err != nil {
		return err
	}
	defer func() { disk.kill() }() // as it is then
	memory, err := w.server(ctx, filepath.Join(dir, "memory"), "EZ_LOG_DURABILITY=memory")
	if err != nil {
		return err
	}
	defer memory.kill()
	old, err := start(ctx, os.Environ(), append(w.Self, w.dsn)...)
	if err != nil {
		return err
	}
	defer old.kill()

	var raw, onDisk, diskCPU, inMemory, memoryCPU, historic, historicCPU series
	limit := 8000.0
	for i := range w.Pairs {
		progress("servers: %d of %d", i+1, w.Pairs)
		rate, err := w.raw.measure(ctx)
		if err != nil {
			return err
		}
		raw = append(raw, rate)
		rate, cpu, err := w.arrays(ctx, disk)
		if err != nil {
			return err
		}
		onDisk, diskCPU = append(onDisk, rate), append(diskCPU, micros(cpu))
		rate, cpu, err = w.arrays(ctx, memory)
		if err != nil {
			return err
		}
		inMemory, memoryCPU = append(inMemory, rate), append(memoryCPU, micros(cpu))
		rate, cpu, err = w.historicLimit(ctx, old, limit)
		if err != nil {
			return err
		}
		limit = 1.1 * rate
		historic, historicCPU = append(historic, rate), append(historicCPU, micros(cpu))
	}
	t := w.table("HTTP to rows, "+fmt.Sprint(callers)+" callers", "rows/s", "CPU µs/row", "÷ raw COPY",
		"÷ historic", "CPU ÷ historic", "ratios of the pairs")
	t.row("raw COPY, one statement", raw.median(), "", 1., raw.over(historic).median(), "", "")
	t.row(fmt.Sprintf("arrays of %d, on disk before they are acknowledged", arraySize),
		onDisk.median(), diskCPU.median(), onDisk.over(raw).median(), onDisk.over(historic).median(),
		diskCPU.over(historicCPU).median(), onDisk.over(raw))
	t.row(fmt.Sprintf("arrays of %d, in memory", arraySize),
		inMemory.median(), memoryCPU.median(), inMemory.over(raw).median(), inMemory.over(historic).median(),
		memoryCPU.over(historicCPU).median(), inMemory.over(raw))
	t.row("historic server, at its highest rate without a loss",
		historic.median(), historicCPU.median(), historic.over(raw).median(), 1., 1., historic.over(raw))
	t.end()
	t = w.table("durability", "ratio", "ratios of the pairs")
	t.row("on disk ÷ in memory", onDisk.over(inMemory).median(), onDisk.over(inMemory))
	t.end()
	return w.losses(ctx, &disk, filepath.Join(dir, "disk"), old, historic.median())
}

// arrays posts all entries, and returns how many a second were stored, and what
// each cost the server. The last batch, which may wait for more, does not count.
func (w *world) arrays(ctx context.Context, p *process) (rate float64, cpu time.Duration, err error) {
	if err := w.empty(ctx); err != nil {
		return 0, 0, err
	}
	l := newLoad(p, token, callers)
	before, start := p.cpu(), time.Now()
	if err := l.all(ctx, w.set.bodies); err != nil {
		return 0, 0, err
	}
	pending, err := awaitPending(ctx, p, batchSize, 20*time.Millisecond)
	if err != nil {
		return 0, 0, err
	}
	rate = (float64(w.Rows) - pending) / time.Since(start).Seconds()
	// The last batch waits up to a second for more. To read all metrics again and again meanwhile would cost the
	// server as much as thousands of entries.
	if _, err := awaitPending(ctx, p, 0, 250*time.Millisecond); err != nil {
		return 0, 0, err
	}
	return rate, (p.cpu() - before) / time.Duration(w.Rows), w.expect(ctx, w.Rows)
}

// expect checks what is stored, and that the usage agrees.
func (w *world) expect(ctx context.Context, want int) error {
	var rows, requests int
	err := w.pool.QueryRow(ctx, `select (select count(*) from access_logs),
		(select coalesce(sum(requests), 0) from
		(select requests from usage_pending union all select requests from usage_quarters) u)`).Scan(&rows, &requests)
	if err == nil && (rows != want || requests != want) {
		err = fmt.Errorf("%d rows, usage of %d requests, want %d", rows, requests, want)
	}
	return err
}

// awaitPending waits until no more than so many entries are pending, and asks as often as every says.
func awaitPending(ctx context.Context, p *process, most float64, every time.Duration) (float64, error) {
	for {
		pending, err := metric(ctx, p, "ezapi_logs_pending")
		if err != nil || pending <= most {
			return pending, err
		}
		time.Sleep(every)
	}
}

// metric reads one number.
func metric(ctx context.Context, p *process, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept-Encoding", "identity") // to compress it would cost more
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("the server has no metric %s", name)
}

// singles are the entries as requests of one.
func (w *world) singles(n int) ([][]byte, error) {
	bodies := make([][]byte, min(n, w.Rows))
	for i := range bodies {
		var err error
		if bodies[i], err = json.Marshal(w.set.entries[i]); err != nil {
			return nil, err
		}
	}
	return bodies, nil
}

// historicLimit returns the highest rate at which the historic server loses
// nothing in five seconds, to a tenth, and what an entry costs it then.
func (w *world) historicLimit(ctx context.Context, p *process, from float64) (rate float64, cpu time.Duration,
	err error) {
	for rate = from; ; rate /= 1.1 {
		if err := w.exec(ctx, `truncate historic_logs`, `checkpoint`); err != nil {
			return 0, 0, err
		}
		before, err := historicCounts(ctx, p)
		if err != nil {
			return 0, 0, err
		}
		used := p.cpu()
		bodies, err := w.singles(int(5 * rate))
		if err != nil {
			return 0, 0, err
		}
		taken, took := newLoad(p, "", 64).at(ctx, bodies, rate)
		after, err := historicCounts(ctx, p)
		for err == nil && after.Stored+after.Dropped < after.Accepted {
			time.Sleep(10 * time.Millisecond)
			after, err = historicCounts(ctx, p)
		}
		if err != nil {
			return 0, 0, err
		}
		if after.Dropped == before.Dropped && len(taken) == len(bodies) {
			return float64(len(bodies)) / took.Seconds(), (p.cpu() - used) / time.Duration(len(bodies)), nil
		}
	}
}

func historicCounts(ctx context.Context, p *process) (s historicStats, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/stats", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// losses offers five times what the historic design can take to both, and kills
// ours halfway.
func (w *world) losses(ctx context.Context, disk **process, dir string, old *process, limit float64) error {
	t := w.table(fmt.Sprintf("at five times the historic limit, %.0f entries/s", 5*limit), "acknowledged",
		"lost", "stored twice")
	progress("losses")

	singles, err := w.singles(int(5 * 5 * limit))
	if err != nil {
		return err
	}
	before, err := historicCounts(ctx, old)
	if err != nil {
		return err
	}
	taken, took := newLoad(old, "", 64).at(ctx, singles, 5*limit)
	after, err := historicCounts(ctx, old)
	if err != nil {
		return err
	}
	t.row(fmt.Sprintf("historic server, one entry a request (%.0f/s were possible)",
		float64(len(singles))/took.Seconds()), len(taken), after.Dropped-before.Dropped, 0)

	for _, kill := range []bool{false, true} {
		if err := w.empty(ctx); err != nil {
			return err
		}
		if kill {
			victim := *disk
			time.AfterFunc(time.Duration(float64(w.Rows)/5/limit/2*float64(time.Second)), victim.kill)
		}
		taken, _ := newLoad(*disk, token, 2*callers).at(ctx, w.set.bodies, 5*limit/arraySize)
		name := "server, arrays, on disk"
		if kill {
			name += ", kill -9 halfway"
			if *disk, err = w.server(ctx, dir); err != nil {
				return err
			}
		}
		if _, err := awaitPending(ctx, *disk, 0, 100*time.Millisecond); err != nil {
			return err
		}
		lost, twice, err := w.audit(ctx, taken)
		if err != nil {
			return err
		}
		t.row(name, len(taken)*arraySize, lost, twice)
	}
	t.end()
	return nil
}

// audit compares the bodies that were acknowledged with the rows, and the rows with the usage.
func (w *world) audit(ctx context.Context, acknowledged []int) (lost, twice int, err error) {
	rows, err := w.pool.Query(ctx, `select id from access_logs`)
	if err != nil {
		return 0, 0, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, 0, err
	}
	stored := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		if stored[id] {
			twice++
		}
		stored[id] = true
	}
	for _, i := range acknowledged {
		for _, e := range w.set.entries[i*arraySize : min(len(w.set.entries), (i+1)*arraySize)] {
			if !stored[e.ID] {
				lost++
			}
		}
	}
	return lost, twice, w.expect(ctx, len(ids))
}
