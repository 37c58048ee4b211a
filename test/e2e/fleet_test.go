package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// A fleet is some servers on one database and one Redis.
type fleet struct {
	servers []*process.Process
	planes  []process.API // by server, as the admin
	prefix  string
	rdb     *redis.Client
	db      *pgx.Conn
	syncKey string
	reading []string // what a balancer's environment needs to read its snapshot
}

func startFleet(t *testing.T, n int, redisVia func(addr string) string, more ...string) *fleet {
	t.Helper()
	dsn, db := process.Postgres(t)
	addr, prefix, rdb := process.Redis(t)
	admin, syncKey := process.NewToken(), process.NewKey("s1")
	f := &fleet{prefix: prefix, rdb: rdb, db: db, syncKey: syncKey,
		reading: []string{"EZ_REDIS_ADDR=" + addr, "EZ_REDIS_PREFIX=" + prefix,
			"EZ_SYNC_KEYS=" + syncKey}}
	env := append([]string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + dsn, "EZ_REDIS_ADDR=" + redisVia(addr),
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + admin, "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" +
			syncKey, "EZ_ALLOW_PRIVATE_UPSTREAMS=true",
	}, more...)
	for range n {
		p := process.Start(t, "server", env)
		f.servers = append(f.servers, p)
		f.planes = append(f.planes, process.API{URL: p.URL, Token: admin})
		// Servers that start at once on an empty Redis may each publish the whole.
		process.Eventually(t, 10*time.Second, "the first publish", func() bool { return f.head(t, "epoch") != "" })
	}
	return f
}

func direct(addr string) string { return addr }

// documents returns everything published, by kind and key.
func (f *fleet) documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, kind := range []string{"providers", "models", "bindings", "keys"} {
		docs, err := f.rdb.HGetAll(t.Context(), "{"+f.prefix+"}:"+kind).Result()
		if err != nil {
			t.Fatal(err)
		}
		for key, doc := range docs {
			all[kind+"/"+key] = doc
		}
	}
	return all
}

func (f *fleet) head(t *testing.T, name string) string {
	return field(t, f.rdb, f.prefix, "head", name)
}

// published waits until all that was committed is in Redis.
func (f *fleet) published(t *testing.T) {
	t.Helper()
	process.Eventually(t, 10*time.Second, "the published head is the store's", func() bool {
		var changes struct {
			Data []struct {
				Revision int64 `json:"revision"`
			} `json:"data"`
			Next string `json:"next_cursor"`
		}
		var last int64
		for after := int64(0); ; after = last {
			f.planes[0].Call(t, "GET", fmt.Sprintf("/changes?after=%d&limit=1000", after), nil, http.StatusOK, &changes)
			if len(changes.Data) == 0 {
				break
			}
			last = changes.Data[len(changes.Data)-1].Revision
		}
		return f.head(t, "revision") == fmt.Sprint(last)
	})
}

