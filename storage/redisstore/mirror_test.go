package redisstore_test

import (
	"testing"

	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestMirror(t *testing.T) {
	t.Parallel()
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR names no server: the mirror is NOT TESTED on a real Redis")
	}
	storagetest.RunMirror(t, func(t testing.TB) storagetest.MirrorHarness {
		origin, region := newFixture(t, realRedis, redisstore.Options{}), newFixture(t, realRedis, redisstore.Options{})
		return storagetest.MirrorHarness{
			Catalog: memstore.New(nil), Origin: origin.Publisher, Region: region.Publisher,
			Meddler: meddler{region.raw, region.tag},
		}
	})
}
