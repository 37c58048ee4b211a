package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// A lateStore is a catalog whose database could not be reached when the server
// started. Access logs are taken all the same; it opens as soon as it can, and
// until then everything about the catalog fails.
type lateStore struct {
	store  atomic.Pointer[pgstore.Store] // nil until it is open
	opened chan struct{}                 // closed then
	stop   context.CancelFunc
	done   chan struct{}
}

var (
	_ catalog.Store  = (*lateStore)(nil)
	_ catalog.Pruner = (*lateStore)(nil)
	_ alerts.Outbox  = (*lateStore)(nil)
)

const (
	minReopen = 500 * time.Millisecond
	maxReopen = 10 * time.Second
)

// openLate opens a store in the background, again and again until that works. Then it closes opened.
func openLate(
	open func(context.Context) (*pgstore.Store, error), opened chan struct{}, logger *slog.Logger,
) *lateStore {
	ctx, stop := context.WithCancel(context.Background())
	l := &lateStore{opened: opened, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for pause := minReopen; ; pause = min(2*pause, maxReopen) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			store, err := open(ctx)
			if err == nil {
				l.store.Store(store)
				close(l.opened)
				logger.Info("the database is reached: the catalog works now")
				return
			}
			if ctx.Err() == nil {
				logger.Warn("the database is not reached, will try again", "error", err)
			}
		}
	}()
	return l
}

// away reports whether an error says that a database cannot be reached, rather
// than that something is wrong with how it is set up.
func away(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) { // it answers: only when it starts, stops, is full or makes us wait is that a matter of time
		return slices.Contains([]string{"57", "53", "55", "40"}, pg.Code[:2])
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.Is(err, context.DeadlineExceeded)
}

// Close ends the attempts, and closes the store if it is open.
func (l *lateStore) Close() error {
	l.stop()
	<-l.done
	if s := l.store.Load(); s != nil {
		return s.Close()
	}
	return nil
}

func (l *lateStore) now() (*pgstore.Store, error) {
	if s := l.store.Load(); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("since the start: %w", catalog.ErrUnavailable)
}

func (l *lateStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	s, err := l.now()
	if err != nil {
		return err
	}
	return s.Read(ctx, fn)
}

func (l *lateStore) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	s, err := l.now()
	if err != nil {
		return 0, err
	}
	return s.Commit(ctx, c)
}

func (l *lateStore) NextIDs(ctx context.Context, n int) (int64, error) {
	s, err := l.now()
	if err != nil {
		return 0, err
	}
	return s.NextIDs(ctx, n)
}

func (l *lateStore) PruneChanges(ctx context.Context, before time.Time) (int64, error) {
	s, err := l.now()
	if err != nil {
		return 0, err
	}
	return s.PruneChanges(ctx, before)
}

func (l *lateStore) ThinChanges(ctx context.Context, before time.Time) (int64, error) {
	s, err := l.now()
	if err != nil {
		return 0, err
	}
	return s.ThinChanges(ctx, before)
}

func (l *lateStore) RaiseAlerts(ctx context.Context, all []alerts.Alert) (int, error) {
	s, err := l.now()
	if err != nil {
		return 0, err
	}
	return s.RaiseAlerts(ctx, all)
}

func (l *lateStore) Alerts(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
	s, err := l.now()
	if err != nil {
		return nil, err
	}
	return s.Alerts(ctx, q)
}

func (l *lateStore) ClaimAlerts(ctx context.Context, now, until time.Time, limit int) ([]alerts.Alert, error) {
	s, err := l.now()
	if err != nil {
		return nil, err
	}
	return s.ClaimAlerts(ctx, now, until, limit)
}

func (l *lateStore) SettleAlert(ctx context.Context, id int64, o alerts.Outcome) error {
	s, err := l.now()
	if err != nil {
		return err
	}
	return s.SettleAlert(ctx, id, o)
}

func (l *lateStore) PruneAlerts(ctx context.Context, before time.Time) (int64, error) {
	s, err := l.now()
	if err != nil {
		return 0, err
	}
	return s.PruneAlerts(ctx, before)
}

// Wait waits for the database first.
func (l *lateStore) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	select {
	case <-l.opened:
		return l.store.Load().Wait(ctx, after)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
