// Package pgtest gives each test a PostgreSQL database of its own.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// EnvDSN names the variable that holds the connection string of the server to
// test on. The user must be allowed to create databases.
const EnvDSN = "EZ_TEST_PG_DSN"

// Config makes a database that is dropped after the test, and returns the
// configuration of a pool on it. Without a server it skips the test, and says so.
func Config(tb testing.TB) *pgxpool.Config {
	tb.Helper()
	return ConfigEncoded(tb, "UTF8")
}

// ConfigEncoded is like [Config], for a database in the given encoding.
func ConfigEncoded(tb testing.TB, encoding string) *pgxpool.Config {
	tb.Helper()
	dsn := os.Getenv(EnvDSN)
	if dsn == "" {
		tb.Skip("NOT TESTED ON POSTGRESQL: set " + EnvDSN + ", or run test/integration.sh, which does")
	}

	name := "ez_test_" + strings.ToLower(rand.Text())
	runSQL(tb, dsn, "create database "+name+" with template template0 encoding '"+encoding+"'")
	tb.Cleanup(func() { runSQL(tb, dsn, "drop database if exists "+name+" with (force)") })

	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		tb.Fatalf("%s: %v", EnvDSN, err)
	}
	cfg.ConnConfig.Database = name
	return cfg
}

// Pool returns a pool on a database made by [Config].
func Pool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return Connect(tb, Config(tb))
}

// Connect returns a pool that is closed after the test.
func Connect(tb testing.TB, cfg *pgxpool.Config) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg.Copy())
	if err != nil {
		tb.Fatalf("connect to PostgreSQL: %v", err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// DSN returns the connection string of a database made by [Config].
func DSN(cfg *pgxpool.Config) string {
	c := cfg.ConnConfig
	mode := "disable"
	if c.TLSConfig != nil {
		mode = "require"
	}
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace
	return fmt.Sprintf("host='%s' port=%d user='%s' password='%s' dbname='%s' sslmode=%s",
		quote(c.Host), c.Port, quote(c.User), quote(c.Password), quote(c.Database), mode)
}

// runSQL runs one statement outside every pool: databases are made and dropped
// on a connection to another.
func runSQL(tb testing.TB, dsn, sql string) {
	tb.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatalf("connect to PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}
