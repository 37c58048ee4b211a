package ezapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

func newPlane(t *testing.T, config ezapi.Config) *ezapi.Plane {
	t.Helper()
	plane, err := ezapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return plane
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

func TestRunPublishesAndEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx) }()
	key, err := plane.Keys.Create(ctx, ezapi.Key{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key is published", func() bool {
		docs, err := plane.Publisher().Lookup(ctx, catalog.KindKey, catalog.HashToken(key.Token.Reveal()))
		return err == nil && len(docs) == 1
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v, want nil when its context ends", err)
	}
	if err := plane.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestLogsArePricedAndStored(t *testing.T) {
	sink := memstore.NewSink()
	plane := newPlane(t, ezapi.Config{LogSink: sink})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	price := catalog.NanoUSD(2_500_000_000)
	if _, err := plane.Models.Create(ctx, ezapi.Model{Name: "m", InputPrice: &price}); err != nil {
		t.Fatal(err)
	}
	go plane.Run(ctx)
	entry := ezapi.LogEntry{Namespace: "default", Model: "m", InputTokens: 1000, Time: time.Now()}
	eventually(t, "the price is known", func() bool {
		e := entry
		if err := plane.AppendLogs(ctx, e); err != nil {
			t.Fatal(err)
		}
		if err := plane.Logs().Flush(ctx); err != nil {
			t.Fatal(err)
		}
		page, err := plane.Archive().Logs(ctx, logbuf.LogQuery{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, stored := range page.Entries {
			if stored.CostNanoUSD != nil {
				if *stored.CostNanoUSD != 2_500_000 || stored.PricedRevision == 0 {
					t.Fatalf("cost %d at revision %d", *stored.CostNanoUSD, stored.PricedRevision)
				}
				return true
			}
		}
		return false
	})
}

func TestNewRefuses(t *testing.T) {
	for name, config := range map[string]ezapi.Config{
		"a catalog without a keeper": {Catalog: memstore.New(nil)},
		"logs kept too short":        {LogRetention: time.Hour},
	} {
		if _, err := ezapi.New(config); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