// TestTwoServers writes through two servers at once. Redis ends equal to the
// database, and only ever by deltas.
func TestTwoServers(t *testing.T) {
	const workers, rounds = 4, 25
	f := startFleet(t, 2, direct)
	f.planes[0].Call(t, "POST", "/models", object{"name": "m"}, http.StatusCreated, nil)
	f.published(t)
	epoch, resets := f.head(t, "epoch"), f.resets(t)

	type key struct {
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	var mu sync.Mutex
	alive, gone := map[string]bool{}, map[string]bool{} // by token hash
	var writers sync.WaitGroup
	for w := range workers {
		plane := f.planes[w%len(f.planes)]
		writers.Go(func() {
			for i := range rounds {
				var k key
				plane.Call(t, "POST", "/keys", object{"name": fmt.Sprintf("w%d-%d", w, i)}, http.StatusCreated, &k)
				path := fmt.Sprintf("/keys/%d", k.ID)
				switch i % 3 {
				case 0:
					plane.Call(t, "PATCH", path, object{"status": "disabled"}, http.StatusOK, nil)
				case 1:
					plane.Call(t, "DELETE", path, nil, http.StatusNoContent, nil)
				}
				mu.Lock()
				if i%3 == 1 {
					gone[hash(k.Token)] = true
				} else {
					alive[hash(k.Token)] = true
				}
				mu.Unlock()
			}
		})
	}
	for i := range rounds { // each touches the one binding document
		for _, plane := range f.planes {
			writers.Go(func() {
				plane.Call(t, "POST", "/providers", object{
					"name": fmt.Sprintf("p%d-%s", i, plane.URL), "type": "openai", "api_key": upstreamKey, "models": []string{"m"},
				}, http.StatusCreated, nil)
			})
		}
	}
	writers.Wait()
	f.published(t)

	if got := f.head(t, "epoch"); got != epoch {
		t.Errorf("the epoch went from %s to %s: there was a Replace", epoch, got)
	}
	if diff := cmp.Diff(resets, f.resets(t)); diff != "" {
		t.Errorf("there was a Replace (-before +after):\n%s", diff)
	}
	before := f.documents(t)
	for h := range alive {
		if before["keys/"+h] == "" {
			t.Errorf("a key that exists is not in Redis")
		}
	}
	for h := range gone {
		if before["keys/"+h] != "" {
			t.Errorf("a deleted key is in Redis")
		}
	}

	// What a full re-synchronisation renders from the database is what was there already.
	f.planes[1].Call(t, "POST", "/sync/snapshot", nil, http.StatusOK, nil)
	if cmp.Equal(resets, f.resets(t)) {
		t.Error("a full re-synchronisation left no trace, so the lack of one says nothing")
	}
	if diff := cmp.Diff(before, f.documents(t)); diff != "" {
		t.Errorf("Redis was not equal to the database (-before +rendered anew):\n%s", diff)
	}
	for _, p := range f.servers {
		p.Stop(t)
	}
}

// resets returns the positions in the stream at which the whole was replaced.
func (f *fleet) resets(t *testing.T) (at []string) {
	t.Helper()
	entries, err := f.rdb.XRange(t.Context(), "{"+f.prefix+"}:changes", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Values["reset"] == "1" {
			at = append(at, e.ID)
		}
	}
	return at
}

// TestOneMoreKeyCostsTheSame counts the bytes that go to Redis for one more
// key, with few keys and with many.
func TestOneMoreKeyCostsTheSame(t *testing.T) {
	var sent atomic.Int64
	f := startFleet(t, 1, func(addr string) string { return countingProxy(t, addr, &sent) })
	plane := f.planes[0]
	total := 0
	create := func() (cost int64) {
		t.Helper()
		var k struct{ Token string }
		total++
		before := sent.Load()
		plane.Call(t, "POST", "/keys", object{"name": fmt.Sprintf("key-%06d", total)}, http.StatusCreated, &k)
		process.Eventually(t, 5*time.Second, "the key in Redis",
			func() bool { return field(t, f.rdb, f.prefix, "keys", hash(k.Token)) != "" })
		return sent.Load() - before
	}
	typical := func() int64 {
		var costs []int64
		for range 15 {
			costs = append(costs, create())
		}
		slices.Sort(costs)
		return costs[len(costs)/2]
	}
	create() // the first publish is of the whole
	few := typical()
	for total < 1000 {
		create()
	}
	many := typical()
	t.Logf("one more key: %d bytes to Redis beside %d keys, %d beside %d", few, 15, many, total)
	if few == 0 || many > few+few/10+64 { // numbers in the head have more digits, now and then a poll falls in
		t.Errorf("one more key costs %d bytes beside a thousand, %d beside a few", many, few)
	}
}

// countingProxy passes connections on to addr and counts what is sent there.
func countingProxy(t *testing.T, addr string, sent *atomic.Int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map // of net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				t.Errorf("proxy: %v", err)
				_ = client.Close()
				return
			}
			open.Store(client, nil)
			open.Store(server, nil)
			running.Go(func() {
				_, _ = io.Copy(io.MultiWriter(server, countWriter{sent}), client)
				_ = server.Close()
			})
			running.Go(func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Range(func(conn, _ any) bool {
			_ = conn.(net.Conn).Close()
			return true
		})
		running.Wait()
	})
	return listener.Addr().String()
}

type countWriter struct{ n *atomic.Int64 }

func (w countWriter) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}
