package redisstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// manyNodes returns reports of data planes that are called node-0 and on.
func manyNodes(n int, age time.Duration) (nodes []snapshot.Node) {
	for i := range n {
		nodes = append(nodes, snapshot.Node{
			ID: fmt.Sprint("node-", i), Position: position(1, 2), Version: "v1.2.3", Age: age,
		})
	}
	return nodes
}

// largeNode returns a report of 60 kB, as a later version may have it.
func largeNode(t testing.TB, id string) snapshot.Node {
	fields := map[string]string{"id": id, "position": "1-2"}
	for i := range 60 {
		fields["field_"+string(rune('a'+i/26))+string(rune('a'+i%26))] = strings.Repeat("x", 1000)
	}
	text, err := json.Marshal(fields)
	must(t, err)
	n, err := snapshot.ParseNode(text)
	must(t, err)
	return n
}

// TestReportAllTakesFewCommands: a hundred reports take one command, and large ones so many that none is
// large.
func TestReportAllTakesFewCommands(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		_, err := f.Report(t.Context(), snapshot.Node{ID: "sends the script"})
		must(t, err)
		commands, largest := 0, 0
		f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
			size := 0
			for _, arg := range cmd.Args() {
				if text, ok := arg.([]byte); ok {
					size += len(text)
				}
			}
			commands, largest = commands+1, max(largest, size)
		}))
		must(t, errors.Join(f.ReportAll(t.Context(), manyNodes(1001, time.Second))...))
		if commands != 11 {
			t.Errorf("1,001 reports took %d commands, want 11", commands)
		}
		var large []snapshot.Node
		for i := range 20 {
			large = append(large, largeNode(t, fmt.Sprint("large-", i)))
		}
		commands, largest = 0, 0
		must(t, errors.Join(f.ReportAll(t.Context(), large)...))
		if commands < 5 || largest > 256<<10 {
			t.Errorf("20 reports of 60 kB took %d commands of up to %d bytes", commands, largest)
		}
		list, err := f.Nodes(t.Context(), snapshot.NodeQuery{})
		must(t, err)
		if len(list.Nodes) != 1+1001+20 {
			t.Errorf("%d reports are kept", len(list.Nodes))
		}
	})
}

// TestReportAllMends: what stands in place of the reports is replaced, and none of those that came is lost.
func TestReportAllMends(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		for _, key := range []string{"nodes", "nodes:seen", "nodes:left"} {
			for _, age := range []time.Duration{0, time.Second} {
				must(t, f.raw.Del(ctx, f.tag+"nodes", f.tag+"nodes:seen").Err())
				must(t, errors.Join(f.ReportAll(ctx, manyNodes(3, age))...))
				must(t, f.raw.Del(ctx, f.tag+key).Err())
				must(t, f.raw.LPush(ctx, f.tag+key, "x").Err())
				nodes := append(manyNodes(150, age), snapshot.Node{ID: "leaves", Leaving: true})
				must(t, errors.Join(f.ReportAll(ctx, nodes)...))
				list, err := f.Nodes(ctx, snapshot.NodeQuery{})
				must(t, err)
				if len(list.Nodes) != 150 || len(list.Left) == 0 || list.Left[len(list.Left)-1].ID != "leaves" {
					t.Errorf("%s was a list: %d reports are kept, %d have left", key, len(list.Nodes), len(list.Left))
				}
			}
		}
	})
}

// TestReportAllCrowded: of more reports than there may be the longest unseen go, and the list says so.
func TestReportAllCrowded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		f.SetMaxNodes(50)
		ctx := t.Context()
		must(t, errors.Join(f.ReportAll(ctx, manyNodes(50, 0))...))
		age(t, f.raw, f.tag, snapshot.Liveness+time.Second)
		nodes := manyNodes(100, 0)
		must(t, errors.Join(f.ReportAll(ctx, nodes[50:])...))
		list, err := f.Nodes(ctx, snapshot.NodeQuery{})
		must(t, err)
		if list.Crowded || list.Total != 50 {
			t.Fatalf("after lost nodes had to go: %d, crowded %t", list.Total, list.Crowded)
		}
		must(t, errors.Join(f.ReportAll(ctx, nodes[:1])...))
		if total := f.raw.ZCard(ctx, f.tag+"nodes:seen").Val(); total != 50 {
			t.Errorf("%d reports are kept", total)
		}
		list, err = f.Nodes(ctx, snapshot.NodeQuery{})
		must(t, err)
		if !list.Crowded || list.Total != 50 {
			t.Errorf("after a live node had to go: %d, crowded %t", list.Total, list.Crowded)
		}
	})
}

// TestReportAllWithoutRights: a report for which a right is missing keeps no other out, and no report is
// taken as newer because what is kept may not be read.
func TestReportAllWithoutRights(t *testing.T) {
	t.Parallel()
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR names no server: missing rights are NOT TESTED")
	}
	admin := newClient(t, realRedis)
	for right, wants := range map[string][]bool{ // whether each report is taken
		"set":    {true, false, true, true},
		"hdel":   {true, false, true, true},
		"hset":   {false, true, false, true}, // the last is older than what is kept
		"zadd":   {false, true, false, true},
		"zscore": {false, false, false, false},
	} {
		t.Run(right, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			f := newFixture(t, realRedis, redisstore.Options{})
			_, err := f.Report(ctx, snapshot.Node{ID: "kept", Position: position(1, 5)})
			must(t, err)
			user := f.opts.Prefix
			must(t, admin.Do(ctx, "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", "-"+right).Err())
			t.Cleanup(func() { admin.Do(context.Background(), "ACL", "DELUSER", user) })
			client := redis.NewClient(&redis.Options{Addr: realRedis, Username: user, Password: "pw"})
			defer client.Close()
			errs := redisstore.New(client, &f.opts).ReportAll(ctx, []snapshot.Node{
				{}, {ID: "one"}, {ID: "leaves", Leaving: true}, {ID: "two", Age: time.Second},
				{ID: "kept", Position: position(1, 4), Age: time.Minute},
			})
			if !errors.Is(errs[0], catalog.ErrInvalid) {
				t.Errorf("the error of a report without an id is %v", errs[0])
			}
			for i, taken := range wants {
				if err := errs[i+1]; taken && err != nil || !taken && !errors.Is(err, redisstore.ErrRights) {
					t.Errorf("without %s: error %d is %v", right, i+1, err)
				}
			}
			list, err := f.Nodes(ctx, snapshot.NodeQuery{})
			must(t, err)
			ids := map[string]bool{}
			for _, n := range list.Nodes {
				ids[n.ID] = n.ID != "kept" || n.Position == position(1, 5)
			}
			if !ids["kept"] || wants[0] && !ids["one"] || wants[2] && !ids["two"] {
				t.Errorf("without %s there are reports of %v", right, ids)
			}
		})
	}
}
