package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/jackc/pgx/v5"
)

const (
	floodEntries = 500 // a request, as who has so many sends them
	floodCost    = 7   // nano USD an entry
)

// TestOverload offers a server twice what it can store. It takes what it can, nearly
// as much as without the overload, refuses the rest soon, stays as small as it is told
// to, and keeps what it has taken.
func TestOverload(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		testOverload(t, 0.9, []string{"EZ_LOG_DURABILITY=disk", "EZ_LOG_SPOOL_MAX=" + scaled("4MiB", "32MiB")}) // soon full
	})
	t.Run("memory", func(t *testing.T) {
		testOverload(t, 0.8, []string{"EZ_LOG_DURABILITY=memory", "EZ_LOG_QUEUE=" + scaled("10000", "100000")})
	})
}

// testOverload wants a share of the capacity. What is refused takes its part of the
// processors, where who offers it runs, too.
func testOverload(t *testing.T, share float64, settings []string) {
	dsn, db := process.Postgres(t)
	redisAddr, prefix, _ := process.Redis(t)
	token := process.NewToken()
	server := process.Start(t, "server", append(settings,
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN="+dsn, "EZ_REDIS_ADDR="+redisAddr, "EZ_REDIS_PREFIX="+prefix,
		"EZ_ADMIN_TOKEN="+token, "EZ_DB_KEYS="+process.NewKey("k1"), "EZ_SYNC_KEYS="+process.NewKey("s1"),
		"EZ_DATA_DIR="+filepath.Join(t.TempDir(), "data"),
	))
	f := newFlood(t, server.URL, token)
	counter := func(name string) float64 { return logCounter(t, server.URL, token, name) }

	// during returns how many entries a second are stored while a function runs,
	// after some time in which it fills what there is to fill.
	during := func(warm, length time.Duration, load func(context.Context) []answered) (perSecond float64,
		answers []answered) {
		ctx, stop := context.WithTimeout(t.Context(), warm+length)
		defer stop()
		done := make(chan []answered, 1)
		go func() { done <- load(ctx) }()
		time.Sleep(warm)
		begin, before := time.Now(), counter("stored_total")
		time.Sleep(length)
		perSecond = (counter("stored_total") - before) / time.Since(begin).Seconds()
		return perSecond, <-done
	}

	var answers []answered
	taken := 0
	run := func(warm, length time.Duration, load func(context.Context) []answered) (perSecond float64) {
		perSecond, all := during(warm, length, load)
		taken += count(all, http.StatusAccepted)
		answers = append(answers, all...)
		process.Eventually(t, time.Minute, "nothing is pending", func() bool {
			time.Sleep(100 * time.Millisecond)
			return counter("pending") == 0
		})
		return perSecond
	}
	capacity := func() float64 {
		defer func() { answers = nil }()
		return run(time.Second, scaled(3*time.Second, 9*time.Second), f.asFastAsTaken)
	}

	// What it can store changes as the tables grow, so it is measured before and after
	// each time of overload.
	const rounds = 3   // of the long form
	const attempts = 8 // at most: a round is no overload when the machine has become faster meanwhile
	length := scaled(5*time.Second, 20*time.Second)
	var capacities, goodput, offered float64
	var overloaded []answered
	capacity() // of empty tables: nobody has that for long
	last := capacity()
	for done, n := 0, 0; done < scaled(1, rounds) && n < attempts; n++ {
		stored := run(0, length, func(ctx context.Context) []answered { return f.at(ctx, 2*last/floodEntries) })
		rate, all := float64(len(answers)*floodEntries)/length.Seconds(), answers
		before, next := last, capacity()
		last = next
		t.Logf("capacity %.0f entries/s, stored %.0f of %.0f offered, capacity %.0f", before, stored, rate, next)
		if rate < max((before+next)/2, 1.4*stored) {
			continue
		}
		done++
		overloaded = append(overloaded, all...)
		capacities, goodput, offered = capacities+(before+next)/2, goodput+stored, offered+rate
	}
	peak := peakMemory(t, server.Cmd.Process.Pid)
	server.Stop(t)

	accepted, refused := count(overloaded, http.StatusAccepted), count(overloaded, http.StatusTooManyRequests)
	p99 := percentile(overloaded, 0.99)
	t.Logf("offered %.2f of capacity, stored %.2f of it; requests: %d accepted, %d refused", offered/capacities,
		goodput/capacities, accepted, refused)
	t.Logf("answers: p50 %s, p99 %s, slowest %s; peak memory %d MiB", percentile(overloaded, 0.5), p99,
		percentile(overloaded, 1), peak>>20)
	overloaded = slices.DeleteFunc(overloaded, func(a answered) bool { return a.status != http.StatusAccepted })
	t.Logf("accepted: p50 %s, p99 %s", percentile(overloaded, 0.5), percentile(overloaded, 0.99))

	if refused == 0 {
		t.Error("nothing was refused at twice the capacity")
	}
	if limit := scaled[int64](1<<30, 256<<20); peak > limit { // the detector of races takes a multiple
		t.Errorf("the server took %d MiB of memory", peak>>20)
	}
	if *long && goodput < share*capacities {
		t.Errorf("goodput under overload is %.2f of capacity, want %.1f", goodput/capacities, share)
	}
	if *long && p99 > 250*time.Millisecond {
		t.Errorf("p99 under overload is %s, want 250 ms", p99)
	}
	auditCounts(t, db, int64(taken)*floodEntries)
}

