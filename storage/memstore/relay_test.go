package memstore_test

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

// The tests of relays and mirrors wait much and work little.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "5"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestRelay(t *testing.T) {
	t.Parallel()
	storagetest.RunRelay(t, func(testing.TB) storagetest.RelayHarness {
		pub := memstore.NewPublisher()
		return storagetest.RelayHarness{Catalog: memstore.New(nil), Publisher: pub, Meddler: meddler{pub}}
	})
}

func TestMirror(t *testing.T) {
	t.Parallel()
	storagetest.RunMirror(t, func(testing.TB) storagetest.MirrorHarness {
		region := memstore.NewPublisher()
		return storagetest.MirrorHarness{
			Catalog: memstore.New(nil), Origin: memstore.NewPublisher(), Region: region, Meddler: meddler{region},
		}
	})
}

type meddler struct{ pub *memstore.Publisher }

func (m meddler) Head(testing.TB) (f snapshot.Fields) {
	m.pub.Tamper(func(c *memstore.Contents) { f = maps.Clone(c.Head) })
	return f
}

func (m meddler) SetHead(_ testing.TB, f snapshot.Fields) {
	m.pub.Tamper(func(c *memstore.Contents) { c.Head = maps.Clone(f) })
}

func (m meddler) Doc(_ testing.TB, k catalog.Kind, key string) (doc []byte) {
	m.pub.Tamper(func(c *memstore.Contents) { doc = bytes.Clone(c.Docs[k][key]) })
	return doc
}

func (m meddler) SetDoc(_ testing.TB, k catalog.Kind, key string, doc []byte) {
	m.pub.Tamper(func(c *memstore.Contents) {
		if doc == nil {
			delete(c.Docs[k], key)
			return
		}
		if c.Docs[k] == nil {
			c.Docs[k] = map[string][]byte{}
		}
		c.Docs[k][key] = bytes.Clone(doc)
	})
}

func (m meddler) Drop(_ testing.TB, k catalog.Kind) {
	m.pub.Tamper(func(c *memstore.Contents) { delete(c.Docs, k) })
}

func (m meddler) Stray(testing.TB) {
	m.pub.Tamper(func(c *memstore.Contents) { c.Stray = "a stray" })
}

func (m meddler) Strayed(testing.TB) (is bool) {
	m.pub.Tamper(func(c *memstore.Contents) { is = c.Stray != "" })
	return is
}

func (m meddler) Save(testing.TB) (restore func()) {
	var saved memstore.Contents
	clone := func(c *memstore.Contents) memstore.Contents {
		docs := map[catalog.Kind]map[string][]byte{}
		for kind, of := range c.Docs {
			docs[kind] = maps.Clone(of)
		}
		return memstore.Contents{Head: maps.Clone(c.Head), Docs: docs, Deltas: slices.Clone(c.Deltas), Stray: c.Stray,
			Beat: c.Beat}
	}
	m.pub.Tamper(func(c *memstore.Contents) { saved = clone(c) })
	return func() { m.pub.Tamper(func(c *memstore.Contents) { *c = clone(&saved) }) }
}
