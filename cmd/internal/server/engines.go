package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
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
	e = &engines{reached: make(chan struct{})}
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
	if err != nil {
		return e, err
	}
	return e, e.openRedis(c, dir, logger)
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

// schema is where the tables are, unless EZ_PG_DSN has a search_path.
const schema = "ezapi"

func (e *engines) openPostgres(ctx context.Context, c *Config, logger *slog.Logger) error {
	config, err := pgstore.PoolConfig(string(c.Postgres), &pgstore.PoolOptions{Schema: schema})
	if err != nil { // Load has parsed it before
		return &SettingError{"EZ_PG_DSN", "cannot be read"}
	}
	options := &pgstore.Options{Logger: logger, ListenDSN: string(c.PostgresListen)}
	if ours := (pgx.Identifier{schema}).Sanitize(); config.ConnConfig.RuntimeParams["search_path"] == ours {
		options.Schema = schema
	}
	if e.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	e.closing(func() error { closePool(e.pool); return nil })
	open := func(ctx context.Context) (*pgstore.Store, error) {
		if err := answers(ctx, e.pool); err != nil {
			return nil, err
		}
		return pgstore.Open(ctx, e.pool, options)
	}
	store, err := open(ctx)
	switch {
	case err == nil:
		e.closing(store.Close)
		e.catalog = store
		close(e.reached)
	case away(err) && c.LogDurability == durability(logbuf.Disk):
		logger.Warn("the database is not reached yet: access logs are taken, the catalog has to wait", "error", err)
		late := openLate(open, e.reached, logger)
		e.closing(late.Close)
		e.catalog = late
	default:
		return err
	}
	e.sink = pgstore.NewSink(e.pool, &pgstore.SinkOptions{Logger: logger, UsageZone: c.UsageZone.location})
	return nil
}

// answers reports whether the database does, and soon: opening it may take as long
// as a migration, so that a machine that is halted, or a network that swallows
// everything, would keep a start for ever.
func answers(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
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
	return nil
}
