package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

type object = map[string]any

const (
	writers  = 4
	batch    = 50
	perBatch = 300 * time.Millisecond // so all writers send up to 660 entries/s
	models   = 5
)

// A load is everybody who uses the town, and what they were answered.
type load struct {
	town *town

	prices []int64 // ids of the models

	mu      sync.Mutex
	acked   map[uuid.UUID]sent
	applied int64 // the highest revision that a write was told is applied everywhere
	tokens  map[int64]string
	gone    map[int64]bool // keys of which a deletion was answered
	logged  []string       // ids of requests that balancers have answered which are never ended

	retried, asked, served, edits, revoked atomic.Int64
}

// What was sent of an entry.
type sent struct {
	model         int8
	input, output int32
	least         int64 // the revision whose prices it has at least
}

func newLoad(w *town) *load {
	l := &load{town: w, acked: map[uuid.UUID]sent{}, tokens: map[int64]string{}, gone: map[int64]bool{}}
	plane := w.servers[0]
	must := func(method, path string, body, out any) {
		w.t.Helper()
		got, err := w.ask(plane, method, path, w.admin, body)
		if err == nil {
			err = got.read(out)
		}
		if err != nil {
			w.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	var made struct {
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	names := make([]string, models)
	for i := range names {
		names[i] = fmt.Sprint("m", i)
		must("POST", "/models", object{"name": names[i], "input_price": i, "output_price": 2 * i}, &made)
		l.prices = append(l.prices, made.ID)
	}
	must("POST", "/providers", object{"name": "mock", "type": "compatible", "base_url": w.upstream.URL,
		"api_key": upstreamKey, "models": names}, &made)
	for i := range 20 {
		must("POST", "/keys", object{"name": fmt.Sprint("first-", i)}, &made)
		l.tokens[made.ID] = made.Token
	}
	return l
}

// run uses the town until the context ends, and until all that was begun is answered.
func (l *load) run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	for range writers {
		working.Go(func() { l.write(ctx) })
	}
	working.Go(func() { l.setPrices(ctx) })
	for range 2 {
		working.Go(func() { l.editKeys(ctx) })
	}
	for range 3 {
		working.Go(func() { l.call(ctx) })
	}
}

func (l *load) server() *member   { return l.town.servers[rand.IntN(len(l.town.servers))] }
func (l *load) balancer() *member { return l.town.balancers[rand.IntN(len(l.town.balancers))] }

// write sends batches of entries, each until it is acknowledged, and each time to another server.
func (l *load) write(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		least := l.applied
		l.mu.Unlock()
		var body bytes.Buffer
		entries := map[uuid.UUID]sent{}
		for range batch {
			id := uuid.Must(uuid.NewV7())
			e := sent{int8(rand.IntN(models)), rand.Int32N(1_000_000), rand.Int32N(1_000_000), least}
			entries[id] = e
			fmt.Fprintf(&body, `{"id":"%s","ts":"%s","key_id":%d,"model":"m%d",`+
				`"status":200,"input_tokens":%d,"output_tokens":%d}`+"\n",
				id, time.Now().UTC().Format(time.RFC3339Nano), 1+rand.IntN(50), e.model, e.input, e.output)
		}
		for tries := 0; ; tries++ {
			got, err := l.town.ask(l.server(), "POST", "/logs", l.town.admin, body.Bytes())
			if err == nil && got.status == http.StatusAccepted {
				break
			}
			if err == nil && got.status/100 == 4 && got.status != http.StatusTooManyRequests {
				l.town.t.Errorf("entries are refused: %d %s", got.status, got.body)
				return
			}
			l.retried.Add(1)
			time.Sleep(time.Duration(min(tries, 20)) * 25 * time.Millisecond)
		}
		l.mu.Lock()
		for id, e := range entries {
			l.acked[id] = e
		}
		l.mu.Unlock()
		time.Sleep(perBatch)
	}
}

// setPrices changes prices, and remembers which revisions are applied everywhere.
func (l *load) setPrices(ctx context.Context) {
	for ctx.Err() == nil {
		path := fmt.Sprintf("/models/%d?wait=applied&timeout=5s", l.prices[rand.IntN(models)])
		got, err := l.town.ask(l.server(), "PATCH", path, l.town.admin,
			object{"input_price": rand.IntN(100), "output_price": rand.IntN(100)})
		l.edits.Add(1)
		var model struct {
			Revision int64 `json:"revision"`
		}
		if err == nil && got.read(&model) == nil && got.header.Get("EZ-Sync") == "applied" {
			l.mu.Lock()
			l.applied = max(l.applied, model.Revision)
			l.mu.Unlock()
		}
		pause(ctx, 500*time.Millisecond)
	}
}

// editKeys makes keys, and disables, renames and deletes them. What is revoked everywhere, as the
// answer says, is refused everywhere from then on.
func (l *load) editKeys(ctx context.Context) {
	for ctx.Err() == nil {
		l.edits.Add(1)
		id, token := l.someKey()
		switch dice := rand.IntN(10); {
		case dice < 4 || id == 0:
			var made struct {
				ID    int64  `json:"id"`
				Token string `json:"token"`
			}
			got, err := l.town.ask(l.server(), "POST", "/keys", l.town.admin, object{"name": "k-" + uuid.NewString()[:8]})
			if err == nil && got.read(&made) == nil {
				l.mu.Lock()
				l.tokens[made.ID] = made.Token
				l.mu.Unlock()
			}
		case dice < 7:
			body := object{"status": []string{"active", "disabled"}[rand.IntN(2)], "name": "k-" + uuid.NewString()[:8]}
			_, _ = l.town.ask(l.server(), "PATCH", fmt.Sprint("/keys/", id), l.town.admin, body)
		default:
			got, err := l.town.ask(l.server(), "DELETE", fmt.Sprintf("/keys/%d?wait=applied&timeout=5s", id), l.town.admin, nil)
			if err != nil || got.status != http.StatusNoContent {
				break
			}
			answered := time.Now()
			l.mu.Lock()
			l.gone[id] = true
			l.mu.Unlock()
			everywhere := fmt.Sprintf("applied=%d lagging=0", len(l.town.balancers))
			if got.header.Get("EZ-Sync") == "applied" && strings.Contains(got.header.Get("EZ-Sync-Nodes"), everywhere) {
				l.isRefused(token, answered)
			}
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// isRefused checks that no balancer that was up serves a revoked key.
func (l *load) isRefused(token string, since time.Time) {
	l.revoked.Add(1)
	for _, b := range l.town.balancers {
		got, err := l.town.ask(b, "GET", "/v1/models", token, nil)
		if err == nil && got.status == http.StatusOK && b.upSince().Before(since.Add(-30*time.Second)) {
			l.town.t.Errorf("balancer %s serves a key that was revoked everywhere", b.name)
		}
	}
}

// someKey picks one that was not deleted, and leaves some for whoever calls.
func (l *load) someKey() (int64, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, token := range l.tokens {
		if !l.gone[id] && len(l.tokens)-len(l.gone) > 10 {
			return id, token
		}
	}
	return 0, ""
}

// call is a client of the balancers.
func (l *load) call(ctx context.Context) {
	for ctx.Err() == nil {
		_, token := l.someKey()
		b := l.balancer()
		got, err := l.town.ask(b, "POST", "/v1/chat/completions", token, object{
			"model": fmt.Sprint("m", rand.IntN(models)), "messages": []object{{"role": "user", "content": "Is all well?"}}})
		l.asked.Add(1)
		if err == nil && got.status == http.StatusOK {
			l.served.Add(1)
		}
		if err == nil && b.spared {
			l.mu.Lock()
			l.logged = append(l.logged, got.header.Get("X-Request-ID"))
			l.mu.Unlock()
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d entries acknowledged, %d batches sent again; %d edits, %d revocations looked at everywhere; "+
		"%d of %d requests served", len(l.acked), l.retried.Load(), l.edits.Load(), l.revoked.Load(), l.served.Load(),
		l.asked.Load())
}
