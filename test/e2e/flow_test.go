package e2e_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

const upstreamKey = "sk-upstream-4242424242424242"

// TestMainFlow is the whole in one: a provider, a model, a binding and a key
// over HTTP; their documents in Redis; a chat request through a balancer that reads Redis;
// and its access log as a row in PostgreSQL. Everything is a process of its own.
func TestMainFlow(t *testing.T) {
	dsn, db := process.Postgres(t)
	redisAddr, prefix, rdb := process.Redis(t)
	admin, balancerToken, syncKey := process.NewToken(), process.NewToken(), process.NewKey("s1")

	upstream := process.Start(t, "upstream", nil, "-key", upstreamKey, "-pause", "150ms")
	server := process.Start(t, "server", []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + dsn, "EZ_REDIS_ADDR=" + redisAddr,
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + admin, "EZ_BALANCER_TOKEN=" + balancerToken, "EZ_DB_KEYS=" + process.NewKey("k1"),
		"EZ_SYNC_KEYS=" + syncKey,
		"EZ_ALLOW_PRIVATE_UPSTREAMS=true", "EZ_LOG_FLUSH_INTERVAL=50ms",
	})
	plane := process.API{URL: server.URL, Token: admin}

	var provider, model, binding, key struct {
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	plane.Call(t, "POST", "/providers", object{
		"name": "mock", "type": "compatible", "base_url": upstream.URL, "api_key": upstreamKey,
		"models": []string{"mock-large-2026"},
	}, http.StatusCreated, &provider)
	plane.Call(t, "POST", "/models", object{"name": "large", "kind": "chat", "input_price": "2.5",
		"output_price": 10}, http.StatusCreated, &model)
	plane.Call(t, "POST", "/bindings", object{
		"model": "large", "route_group": "default", "provider_group": "default", "selector_value": "mock-large-2026",
	}, http.StatusCreated, &binding)
	plane.Call(t, "POST", "/keys", object{"name": "alice"}, http.StatusCreated, &key)

	t.Run("documents are in Redis", func(t *testing.T) {
		hashed := hash(key.Token)
		took := process.Eventually(t, 2*time.Second, "the key's document in Redis",
			func() bool { return field(t, rdb, prefix, "keys", hashed) != "" })
		t.Logf("the key was in Redis %s after its 201", took)

		var doc struct {
			ID     int64  `json:"id"`
			APIKey string `json:"api_key"`
			Status string `json:"status"`
		}
		mustJSON(t, field(t, rdb, prefix, "keys", hashed), &doc)
		if doc.ID != key.ID || doc.Status != "active" {
			t.Errorf("key document %+v", doc)
		}
		text := field(t, rdb, prefix, "providers", fmt.Sprint(provider.ID))
		mustJSON(t, text, &doc)
		if doc.ID != provider.ID || !strings.HasPrefix(doc.APIKey, "enc:v1:s1:") || strings.Contains(text, upstreamKey) {
			t.Errorf("provider document %s", text)
		}
		if field(t, rdb, prefix, "models", "default.large") == "" {
			t.Error("no model document")
		}
		want := fmt.Sprintf(`"upstreams":{"%d":"mock-large-2026"}`, provider.ID)
		if text := field(t, rdb, prefix, "bindings", "default.large"); !strings.Contains(text, want) {
			t.Errorf("binding document %s does not hold %s", text, want)
		}
	})

	balancer := process.StartBalancer(t,
		"EZ_REDIS_ADDR="+redisAddr, "EZ_REDIS_PREFIX="+prefix, "EZ_SYNC_KEYS="+syncKey,
		"EZ_LOGS_URL="+server.URL, "EZ_BALANCER_TOKEN="+balancerToken)
	client := process.API{URL: balancer.URL, Token: key.Token}
	chat := object{"model": "large", "messages": []object{{"role": "user", "content": "Is all well?"}}}

	t.Run("a chat request is answered", func(t *testing.T) {
		var answer struct {
			Model   string
			Choices []struct{ Message struct{ Content string } }
		}
		client.Call(t, "POST", "/v1/chat/completions", chat, http.StatusOK, &answer)
		if len(answer.Choices) != 1 || answer.Choices[0].Message.Content != "All is well." {
			t.Errorf("answer %+v", answer)
		}
		var asked []struct{ Authorization, Model string }
		process.API{URL: upstream.URL}.Call(t, "GET", "/requests", nil, http.StatusOK, &asked)
		if len(asked) != 1 || asked[0].Model != "mock-large-2026" || asked[0].Authorization != "Bearer "+upstreamKey {
			t.Errorf("the upstream was asked %+v", asked)
		}
	})

	t.Run("a stream comes in pieces", func(t *testing.T) {
		chat := object{"model": "large", "stream": true, "messages": chat["messages"]}
		resp := client.Send(t, "POST", "/v1/chat/completions", chat)
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
		text, spread := readStream(t, resp.Body)
		if text != "All is well." {
			t.Errorf("streamed %q", text)
		}
		if spread < 150*time.Millisecond { // the upstream takes 300 ms from the first piece to the last
			t.Errorf("first and last piece came within %s: it was not flushed", spread)
		}
	})

	t.Run("a failing upstream is tried again elsewhere", func(t *testing.T) {
		second := process.Start(t, "upstream", nil, "-key", upstreamKey)
		plane.Call(t, "POST", "/providers?wait=applied", object{
			"name": "spare", "type": "compatible", "base_url": second.URL, "api_key": upstreamKey,
			"models": []string{"mock-large-2026"}, "priority": -1,
		}, http.StatusCreated, nil)
		process.API{URL: upstream.URL}.Call(t, "POST", "/script", []int{503}, http.StatusNoContent, nil)
		client.Call(t, "POST", "/v1/chat/completions", chat, http.StatusOK, nil)
	})

	t.Run("the access logs are rows in PostgreSQL", func(t *testing.T) {
		const count = `select count(*) from access_logs where key_id = $1`
		process.Eventually(t, 10*time.Second, "three access log rows", func() bool {
			var n int
			return db.QueryRow(t.Context(), count, key.ID).Scan(&n) == nil && n == 3
		})
		rows, err := db.Query(t.Context(), `select model, upstream_model, status, stream, attempts, input_tokens, cache_read_tokens,
			output_tokens, cost_nano_usd from access_logs where key_id = $1 order by ts`, key.ID)
		if err != nil {
			t.Fatal(err)
		}
		type row struct {
			Model, Upstream       string
			Status                int
			Stream                bool
			Attempts              int
			Input, Cached, Output int64
			Cost                  *int64
		}
		got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []row{{Stream: false, Attempts: 1}, {Stream: true, Attempts: 1}, {Attempts: 2}} {
			want.Model, want.Upstream, want.Status, want.Input, want.Cached, want.Output = "large", "mock-large-2026",
				200, 8, 4, 3
			g := got[i]
			g.Cost = nil // the price of cached tokens is not known, so neither is the cost
			if g != want {
				t.Errorf("row %d is %+v, want %+v", i, g, want)
			}
		}
	})

	t.Run("a deleted key is gone at once", func(t *testing.T) {
		hashed := hash(key.Token)
		plane.Call(t, "DELETE", fmt.Sprintf("/keys/%d", key.ID), nil, http.StatusNoContent, nil)
		took := process.Eventually(t, 2*time.Second, "no document of the key in Redis",
			func() bool { return field(t, rdb, prefix, "keys", hashed) == "" })
		t.Logf("the key was gone from Redis %s after its 204", took)
		process.Eventually(t, 2*time.Second, "the balancer refuses the key", func() bool {
			resp := client.Send(t, "POST", "/v1/chat/completions", chat)
			resp.Body.Close()
			return resp.StatusCode == http.StatusUnauthorized
		})
	})

	balancer.Stop(t)
	server.Stop(t)
	for _, p := range []*process.Process{server, balancer} {
		for name, secret := range map[string]string{
			"the admin's token": admin, "the balancer's token": balancerToken, "the sync key": syncKey,
			"the upstream's key": upstreamKey, "the client's token": key.Token, "the connection string": dsn,
		} {
			if strings.Contains(p.Out.String(), secret) {
				t.Errorf("%s writes out %s", p.Name, name)
			}
		}
	}
}

// hash returns the field under which a token's document is.
func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// field reads a document as any program would; empty when there is none.
func field(t *testing.T, rdb *redis.Client, prefix, kind, name string) string {
	t.Helper()
	text, err := rdb.HGet(t.Context(), "{"+prefix+"}:"+kind, name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return text
}

func mustJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
}

// readStream puts the pieces of a stream together, and returns how far apart
// the first and the last one came.
func readStream(t *testing.T, body io.Reader) (text string, spread time.Duration) {
	t.Helper()
	var first, last time.Time
	done := false
	for lines := bufio.NewScanner(body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if done = data == "[DONE]"; done {
			break
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
			Usage   any
		}
		mustJSON(t, data, &chunk)
		if chunk.Usage != nil {
			t.Error("the client gets the usage, which it did not ask for")
		}
		if len(chunk.Choices) == 1 && chunk.Choices[0].Delta.Content != "" {
			text += chunk.Choices[0].Delta.Content
			if last = time.Now(); first.IsZero() {
				first = last
			}
		}
	}
	if !done {
		t.Error("the stream has no end")
	}
	return text, last.Sub(first)
}
