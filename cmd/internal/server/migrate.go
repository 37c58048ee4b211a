package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// migrate brings the tables up to date in the databases that EZ_PG_DSN and EZ_LOG_STORE name, as a
// start does. In PostgreSQL it gives the role that args may name the rights of a server, which then
// needs no others.
func migrate(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if len(args) > 1 {
		return errors.New("-migrate takes the name of one role of PostgreSQL, which servers run as, or none")
	}
	c, err := loadOnly(environ, "EZ_PG_DSN", "EZ_LOG_STORE")
	if err != nil {
		return err
	}
	if !c.Postgres.set() {
		return &SettingError{"EZ_PG_DSN", "must be set for -migrate: an SQLite file is migrated by the server that opens it"}
	}
	role := strings.Join(args, "")
	if err := migratePostgres(ctx, "EZ_PG_DSN", string(c.Postgres), role, stdout); err != nil {
		return err
	}
	switch {
	case !c.LogStore.set():
		return nil
	case c.LogStore.clickHouse():
		if err := migrateClickHouse(ctx, string(c.LogStore), stdout); err != nil {
			return fmt.Errorf("EZ_LOG_STORE: %w", err)
		}
		return nil
	}
	return migratePostgres(ctx, "EZ_LOG_STORE", string(c.LogStore), role, stdout)
}

func migratePostgres(ctx context.Context, variable, dsn, role string, stdout io.Writer) error {
	pool, options, err := postgresPool(ctx, variable, dsn)
	if err != nil {
		return err
	}
	defer closePool(pool)
	if err := answers(ctx, pool); err != nil {
		return postgresFault(variable, err)
	}
	options.Grant = role
	applied, err := pgstore.Migrate(ctx, pool, &options)
	if err != nil {
		return postgresFault(variable, err)
	}
	said := "the tables were up to date"
	if len(applied) > 0 {
		said = "applied " + strings.Join(applied, ", ")
	}
	if role != "" {
		said += ", and the role " + role + " has the rights of a server"
	}
	fmt.Fprintf(stdout, "%s: %s\n", variable, said)
	return nil
}

// postgresFault names the variable of a database that cannot be used. While it cannot be reached, that
// is a matter of time; all else is one of settings: its own, or those of the role and the database.
func postgresFault(variable string, err error) error {
	switch {
	case err == nil:
		return nil
	case away(err):
		return fmt.Errorf("%s: %w", variable, err)
	}
	return &SettingError{variable, "leads to a database that cannot be used: " + err.Error()}
}

func migrateClickHouse(ctx context.Context, dsn string, stdout io.Writer) error {
	sink, err := chstore.NewSink(dsn, &chstore.SinkOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer sink.Close() //nolint:errcheck // there is nothing to lose
	if _, err := sink.Ready(ctx); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "EZ_LOG_STORE: the tables are there")
	return nil
}

// postgresPool opens a pool on a database that a variable names, and says in which schema the tables
// are.
func postgresPool(ctx context.Context, variable, dsn string) (*pgxpool.Pool, pgstore.MigrateOptions, error) {
	var options pgstore.MigrateOptions
	config, err := pgstore.PoolConfig(dsn, &pgstore.PoolOptions{Schema: schema})
	if err != nil { // Load has parsed it before
		return nil, options, &SettingError{variable, "cannot be read"}
	}
	if ours := (pgx.Identifier{schema}).Sanitize(); config.ConnConfig.RuntimeParams["search_path"] == ours {
		options.Schema = schema
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, options, fmt.Errorf("%s: %w", variable, err)
	}
	return pool, options, nil
}
