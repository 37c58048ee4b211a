package redisstore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestRelay(t *testing.T) {
	t.Parallel()
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR names no server: the relay is NOT TESTED on a real Redis")
	}
	storagetest.RunRelay(t, func(t testing.TB) storagetest.RelayHarness {
		f := newFixture(t, realRedis, redisstore.Options{})
		return storagetest.RelayHarness{
			Catalog:   memstore.New(nil),
			Publisher: f.Publisher,
			Meddler:   meddler{f.raw, f.tag},
		}
	})
}

// meddler writes to Redis as anybody can who has its password.
type meddler struct {
	redis *redis.Client
	tag   string
}

func (m meddler) Head(t testing.TB) snapshot.Fields {
	f, err := m.redis.HGetAll(t.Context(), m.tag+"head").Result()
	must(t, err)
	return f
}

func (m meddler) SetHead(t testing.TB, f snapshot.Fields) {
	_, err := m.redis.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Unlink(t.Context(), m.tag+"head")
		for name, value := range f {
			p.HSet(t.Context(), m.tag+"head", name, value)
		}
		return nil
	})
	must(t, err)
}

func (m meddler) Doc(t testing.TB, k catalog.Kind, key string) []byte {
	doc, err := m.redis.HGet(t.Context(), m.tag+string(k), key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	must(t, err)
	return doc
}

func (m meddler) SetDoc(t testing.TB, k catalog.Kind, key string, doc []byte) {
	if doc == nil {
		must(t, m.redis.HDel(t.Context(), m.tag+string(k), key).Err())
		return
	}
	must(t, m.redis.HSet(t.Context(), m.tag+string(k), key, doc).Err())
}

func (m meddler) Drop(t testing.TB, k catalog.Kind) {
	must(t, m.redis.Unlink(t.Context(), m.tag+string(k)).Err())
}

func (m meddler) Mistyped(t testing.TB) map[string]func() {
	spoil := map[string]func(){}
	for _, name := range []string{"head", "changes", "beat", "nodes", "nodes:seen", "lease:scrub", "keys", "models"} {
		spoil[name] = func() {
			_, err := m.redis.TxPipelined(t.Context(), func(p redis.Pipeliner) error { // nobody writes in between
				p.Unlink(t.Context(), m.tag+name)
				p.SAdd(t.Context(), m.tag+name, "x")
				return nil
			})
			must(t, err)
		}
	}
	return spoil
}

func (m meddler) Stray(t testing.TB) {
	must(t, m.redis.XAdd(t.Context(), &redis.XAddArgs{
		Stream: m.tag + "changes", ID: "99999999999999-0", Values: []any{"x", "y"},
	}).Err())
}

func (m meddler) Strayed(t testing.TB) bool {
	head, err := m.redis.HMGet(t.Context(), m.tag+"head", "epoch", "revision").Result()
	must(t, err)
	after := fmt.Sprintf("(%s-%s999", head...)
	entries, err := m.redis.XRangeN(t.Context(), m.tag+"changes", after, "+", 1).Result()
	must(t, err)
	return len(entries) > 0
}

func (m meddler) Save(t testing.TB) (restore func()) {
	keys, err := m.redis.Keys(t.Context(), m.tag+"*").Result()
	must(t, err)
	dumps := map[string]string{}
	for _, key := range keys {
		dump, err := m.redis.Dump(t.Context(), key).Result()
		must(t, err)
		dumps[key] = dump
	}
	return func() {
		keys, err := m.redis.Keys(t.Context(), m.tag+"*").Result()
		must(t, err)
		_, err = m.redis.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Unlink(t.Context(), keys...)
			for key, dump := range dumps {
				p.RestoreReplace(t.Context(), key, 0, dump)
			}
			return nil
		})
		must(t, err)
	}
}
