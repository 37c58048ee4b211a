package redisstore_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// TestContract reads every key with plain commands, as a balancer in another
// language does.
func TestContract(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		messages := f.raw.Subscribe(ctx, "dp:config:refresh")
		t.Cleanup(func() { must(t, messages.Close()) })
		_, err := messages.Receive(ctx)
		must(t, err)

		s := whole(position(1790000000, 41), "ab")
		s.Docs = append(s.Docs,
			snapshot.Document{Kind: catalog.KindProvider, Key: "7", Doc: []byte(`{"id":7}`)},
			snapshot.Document{Kind: catalog.KindModel, Key: "default.gpt-4o", Doc: []byte(`{"name":"gpt-4o"}`)},
			snapshot.Document{Kind: catalog.KindBinding, Key: "default.gpt-4o", Doc: []byte(`{"public_model":"gpt-4o"}`)})
		s.Head.Counts = snapshot.Counts{catalog.KindKey: 1, catalog.KindProvider: 1, catalog.KindModel: 1, catalog.KindBinding: 1}
		s.Head.Sig, s.Head.Seal, s.Head.Renderer, s.Head.Forced = "cafe", "2026", 3, true
		s.Head.Digest = digest(s.Docs)
		must(t, f.Replace(ctx, s, nil))

		common := map[string]any{
			"format": "1", "store": "store", "mark": "0123456789abcdef0123456789abcdef",
			"digest": s.Head.Digest.String(), "sig": "cafe", "seal": "2026", "renderer": "3",
			"counts": `{"bindings":1,"keys":1,"models":1,"providers":1}`, "updated_at": "2026-01-02T03:04:05.000006Z", "forced": "1",
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
		entryOf := func(fields map[string]any) map[string]any { return merge(common, fields) }
		reset := entryOf(map[string]any{"from": "0-0", "to": "1790000000-41", "reset": "1", "changes": "[]"})
		checkHash("head", merge(common, map[string]any{"epoch": "1790000000", "revision": "41", "stream_bytes": size(reset)}))
		checkHash("providers", map[string]any{"7": `{"id":7}`})
		checkHash("models", map[string]any{"default.gpt-4o": `{"name":"gpt-4o"}`})
		checkHash("bindings", map[string]any{"default.gpt-4o": `{"public_model":"gpt-4o"}`})
		checkHash("keys", map[string]any{"ab": `{"name":"ab"}`})

		d := snapshot.Delta{From: s.Head.Position, Head: s.Head, Changes: []snapshot.Change{
			{Kind: catalog.KindKey, Key: "cd", Doc: []byte(`{"a":"<\"é"}`)},
			{Kind: catalog.KindKey, Key: "ab"},
		}}
		d.Head.Position.Revision, d.Head.Forced = 43, false
		must(t, f.Apply(ctx, d))
		common["forced"] = "0"
		entry := entryOf(map[string]any{
			"from": "1790000000-41", "to": "1790000000-43", "reset": "0",
			"changes": `[{"kind":"keys","key":"cd","op":"put","doc":"{\"a\":\"<\\\"é\"}"},{"kind":"keys","key":"ab","op":"delete"}]`,
		})
		checkHash("keys", map[string]any{"cd": `{"a":"<\"é"}`})
		checkHash("head", merge(common, map[string]any{
			"epoch": "1790000000", "revision": "43", "stream_bytes": add(size(reset), size(entry)),
		}))
		stream, err := f.raw.XRange(ctx, f.tag+"changes", "-", "+").Result()
		must(t, err)
		if len(stream) != 2 || stream[0].ID != "1790000000-41" || stream[1].ID != "1790000000-43" {
			t.Fatalf("the stream is %v", stream)
		}
		check("first entry", reset, stream[0].Values)
		check("second entry", entry, stream[1].Values)

		for _, version := range []string{"1790000000-41", "1790000000-43"} {
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
			check("hint", map[string]any{"resource": "snapshot", "version": version, "active_key": f.tag + "head"}, hint)
		}

		must(t, f.Report(ctx, snapshot.Node{ID: "n-1", Position: position(10, 2), Digest: s.Head.Digest, Version: "v1", Error: `a "b"`}))
		var node map[string]any
		must(t, json.Unmarshal([]byte(f.hash(t, "nodes")["n-1"].(string)), &node))
		if seen, ok := node["seen_at"].(float64); !ok || seen < 1.7e9 || seen > 1e11 {
			t.Errorf("seen_at is %v, want unix seconds", node["seen_at"])
		}
		delete(node, "seen_at")
		check("node", map[string]any{"position": "10-2", "digest": s.Head.Digest.String(), "version": "v1", "error": `a "b"`}, node)

		for _, name := range []string{"head", "providers", "models", "bindings", "keys", "changes", "nodes"} {
			if ttl := f.raw.TTL(ctx, f.tag+name).Val(); ttl != -1 {
				t.Errorf("%s has a time to live of %s", name, ttl)
			}
		}
	})
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

// size is what an entry counts in stream_bytes.
func size(entry map[string]any) string {
	n := 0
	for name, v := range entry {
		n += len(name) + len(v.(string))
	}
	return strconv.Itoa(n)
}

func add(a, b string) string {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return strconv.Itoa(x + y)
}

// TestTrim: the stream stays within its bytes, and the head knows how many
// there are.
func TestTrim(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{StreamMaxBytes: 20_000})
		ctx := t.Context()
		s := whole(position(1, 1))
		must(t, f.Replace(ctx, s, nil))
		for i := range 60 {
			length := i * 50
			if i == 40 { // more than fits: only this one stays
				length = 21_000
			}
			d := snapshot.Delta{From: s.Head.Position, Head: s.Head}
			d.Head.Position.Revision++
			d.Head.Counts = snapshot.Counts{catalog.KindKey: 1}
			d.Changes = []snapshot.Change{{Kind: catalog.KindKey, Key: "k", Doc: []byte(`"` + strings.Repeat("x", length) + `"`)}}
			must(t, f.Apply(ctx, d))
			s.Head = d.Head

			stream, err := f.raw.XRange(ctx, f.tag+"changes", "-", "+").Result()
			must(t, err)
			bytes := 0
			for _, e := range stream {
				n, _ := strconv.Atoi(size(e.Values))
				bytes += n
			}
			if stated := f.hash(t, "head")["stream_bytes"]; stated != strconv.Itoa(bytes) {
				t.Fatalf("after %d publishes the head states %s bytes, the stream holds %d", i, stated, bytes)
			}
			if bytes > 20_000 && len(stream) > 1 {
				t.Fatalf("after %d publishes the stream holds %d bytes in %d entries", i, bytes, len(stream))
			}
			if stream[len(stream)-1].ID != d.Head.Position.String() {
				t.Fatalf("the newest entry is %s", stream[len(stream)-1].ID)
			}
		}
	})
}
