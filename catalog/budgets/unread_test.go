package budgets_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/storage/memstore"
)

// Whoever never read the catalog does not know who has budgets, and says that none can be judged.
func TestBudgetsOfACatalogThatWasNeverRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, accounts := memstore.New(nil), catalog.NewAccounts()
		e := budgets.NewEnforcer(budgets.Options{
			Sink: memstore.NewSink(nil), Accounts: accounts, LogTime: time.Now, Clock: time.Now,
			Logger: slog.New(slog.DiscardHandler), Interval: time.Second,
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		if err := e.Ready(); err != nil {
			t.Errorf("at the start: %v", err)
		}
		time.Sleep(10 * time.Second)
		s := e.Status()
		if e.Ready() == nil || !s.Unread || s.LastError == "" || s.FailsFrom.IsZero() || !s.JudgedAt.IsZero() {
			t.Errorf("ready: %v, %+v; want that nothing can be judged", e.Ready(), s)
		}
		if err := store.Read(ctx, func(r catalog.Reader) error { return accounts.Load(ctx, r) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if s := e.Status(); e.Ready() != nil || s.Unread || s.LastError != "" || s.JudgedAt.IsZero() {
			t.Errorf("after the catalog was read: ready: %v, %+v", e.Ready(), s)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
