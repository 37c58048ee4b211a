package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// TestFloodOfReports: reports that are written past the script are bounded as all others are, and the honest node
// among them is seen.
func TestFloodOfReports(t *testing.T) {
	t.Parallel()
	const most, flood = 700, 3000
	for name, c := range map[string]struct {
		score    float64 // seconds from now
		indexed  bool
		hashed   bool
		crowded  bool
		longName bool
	}{
		"as they should be":        {indexed: true, hashed: true, crowded: true},
		"of nodes that are lost":   {score: -60, indexed: true, hashed: true},
		"in the index alone":       {indexed: true, crowded: true},
		"in the hash alone":        {hashed: true},
		"from the future":          {score: 3600, indexed: true, hashed: true},
		"of nodes with long names": {indexed: true, hashed: true, crowded: true, longName: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, addr string) {
				f := newFixture(t, addr, redisstore.Options{})
				f.SetMaxNodes(most)
				ctx := t.Context()
				p, now := f.raw.Pipeline(), float64(time.Now().Unix())
				for i := range flood {
					id := fmt.Sprintf("flood-%06d", i)
					if c.longName {
						id += strings.Repeat("x", 300)
					}
					if c.indexed {
						p.ZAdd(ctx, f.tag+"nodes:seen", redis.Z{Score: now + c.score, Member: id})
					}
					if c.hashed {
						p.HSet(ctx, f.tag+"nodes", id, `{"id":"`+id+`","position":"1-1"}`)
					}
				}
				_, err := p.Exec(ctx)
				must(t, err)
				_, err = f.Report(ctx, snapshot.Node{ID: "honest"})
				must(t, err)
				list, err := f.Nodes(ctx, snapshot.NodeQuery{})
				must(t, err)
				if !slices.ContainsFunc(list.Nodes, func(n snapshot.Node) bool { return n.ID == "honest" }) {
					t.Error("the honest node is not seen")
				}
				if len(list.Nodes) > most || list.Total > most || list.Crowded != c.crowded {
					t.Errorf("%d nodes, total %d, crowded %t", len(list.Nodes), list.Total, list.Crowded)
				}
				if _, err = f.Nodes(ctx, snapshot.NodeQuery{}); err != nil {
					t.Fatal(err)
				}
				if n, m := f.raw.ZCard(ctx, f.tag+"nodes:seen").Val(), f.raw.HLen(ctx, f.tag+"nodes").Val(); n > most || m > most {
					t.Errorf("%d are in the index, %d in the hash", n, m)
				}
			})
		})
	}
}

// TestSpoiltCrowded: that there are too many nodes is said for as long as report.lua says it, and no longer.
func TestSpoiltCrowded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		_, err := f.Report(t.Context(), snapshot.Node{ID: "n"})
		must(t, err)
		for ttl, want := range map[time.Duration]bool{0: false, time.Hour: false, 10 * time.Second: true} {
			must(t, f.raw.Set(t.Context(), f.tag+"nodes:crowded", "1", ttl).Err())
			list, err := f.Nodes(t.Context(), snapshot.NodeQuery{})
			must(t, err)
			if list.Crowded != want {
				t.Errorf("with a time to live of %s it is crowded: %t", ttl, list.Crowded)
			}
		}
	})
}

// TestNoCommitsWithoutRights: while a right is missing that publishing the whole needs, nothing is recorded in the
// catalog, and the error names the right.
func TestNoCommitsWithoutRights(t *testing.T) {
	t.Parallel()
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR names no server: floods of reports on a real Redis are NOT TESTED")
	}
	ctx := t.Context()
	admin := newClient(t, realRedis)
	for _, right := range []string{"zadd", "rename", "persist", "xtrim", "unlink", "hset", "evalsha"} {
		t.Run(right, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, realRedis, redisstore.Options{})
			user := f.opts.Prefix
			must(t, admin.Do(ctx, "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", "-"+right).Err())
			t.Cleanup(func() { admin.Do(context.Background(), "ACL", "DELUSER", user) })
			client := redis.NewClient(&redis.Options{Addr: realRedis, Username: user, Password: "pw"})
			defer client.Close()
			store := memstore.New(nil)
			relay := snapshot.NewRelay(catalog.NewTables(store, catalog.NewRandomKeyRing(), nil),
				redisstore.New(client, &f.opts), &snapshot.RelayOptions{Logger: quietly()})
			revision := func() (at catalog.Revision) {
				must(t, store.Read(ctx, func(r catalog.Reader) error { at = r.Head().Revision; return nil }))
				return at
			}
			if right == "zadd" { // which only reports need
				if _, err := relay.Sync(ctx); err != nil {
					t.Errorf("without %s: %v", right, err)
				}
				return
			}
			before := revision()
			for range 5 {
				_, err := relay.Sync(ctx)
				if !errors.Is(err, redisstore.ErrRights) || !strings.Contains(err.Error(), right) {
					t.Fatalf("without %s: %v", right, err)
				}
				if s := relay.Status(); s.Trouble != snapshot.TroubleRefused {
					t.Errorf("trouble %q: %s", s.Trouble, s.LastError)
				}
			}
			if after := revision(); after != before {
				t.Errorf("%d revisions were made of it", after-before)
			}
			must(t, admin.Do(ctx, "ACL", "SETUSER", user, "+"+right).Err())
			if _, err := relay.Sync(ctx); err != nil {
				t.Errorf("with all rights: %v", err)
			}
		})
	}
}