// auditCounts checks that so many entries are stored, each once, and that usage agrees.
func auditCounts(t *testing.T, db *pgx.Conn, acknowledged int64) {
	t.Helper()
	var rows, ids, requests, cost int64
	if err := db.QueryRow(t.Context(), `select count(*), count(distinct id) from access_logs`).Scan(&rows, &ids); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(t.Context(), `select coalesce(sum(requests), 0), coalesce(sum(cost_nano_usd), 0) from
		(select requests, cost_nano_usd from usage_pending union all select requests, cost_nano_usd from usage_quarters) u`).Scan(&requests, &cost); err != nil {
		t.Fatal(err)
	}
	if rows != acknowledged || ids != rows || requests != rows || cost != floodCost*rows {
		t.Errorf("%d entries acknowledged, %d rows of %d ids, usage of %d requests and %d nano USD", acknowledged,
			rows, ids, requests, cost)
	}
}

// peakMemory returns the most bytes that a process has had resident.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	if err != nil || kib == 0 {
		t.Fatalf("no VmHWM in %s", text)
	}
	return kib << 10
}

// answered is a request to which an answer came.
type answered struct {
	status int
	took   time.Duration // since it was due
}

func count(answers []answered, status int) (n int) {
	for _, a := range answers {
		if a.status == status {
			n++
		}
	}
	return n
}

// percentile sorts the answers, and returns how long that part of them took at most.
func percentile(answers []answered, part float64) time.Duration {
	if len(answers) == 0 {
		return 0
	}
	slices.SortFunc(answers, func(a, b answered) int { return int(a.took - b.took) })
	return answers[int(part*float64(len(answers)-1))].took
}

// A flood posts arrays of entries over many connections. It shares the
// processors with the server and its database, so it costs as little as it can:
// requests are made once, and only the ids in them change.
type flood struct {
	t       *testing.T
	addr    string
	request []byte // with its head
	ids     []int  // where in it
	number  atomic.Int64
}

