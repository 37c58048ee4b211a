package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/storage/sqlitestore"
)

// engines are what the plane is built on.
type engines struct {
	catalog   catalog.Store
	sink      logbuf.Sink
	publisher *redisstore.Publisher
	redisAddr string // without credentials
	redisURL  string // of the in-process Redis: with its password

	reached chan struct{} // closed once the catalog's database was reached

	checks map[string]httpapi.Check // of readiness, besides those of the plane

	pool    *pgxpool.Pool // nil when embedded
	closers []func() error
}

// close closes what was opened, the last first.
func (e *engines) close() error {
	var errs []error
	for i := len(e.closers) - 1; i >= 0; i-- {
		errs = append(errs, e.closers[i]())
	}
	e.closers = nil
	return errors.Join(errs...)
}

func (e *engines) closing(fn func() error) { e.closers = append(e.closers, fn) }

// openEngines opens what the configuration names. dir is nil where nothing is
// kept on this machine.
func openEngines(ctx context.Context, c *Config, dir *dataDir, logger *slog.Logger) (e *engines, err error) {
	e = &engines{reached: make(chan struct{}), checks: map[string]httpapi.Check{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
			e = nil
		}
	}()
	if c.Embedded() {
		err = e.openSQLite(c, dir, logger)
	} else {
		err = e.openPostgres(ctx, c, logger)
	}
	if err == nil && c.LogStore.set() {
		err = e.openLogStore(ctx, c, logger)
	}
	if err == nil {
		err = e.claimLogs(ctx, c)
	}
	if err != nil {
		return e, err
	}
	return e, e.openRedis(c, dir, logger)
}

// openLogStore opens the database of the access logs, where that is not the catalog's. It need not
// be reached yet: what is accepted waits in the spool.
func (e *engines) openLogStore(ctx context.Context, c *Config, logger *slog.Logger) error {
	if !c.LogStore.clickHouse() {
		pool, store, err := e.connect(ctx, c, "EZ_LOG_STORE", string(c.LogStore), pgstore.ListenNone,
			make(chan struct{}), logger)
		if err != nil {
			return err
		}
		e.closing(store.Close)
		e.sink = pgstore.NewSink(pool, &pgstore.SinkOptions{
			Logger: logger, UsageZone: c.UsageZone.location, QueryConns: int(c.LogQueryConns), Owner: e.catalogID,
		})
		return nil
	}
	sink, err := chstore.NewSink(string(c.LogStore), &chstore.SinkOptions{Logger: logger, Owner: e.catalogID})
	if err != nil {
		return &SettingError{"EZ_LOG_STORE", strings.TrimPrefix(err.Error(), "chstore: ")} // Load has parsed it before
	}
	e.closing(sink.Close)
	e.sink, e.checks["log_store"] = sink, sink.Ready
	return nil
}

func (e *engines) openSQLite(c *Config, dir *dataDir, logger *slog.Logger) error {
	store, err := sqlitestore.Open(dir.file(sqliteFile), &sqlitestore.Options{Logger: logger})
	if err != nil {
		return err
	}
	e.closing(store.Close)
	e.catalog = store
	close(e.reached)
	e.sink = sqlitestore.NewSink(store, &sqlitestore.SinkOptions{UsageZone: c.UsageZone.location})
	return nil
}

// schema is where the tables are, unless the connection string has a search_path.
const schema = "ezapi"

func (e *engines) openPostgres(ctx context.Context, c *Config, logger *slog.Logger) error {
	pool, store, err := e.connect(ctx, c, "EZ_PG_DSN", string(c.Postgres), string(c.PostgresListen), e.reached, logger)
	if err != nil {
		return err
	}
	e.closing(store.Close)
	e.pool, e.catalog = pool, store
	e.sink = pgstore.NewSink(pool, &pgstore.SinkOptions{
		Logger: logger, UsageZone: c.UsageZone.location, QueryConns: int(c.LogQueryConns), Owner: e.catalogID,
	})
	return nil
}

