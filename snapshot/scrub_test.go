package snapshot_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// crippled is a publisher that fails for one control plane, where err is set.
type crippled struct {
	*memstore.Publisher
	headErr, repairErr, documentsErr error
	compared                         []time.Time // when it was asked for all keys
}

func (c *crippled) Head(ctx context.Context) (snapshot.Head, error) {
	if c.headErr != nil {
		return snapshot.Head{}, c.headErr
	}
	return c.Publisher.Head(ctx)
}

func (c *crippled) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	if c.repairErr != nil {
		return c.repairErr
	}
	return c.Publisher.Repair(ctx, over, changes)
}

func (c *crippled) Documents(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
	if c.documentsErr == nil {
		return c.Publisher.Documents(ctx, k)
	}
	c.compared = append(c.compared, time.Now())
	return func(yield func(snapshot.Document, error) bool) { yield(snapshot.Document{}, c.documentsErr) }
}

// A control plane that came first and cannot mend keeps no other one from comparing.
func TestWhoCannotMendLeavesItToOthers(t *testing.T) {
	broken := errors.New("unplugged")
	for name, cripple := range map[string]func(c *crippled){
		"it has never read what is published": func(c *crippled) { c.headErr = broken },
		"its passes fail":                     func(c *crippled) { c.repairErr = broken },
		"it cannot compare":                   func(c *crippled) { c.documentsErr = broken },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, syncKey)
				createKeys(t, w, 3)
				ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
				c := &crippled{Publisher: w.pub}
				cripple(c)
				first := w.newRelayOver(c)
				defer running(t, first.Run)()
				time.Sleep(15 * time.Second) // it has the lease, if it takes it
				if s := first.Status(); !s.ScrubbedAt.IsZero() || (s.ScrubError != "") != (c.documentsErr != nil) {
					t.Errorf("status %+v", s)
				}
				for i := 1; i < len(c.compared); i++ {
					if pause := c.compared[i].Sub(c.compared[i-1]); pause < 6*time.Second {
						t.Errorf("it has tried to compare again after %s, and left no time to others", pause)
					}
				}
				defer running(t, w.newRelay().Run)()
				time.Sleep(10 * time.Second)

				good := published(t, w.pub, w.keys)
				w.pub.Tamper(func(c *memstore.Contents) {
					for key := range c.Docs[catalog.KindKey] {
						c.Docs[catalog.KindKey][key] = slices.Concat(c.Docs[catalog.KindKey][key], []byte(" "))
						break
					}
				})
				time.Sleep(10 * time.Second)
				same(t, "what is published", good, published(t, w.pub, w.keys))
				if got := first.Status().ScrubError; got != "" {
					t.Errorf("while another one compares, the first says %q", got)
				}
			})
		})
	}
}

// overtaken is a publisher over which somebody else is faster than the second who looks.
type overtaken struct {
	*memstore.Publisher
	looks int
	other func()
}

func (o *overtaken) Head(ctx context.Context) (snapshot.Head, error) {
	if o.looks++; o.looks == 2 {
		o.other()
	}
	return o.Publisher.Head(ctx)
}

// Who writes everything again does so by what the catalog is at the published position, and not by what
// this relay knew before.
func TestNothingIsRestoredFromAnOldRendering(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	createKeys(t, w, 10_001) // more than is mended by name
	ok[catalog.Model](t)(w.tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	provider := catalog.Provider{Name: "p", Type: "openai", Models: []string{"m"}}
	ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, provider))
	var binding []byte
	read := func() []byte {
		docs := ok[[]snapshot.Document](t)(w.pub.Lookup(ctx, catalog.KindBinding, "default.m"))
		return docs[0].Doc
	}
	pub := &overtaken{Publisher: w.pub}
	pub.other = func() {
		provider.Name = "q"
		ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, provider))
		ok[snapshot.Head](t)(w.newRelay().Sync(ctx))
		binding = read()
	}
	relay := w.newRelayOver(pub)
	ok[snapshot.Head](t)(relay.Sync(ctx))
	w.pub.Tamper(func(c *memstore.Contents) {
		for key := range c.Docs[catalog.KindKey] {
			c.Docs[catalog.KindKey][key] = []byte("{}")
		}
	})
	pub.looks = 0
	if err := relay.Scrub(ctx); !errors.Is(err, snapshot.ErrWaiting) {
		t.Errorf("scrub: %v, want that it waits", err)
	}
	if got := read(); binding == nil || string(got) != string(binding) {
		t.Errorf("the binding is %s, it was published as %s", got, binding)
	}
	if err := relay.Scrub(ctx); err != nil {
		t.Error(err)
	}
	same(t, "what is published", w.afresh(t), published(t, w.pub, w.keys))
}
