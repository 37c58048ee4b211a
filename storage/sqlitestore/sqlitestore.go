// Package sqlitestore keeps a catalog, and access logs, in an SQLite file, without cgo.
//
//	store, err := sqlitestore.Open("ezapi.db", nil)
//	…
//	defer store.Close()
//	sink := sqlitestore.NewSink(store, nil)
//
// It is made for one process; others may share the file, on the same machine.
// A commit is on disk when Commit returns: the journal is a write-ahead log,
// synchronous is FULL. Readers never wait for writers, nor writers for readers.
//
// There is one writer at a time, so what access logs used is added up as they are stored: by the quarter
// of an hour, and by the day once a day is closed. Sums are held in two halves of 32 bits, so that no number
// of entries makes one overflow.
//
// The catalog is in sqlitestore.go, commit.go, read.go and changes.go; access logs are in sink.go (writing),
// tasks.go (maintenance), logs.go and usage.go (reading), reprice.go (costs anew).
package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/internal/wake"
)

const (
	// busyTimeout is how long a writer waits for one of another process.
	busyTimeout = 10 * time.Second

	// pollInterval is how often a waiter looks for commits of other processes.
	pollInterval = time.Second

	// readers is how many reads run at once; more wait.
	readers = 16
)

// Options change how a [Store] works. The zero value is fine, and so is nil.
type Options struct {
	// Logger takes the news of migrations. Defaults to slog.Default().
	Logger *slog.Logger
}

// Store is a [catalog.Store] in a file. It is safe for concurrent use.
type Store struct {
	write *sqlx.DB // one connection; its transactions are BEGIN IMMEDIATE
	read  *sqlx.DB // read-only connections; their transactions see a snapshot
	head  wake.Head

	close  sync.Once
	closed chan struct{}
}

var (
	_ catalog.Store  = (*Store)(nil)
	_ catalog.Pruner = (*Store)(nil)
	_ alerts.Outbox  = (*Store)(nil)
)

// Open returns a store in the file, which is made, readable by its owner
// alone, when it does not exist. The directory must exist.
func Open(path string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	logger := opts.Logger
	if logger == nil {
		logger = slog.Default()
	}
	s := &Store{closed: make(chan struct{})}
	if err := s.open(path, logger); err != nil {
		return nil, fmt.Errorf("sqlitestore: open: %w", errors.Join(err, s.closeFiles()))
	}
	return s, nil
}

func (s *Store) open(path string, logger *slog.Logger) (err error) {
	if path == "" || path == ":memory:" {
		return errors.New("the path must name a file; package memstore keeps a catalog in memory")
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	// SQLite gives its other files the mode of this one.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}

	if s.write, err = sqlx.Open("sqlite", dsn(path, url.Values{"_txlock": {"immediate"}})); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := migrate(context.Background(), s.write.DB, logger); err != nil {
		return err
	}

	if s.read, err = sqlx.Open("sqlite", dsn(path, url.Values{"mode": {"ro"}, "_query_only": {"1"}})); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	rev, err := s.readRevision(context.Background())
	s.head.Raise(rev)
	return err
}

// dsn returns the driver's name for a file. All connections share the
// settings but those in more.
func dsn(path string, more url.Values) string {
	more.Set("_busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()))
	more.Set("_foreign_keys", "1")
	more.Set("_defensive", "1")
	more.Set("_dqs", "0")
	if more.Get("mode") != "ro" {
		more.Set("_journal_mode", "WAL")
		more.Set("_synchronous", "FULL")
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: more.Encode()}).String()
}

// Close ends what waits and closes the file. A second Close does nothing.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closed)
		err = s.closeFiles()
	})
	return err
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range []*sqlx.DB{s.read, s.write} { // the writer last: it removes the log
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// alive returns the error that everything returns after Close.
func (s *Store) alive() error {
	select {
	case <-s.closed:
		return fmt.Errorf("sqlitestore: %w", catalog.ErrClosed)
	default:
		return nil
	}
}

// fail wraps an error after which nothing was changed.
func (s *Store) fail(ctx context.Context, doing string, err error) error {
	if closed := s.alive(); closed != nil {
		return closed
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("sqlitestore: %s: %w", doing, err)
}

// Wait blocks until the head's revision exceeds after; see [catalog.Store].
// Commits of other processes are noticed within about a second: reading the
// one row of the head is as cheap as asking SQLite whether anything changed.
func (s *Store) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.head.Wait(ctx, s.closed, after, pollInterval, s.readRevision)
}
