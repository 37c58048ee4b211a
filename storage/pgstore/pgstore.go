// Package pgstore keeps a catalog and access logs in PostgreSQL, 13 or later.
//
//	config, err := pgstore.PoolConfig(dsn, &pgstore.PoolOptions{Schema: "ezapi"})
//	…
//	pool, err := pgxpool.NewWithConfig(ctx, config)
//	…
//	store, err := pgstore.Open(ctx, pool, &pgstore.Options{Schema: "ezapi"}) // the catalog; makes the tables
//	…
//	defer store.Close()
//	sink := pgstore.NewSink(pool, nil) // access logs and what they used
//
// Any number of processes may share the database. Each commit of the catalog is one round trip, and wakes
// those that wait in all of them.
//
// The tables are made in [Options].Schema, or else in the first schema of the connections' search_path. The
// pool may go through a pooler in transaction mode: nothing is left behind on a connection. Such a pool
// needs pgx's exec mode "exec" or "simple_protocol" unless the pooler knows prepared statements, and
// [Options].ListenDSN has to lead past the pooler.
//
// # Access logs
//
// A batch of entries is one transaction of binary COPYs: the entries into a partition for each day, what
// they used into usage_pending, and small blocks by which the entries of a key or a request are found. Tasks of
// maintenance (see [Sink.Tasks]) add up what is pending by the quarter of an hour, close days, make and
// drop partitions. Each of them is done by one process at a time, and fails alone. With [SinkOptions].Owner, the logs
// of one catalog are kept from the servers of another.
//
// # Files
//
// Both halves: migrate.go and migrations/ (the schema), connect.go (pools that leave a halted host),
// errors.go. The catalog: pgstore.go, commit.go, write.go, read.go, changes.go, ids.go, listen.go. Writing
// logs: sink.go, copy.go (COPY's binary format), sink_careful.go and sink_arrays.go (batches that may hold
// duplicates, or what the database refuses), sink_errors.go, sink_blocks.go. Maintenance: tasks.go, partitions.go,
// fold.go, days.go. Reading: query.go, logs.go, usage.go. Costs anew: reprice.go. Whose logs these are: owner.go.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/internal/wake"
)

// ListenNone as [Options].ListenDSN means no listening connection.
const ListenNone = "none"

// Options change how a [Store] works. The zero value is fine, and so is nil.
type Options struct {
	// Logger takes what happens in the background: migrations, a listening
	// connection lost and made again. Defaults to slog.Default().
	Logger *slog.Logger

	// ListenDSN is where the one connection goes that listens for the commits
	// of other processes: that needs a session, which a pooler in transaction mode does not give.
	// [ListenNone] looks for other processes' commits every 2 s instead. Defaults to the pool's
	// own configuration.
	ListenDSN string

	// Schema is where the tables are, and is made when it does not exist. The pool's connections must
	// have it first in their search_path, as [PoolConfig] sees to. Defaults to the first schema of
	// their search_path, whichever that is.
	Schema string

	// SkipMigrations leaves the schema as it is, which must be as [Migrate] makes it. Without this
	// option a role that may not migrate can open a schema that is up to date. Defaults to false.
	SkipMigrations bool
}

// Store is a [catalog.Store] in PostgreSQL. It is safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	db     *sqlx.DB // over pool
	logger *slog.Logger
	head   wake.Head

	// mode is the commitMode that the settings of the pool's connections turned out to make
	// necessary.
	mode atomic.Int32

	// withoutTemp is set once the role turned out not to be allowed temporary tables.
	withoutTemp atomic.Bool

	close      sync.Once
	closed     chan struct{}
	background sync.WaitGroup
}

var (
	_ catalog.Store  = (*Store)(nil)
	_ catalog.Pruner = (*Store)(nil)
	_ alerts.Outbox  = (*Store)(nil)
)

// Open returns a store in the database that the pool leads to, after bringing
// the schema up to date. The pool stays the caller's: it must live until Close
// has returned, and Close does not close it.
func Open(ctx context.Context, pool *pgxpool.Pool, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	s := &Store{
		pool:   pool,
		db:     sqlx.NewDb(stdlib.OpenDBFromPool(pool), "pgx"),
		logger: opts.Logger,
		closed: make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if err := s.open(ctx, opts); err != nil {
		return nil, fmt.Errorf("pgstore: open: %w", errors.Join(err, s.db.Close()))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, opts *Options) error {
	session, err := newSession(s.pool, opts.ListenDSN)
	if err != nil {
		return err
	}
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	if !opts.SkipMigrations {
		applied, err := migrate(ctx, s.pool, MigrateOptions{Schema: opts.Schema})
		if err != nil {
			return err
		}
		if len(applied) > 0 {
			s.logger.InfoContext(ctx, "pgstore: migrated", "applied", applied)
		}
	}
	rev, err := s.readRevision(ctx)
	if err != nil {
		if opts.SkipMigrations {
			return fmt.Errorf("%w (is the schema migrated? SkipMigrations is set)", err)
		}
		return err
	}
	s.head.Raise(rev)
	if opts.ListenDSN != ListenNone {
		s.listen(session)
	}
	return nil
}

// checkServer refuses a database that does not keep text as it is, so any encoding but UTF8:
// SQL_ASCII takes bytes that are no text, and the others lack characters. It refuses connections
// with another client_encoding, which convert text, and those for which foreign keys are switched
// off.
func (s *Store) checkServer(ctx context.Context) error {
	var is struct{ Server, Client, Role string }
	if err := s.db.GetContext(ctx, &is, sqlServer); err != nil {
		return s.fail(ctx, "read the encoding", err)
	}
	switch {
	case is.Server != "UTF8":
		return fmt.Errorf("the database's encoding is %s, it must be UTF8: create it with encoding 'UTF8' template "+
			"template0: %w", is.Server, catalog.ErrInvalid)
	case is.Client != "UTF8":
		return fmt.Errorf("the connections' client_encoding is %s, it must be UTF8: make the pool with PoolConfig: %w",
			is.Client, catalog.ErrInvalid)
	case is.Role == "replica":
		return fmt.Errorf("the connections' session_replication_role is replica, which switches foreign keys off: take "+
			"that away from the role and the database (alter role … reset session_replication_role): %w", catalog.ErrInvalid)
	}
	return nil
}

const sqlServer = `
select current_setting('server_encoding') as server, current_setting('client_encoding') as client,
    current_setting('session_replication_role') as role`

// Close ends what waits and stops listening. It leaves the pool open. A second
// Close does nothing.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closed)
		s.background.Wait()
		err = s.db.Close()
	})
	return err
}

// alive returns the error that everything returns after Close.
func (s *Store) alive() error {
	select {
	case <-s.closed:
		return fmt.Errorf("pgstore: %w", catalog.ErrClosed)
	default:
		return nil
	}
}