func newFlood(t *testing.T, url, token string) *flood {
	f := &flood{t: t, addr: strings.TrimPrefix(url, "http://")}
	var body bytes.Buffer
	for i := range floodEntries {
		separator := ','
		if i == 0 {
			separator = '['
		}
		fmt.Fprintf(&body, `%c{"id":"`, separator)
		f.ids = append(f.ids, body.Len())
		fmt.Fprintf(&body, `00000000-0000-7000-8000-%012x","request_id":"req_%016x","balancer":"balancer-1","key_id":%d,"provider_id":%d,`+
			`"model":"model-%d","upstream_model":"vendor/model-%d-2026-01-01","group":"default","endpoint":"/v1/chat/completions","status":200,"attempts":1,"stream":true,`+
			`"latency_ms":%d,"ttft_ms":210,"input_tokens":%d,"cache_read_tokens":120,"output_tokens":310,"cost_nano_usd":%d,`+
			`"client_ip":"10.1.2.%d","user_agent":"openai-python/2.8.1","revision":"3.41.12077"}`,
			i, i*i, 1+i*5, 1+i%10, i%20, i%20, 900+i, 10*i, floodCost, i)
	}
	body.WriteByte(']')
	head := fmt.Sprintf("POST /logs HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: "+
		"application/json\r\nContent-Length: %d\r\n\r\n",
		f.addr, token, body.Len())
	f.request = append([]byte(head), body.Bytes()...)
	for i := range f.ids {
		f.ids[i] += len(head)
	}
	return f
}

// asFastAsTaken posts until ctx ends, on few connections, each as soon as it has its
// answer. Refusals, which would cost time that is then not capacity, stay rare.
func (f *flood) asFastAsTaken(ctx context.Context) []answered {
	return f.each(8, func(c *connection) bool {
		if ctx.Err() != nil {
			return false
		}
		if c.post(time.Now()) == http.StatusTooManyRequests {
			time.Sleep(50 * time.Millisecond)
		}
		return true
	})
}

// at posts so many requests a second until ctx ends, whatever the answers are.
func (f *flood) at(ctx context.Context, perSecond float64) []answered {
	var next atomic.Int64
	begin := time.Now()
	return f.each(64, func(c *connection) bool {
		due := begin.Add(time.Duration(float64(next.Add(1)) / perSecond * float64(time.Second)))
		if end, _ := ctx.Deadline(); due.After(end) {
			return false
		}
		time.Sleep(time.Until(due))
		c.post(due)
		return true
	})
}

// each calls do on each of n connections until that returns false.
func (f *flood) each(n int, do func(c *connection) bool) (all []answered) {
	var mu sync.Mutex
	var connections sync.WaitGroup
	for range n {
		connections.Go(func() {
			c := &connection{flood: f, request: slices.Clone(f.request)}
			defer c.close()
			for !c.failed && do(c) {
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, c.answers...)
		})
	}
	connections.Wait()
	return all
}

// A connection is one of a flood's.
type connection struct {
	*flood
	request []byte
	conn    net.Conn
	reader  *bufio.Reader
	answers []answered
	failed  bool
}

// post sends the next request, due at some time, and notes the answer.
func (c *connection) post(due time.Time) (status int) {
	c.renumber()
	status, err := c.roundTrip()
	if err != nil {
		c.t.Error(err)
		c.failed = true
		return 0
	}
	c.answers = append(c.answers, answered{status, time.Since(due)})
	return status
}

// renumber gives the entries ids that are UUIDv7 (RFC 9562) of now, never used before.
func (c *connection) renumber() {
	now := fmt.Sprintf("%012x", time.Now().UnixMilli())
	number := fmt.Sprintf("%012x", c.number.Add(1))
	prefix := now[:8] + "-" + now[8:] + "-7" + number[:3] + "-8" + number[3:6] + "-" + number[6:]
	for _, at := range c.ids {
		copy(c.request[at:], prefix) // what follows is the entry's number in the request
	}
}

func (c *connection) roundTrip() (status int, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.addr, 10*time.Second); err != nil {
			return 0, err
		}
		c.reader = bufio.NewReader(c.conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.Close {
		c.close()
	}
	switch resp.StatusCode {
	case http.StatusAccepted:
		if want := fmt.Sprintf(`{"accepted":%d,"rejected":[],`, floodEntries); !strings.HasPrefix(string(text), want) {
			return 0, fmt.Errorf("answer %s", text)
		}
	case http.StatusTooManyRequests:
		if resp.Header.Get("Retry-After") == "" {
			return 0, fmt.Errorf("a refusal says not when to come again: %v", resp.Header)
		}
	default:
		return 0, fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return resp.StatusCode, nil
}

func (c *connection) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is in it any more
		c.conn = nil
	}
}
