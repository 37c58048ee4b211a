package redisstore_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// TestContract reads every key with plain commands, as a balancer in another
// language does.
func TestContract(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		messages := f.raw.Subscribe(ctx, "dp:config:refresh")
		t.Cleanup(func() { must(t, messages.Close()) })
		_, err := messages.Receive(ctx)
		must(t, err)

		w := newWorld(position(1790000000, 41), keyDoc("ab", `{"name":"ab"}`),
			snapshot.Change{Kind: catalog.KindProvider, Key: "7", Doc: []byte(`{"id":7}`)},
			snapshot.Change{Kind: catalog.KindModel, Key: "default.gpt-4o", Doc: []byte(`{"name":"gpt-4o"}`)})
		w.head.Sig, w.head.Seal, w.head.Renderer, w.head.Forced = "cafe", "2026", 3, true
		must(t, publish(ctx, f.Publisher, w))

		headOf := func(h snapshot.Head) map[string]any {
			fields := make(map[string]any)
			for name, value := range h.Fields() {
				fields[name] = value
			}
			return fields
		}
		check := func(what string, want, got map[string]any) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", what, diff)
			}
		}
		checkHash := func(name string, want map[string]any) {
			t.Helper()
			check(name, want, f.hash(t, name))
		}
		first := headOf(w.head)
		check("the head", map[string]any{
			"format": "1", "store": "store", "epoch": "1790000000", "revision": "41",
			"mark": "0123456789abcdef0123456789abcdef", "sig": "cafe", "seal": "2026", "renderer": "3",
			"updated_at": "2026-01-02T03:04:05.000006Z", "forced": "1", "counts": first["counts"], "digest": first["digest"],
		}, first)
		if !strings.HasPrefix(first["counts"].(string), `{"bindings":0,`) ||
			!strings.Contains(first["counts"].(string), `"keys":1,`) {
			t.Fatalf("counts are %s", first["counts"])
		}
		chains := map[string]bool{}
		chainOf := func(e redis.XMessage) string {
			chain, _ := e.Values["chain"].(string)
			if len(chain) != 32 || strings.Trim(chain, "0123456789abcdef") != "" {
				t.Fatalf("the chain of %s is %q", e.ID, chain)
			}
			chains[chain] = true
			return chain
		}
		stream := func() []redis.XMessage {
			entries, err := f.raw.XRange(ctx, f.tag+"changes", "-", "+").Result()
			must(t, err)
			return entries
		}
		entries := stream()
		if len(entries) != 1 || entries[0].ID != "1790000000-41999" {
			t.Fatalf("the stream is %v", entries)
		}
		whole := merge(first, map[string]any{
			"from": "0-0", "to": "1790000000-41", "chain": chainOf(
				entries[0]), "part": "1", "last": "1", "reset": "1", "changes": "[]",
		})
		whole["bytes"] = size(whole)
		check("the entry of a whole", whole, entries[0].Values)
		checkHash("head", merge(first, map[string]any{"stream_bytes": size(entries[0].Values)}))
		checkHash("providers", map[string]any{"7": `{"id":7}`})
		checkHash("models", map[string]any{"default.gpt-4o": `{"name":"gpt-4o"}`})
		checkHash("keys", map[string]any{"ab": `{"name":"ab"}`})

		// A delta of one part, over two revisions.
		over := w.head.Base()
		d := w.change(
			position(1790000000, 43),
			keyDoc("cd", `{"a":"<\"é"}`),
			snapshot.Change{Kind: catalog.KindKey, Key: "ab"},
		)
		must(t, f.Apply(ctx, over, d))
		entries = stream()
		if len(entries) != 2 || entries[1].ID != "1790000000-43999" {
			t.Fatalf("the stream is %v", entries)
		}
		entry := merge(headOf(d.Head), map[string]any{
			"from": "1790000000-41", "to": "1790000000-43", "chain": chainOf(entries[1]), "part": "1", "last": "1", "reset": "0",
			"changes": `[{"kind":"keys","key":"cd","op":"put","doc":"{\"a\":\"<\\\"é\"}"},{"kind":"keys","key":"ab","op":"delete"}]`,
		})
		entry["bytes"] = size(entry)
		check("an entry", entry, entries[1].Values)
		checkHash("keys", map[string]any{"cd": `{"a":"<\"é"}`})
		bytes := add(size(entries[0].Values), size(entries[1].Values))
		checkHash("head", merge(headOf(d.Head), map[string]any{"stream_bytes": bytes}))

		// One of three parts.
		large := follow(t, f, w, many(1_200, 1)...)
		entries = stream()[2:]
		var total string
		for i, id := range []string{"1790000000-44000", "1790000000-44001", "1790000000-44999"} {
			e := entries[i]
			last := i == 2
			if e.ID != id || e.Values["part"] != strconv.Itoa(i+1) || e.Values["last"] != flagText(last) ||
				e.Values["chain"] != entries[0].Values["chain"] || e.Values["from"] != "1790000000-43" ||
				e.Values["to"] != "1790000000-44" {
				t.Fatalf("part %d is %s with %v", i+1, e.ID, shortened(e.Values))
			}
			if _, has := e.Values["sig"]; has != last {
				t.Fatalf("part %d: it has the head's fields: %t", i+1, has)
			}
			total = add(total, size(e.Values))
		}
		if entries[2].Values["bytes"] != total {
			t.Fatalf("the chain says that it is %v bytes, it is %s", entries[2].Values["bytes"], total)
		}
		chainOf(entries[0])
		checkHash("head", merge(headOf(large.Head), map[string]any{"stream_bytes": add(bytes, total)}))
		if len(chains) != 3 {
			t.Fatalf("three publishes have the chains %v", chains)
		}

		for _, version := range []string{"1790000000-41", "1790000000-43", "1790000000-44"} {
			var hint map[string]any
			for hint["active_key"] != f.tag+"head" { // the channel is one for all who use this server
				message, err := messages.ReceiveMessage(ctx)
				must(t, err)
				must(t, json.Unmarshal([]byte(message.Payload), &hint))
			}
			sent := time.Unix(int64(hint["timestamp"].(float64)), 0)
			if since := time.Since(sent); since < -time.Minute || since > time.Minute {
				t.Errorf("the hint was sent at %s", sent)
			}
			delete(hint, "timestamp")
			check(
				"hint",
				map[string]any{"resource": "snapshot", "version": version, "active_key": f.tag + "head"},
				hint,
			)
		}

		beat := snapshot.Beat{
			Store:    "store",
			Position: position(10, 2),
			At:       time.Unix(1_790_000_000, 0),
			Seal:     "s",
			Sig:      "beef",
		}
		must(t, f.SetBeat(ctx, beat))
		if text := f.raw.Get(ctx, f.tag+"beat").Val(); text !=
			`{"at":"2026-09-21T14:13:20Z","position":"10-2","seal":"s","sig":"beef","store":"store"}` {
			t.Errorf("the beat is %s", text)
		}

		_, err = f.Report(
			ctx,
			snapshot.Node{
				ID:       "n-1",
				Position: position(10, 2),
				Version:  "v1",
				Error:    `a "b"`,
				Kinds:    []catalog.Kind{"keys"},
			},
		)
		must(t, err)
		var node map[string]any
		must(t, json.Unmarshal([]byte(f.hash(t, "nodes")["n-1"].(string)), &node))
		seen, ok := node["seen_at"].(float64)
		if !ok || seen < 1.7e9 || seen > 1e11 {
			t.Errorf("seen_at is %v, want unix seconds", node["seen_at"])
		}
		if score := f.raw.ZScore(ctx, f.tag+"nodes:seen", "n-1").Val(); score != seen {
			t.Errorf("the index says %f, the report %f", score, seen)
		}
		delete(node, "seen_at")
		check("node", map[string]any{
			"id": "n-1", "position": "10-2", "head": "", "version": "v1", "error": `a "b"`, "kinds": "keys", "store": "", "sig": "",
		}, node)

		for _, name := range []string{"head", "providers", "models", "bindings", "keys", "changes", "nodes", "nodes:seen",
			"beat"} {
			if ttl := f.raw.TTL(ctx, f.tag+name).Val(); ttl != -1 && name != "bindings" {
				t.Errorf("%s has a time to live of %s", name, ttl)
			}
		}
	})
}

