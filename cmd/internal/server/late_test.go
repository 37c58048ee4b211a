package server

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// A catalog that was not reached at the start is away, and is not one that lacks something.
func TestLateStoreIsAway(t *testing.T) {
	never := func(context.Context) (*pgstore.Store, error) { return nil, errors.New("away") }
	l := openLate(never, make(chan struct{}), slog.New(slog.DiscardHandler))
	defer l.Close() //nolint:errcheck // nothing was opened
	ctx := t.Context()
	for name, err := range map[string]error{
		"Read":    l.Read(ctx, func(catalog.Reader) error { return nil }),
		"Commit":  second(l.Commit(ctx, catalog.Commit{})),
		"NextIDs": second(l.NextIDs(ctx, 1)),
		"Prune":   second(l.PruneChanges(ctx, time.Now())), "Thin": second(l.ThinChanges(ctx, time.Now())),
		"Raise": second(l.RaiseAlerts(ctx, nil)), "Alerts": second(l.Alerts(ctx, alerts.Query{})),
		"Claim":  second(l.ClaimAlerts(ctx, time.Now(), time.Now(), 1)),
		"Settle": l.SettleAlert(ctx, 1, alerts.Outcome{}), "Prune alerts": second(l.PruneAlerts(ctx, time.Now())),
	} {
		if !errors.Is(err, catalog.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