// catalogID names the catalog, which owns the logs.
func (e *engines) catalogID(ctx context.Context) (id string, err error) {
	err = e.catalog.Read(ctx, func(r catalog.Reader) error {
		id = r.Head().Store
		return nil
	})
	return id, err
}

// claimTimeout is how long a start waits for a log store. What is accepted can wait for longer.
const claimTimeout = 5 * time.Second

// claimLogs refuses a log store that has the logs of another catalog. While it is not known whose they are, entries
// wait.
func (e *engines) claimLogs(ctx context.Context, c *Config) error {
	sink, ok := e.sink.(interface {
		Claim(ctx context.Context) error
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	err := sink.Claim(ctx)
	if !errors.Is(err, logbuf.ErrForeign) {
		return nil
	}
	variable := "EZ_PG_DSN"
	if c.LogStore.set() {
		variable = "EZ_LOG_STORE"
	}
	_, reason, _ := strings.Cut(err.Error(), logbuf.ErrPaused.Error()+": ")
	return &SettingError{variable, "cannot be used: " + reason}
}

// A closingStore is a catalog that has to be closed.
type closingStore interface {
	catalog.Store
	Close() error
}

// connect opens a PostgreSQL that a variable names. Where access logs can wait for it, it need not
// be reached yet; once it is, reached is closed.
func (e *engines) connect(
	ctx context.Context, c *Config, variable, dsn, listen string, reached chan struct{}, logger *slog.Logger,
) (*pgxpool.Pool, closingStore, error) {
	pool, where, err := postgresPool(ctx, variable, dsn)
	if err != nil {
		return nil, nil, err
	}
	options := &pgstore.Options{Logger: logger, ListenDSN: listen, Schema: where.Schema}
	e.closing(func() error { closePool(pool); return nil })
	open := func(ctx context.Context) (*pgstore.Store, error) {
		if err := answers(ctx, pool); err != nil {
			return nil, err
		}
		return pgstore.Open(ctx, pool, options)
	}
	store, err := open(ctx)
	switch {
	case err == nil:
		close(reached)
		return pool, store, nil
	case away(err) && c.LogDurability == durability(logbuf.Disk):
		logger = logger.With("variable", variable)
		logger.Warn("the database is not reached yet: access logs are taken, what needs it has to wait", "error", err)
		return pool, openLate(open, reached, logger), nil
	}
	return nil, nil, postgresFault(variable, err)
}

// answers returns an error unless the database answers within 5 s more than connecting to all of its
// hosts may take. Opening the store has no time limit, because it may run a migration: without this
// check, a halted machine, or a network that drops all packets, would block a start for ever.
func answers(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second+pgstore.ConnectTimeout(pool.Config().ConnConfig))
	defer cancel()
	return pool.Ping(ctx)
}

// closePool closes a pool, and leaves that to the end of the process when the
// database does not answer: then pgx waits a quarter of a minute for it.
func closePool(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

func (e *engines) openRedis(c *Config, dir *dataDir, logger *slog.Logger) error {
	address := c.Redis.address
	if c.EmbeddedRedis() {
		server, err := startRedis(c.Redis.listen, c.Redis.password)
		if err != nil {
			return err
		}
		e.closing(func() error { server.Close(); return nil })
		e.redisURL = redisURL(server, c.Redis.password)
		if err := dir.write(redisURLFile, e.redisURL+"\n"); err != nil {
			return err
		}
		if address, err = redisstore.ParseAddress(e.redisURL); err != nil {
			return err
		}
	}
	e.redisAddr = address.String()
	client, err := address.Open(&redisstore.OpenOptions{CAFile: c.RedisCA, Name: "ezapi-server", Logger: logger})
	if err != nil {
		return &SettingError{"EZ_REDIS_CA", "is wrong: " + strings.TrimPrefix(trimInvalid(err), "redisstore: ")}
	}
	e.closing(client.Close)
	e.publisher = redisstore.New(client, &redisstore.Options{Prefix: string(c.RedisPrefix), Logger: logger})
	e.checks["redis"] = e.publisher.Ready // its eviction policy too
	return nil
}