// many are puts of keys.
func many(n, version int) []snapshot.Change {
	changes := make([]snapshot.Change, n)
	for i := range changes {
		changes[i] = keyDoc(fmt.Sprintf("%064x", i), fmt.Sprintf(`{"id":%d,"version":%d}`, i, version))
	}
	return changes
}

func flagText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func shortened(values map[string]any) map[string]any {
	s := maps.Clone(values)
	delete(s, "changes")
	return s
}

func (f *fixture) hash(t testing.TB, name string) map[string]any {
	fields, err := f.raw.HGetAll(t.Context(), f.tag+name).Result()
	must(t, err)
	values := make(map[string]any, len(fields))
	for name, v := range fields {
		values[name] = v
	}
	return values
}

func merge(a, b map[string]any) map[string]any {
	merged := maps.Clone(a)
	maps.Copy(merged, b)
	return merged
}

// size is what an entry counts in bytes: names and values, but for what says so.
func size(entry map[string]any) string {
	n := 0
	for name, v := range entry {
		if name != "bytes" {
			n += len(name) + len(v.(string))
		}
	}
	return strconv.Itoa(n)
}

func add(a, b string) string {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return strconv.Itoa(x + y)
}

// TestTrim: the stream stays within its bytes, whole publishes go, and the head knows how many
// bytes there are.
func TestTrim(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		const maxBytes = 150_000
		f := newFixture(t, addr, redisstore.Options{StreamMaxBytes: maxBytes})
		ctx := t.Context()
		w := newWorld(position(1, 0))
		must(t, publish(ctx, f.Publisher, w))
		for i := range 60 {
			changes := []snapshot.Change{keyDoc("k", `"`+strings.Repeat("x", i*50)+`"`)}
			switch {
			case i == 30: // more than fits: only this one stays
				changes = []snapshot.Change{keyDoc("k", `"`+strings.Repeat("x", maxBytes)+`"`)}
			case i%15 == 5: // in three parts
				changes = many(1_200, i)
			}
			d := follow(t, f, w, changes...)
			entries, err := f.raw.XRange(ctx, f.tag+"changes", "-", "+").Result()
			must(t, err)
			bytes, open := 0, 0
			for _, e := range entries {
				n, _ := strconv.Atoi(size(e.Values))
				bytes += n
				if open++; e.Values["part"] != strconv.Itoa(open) {
					t.Fatalf("after %d publishes entry %s is part %s, want %d", i, e.ID, e.Values["part"], open)
				}
				if e.Values["last"] == "1" {
					open = 0
				}
			}
			if stated := f.hash(t, "head")["stream_bytes"]; stated != strconv.Itoa(bytes) {
				t.Fatalf("after %d publishes the head states %s bytes, the stream holds %d", i, stated, bytes)
			}
			if oldest := entries[0].Values["chain"]; bytes > maxBytes &&
				oldest != entries[len(entries)-1].Values["chain"] {
				t.Fatalf("after %d publishes the stream holds %d bytes in %d entries", i, bytes, len(entries))
			}
			if newest := entries[len(entries)-1]; newest.Values["to"] != d.Head.Position.String() ||
				newest.Values["last"] != "1" {
				t.Fatalf("the newest entry is %s", newest.ID)
			}
		}
		holds(t, f, w)
	})
}
