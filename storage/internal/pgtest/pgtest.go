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

// envTemplate names the variable in which [Tests] leave the name of their database.
const envTemplate = "EZ_TEST_PG_TEMPLATE"

// Tests are those of a package that copy one database, for its TestMain.
type Tests struct {
	M *testing.M
	// Migrate fills the database that [Migrated] copies.
	Migrate func(context.Context, *pgxpool.Pool) error
}

// Run runs the tests and returns the exit code.
func (t Tests) Run() (code int) {
	dsn := os.Getenv(EnvDSN)
	if dsn == "" {
		return t.M.Run()
	}
	ctx, name := context.Background(), "ez_template_"+strings.ToLower(rand.Text())
	err := execute(ctx, dsn, "create database "+name+" with template template0 encoding 'UTF8'")
	if err == nil {
		defer func() {
			if err := execute(ctx, dsn, "drop database "+name+" with (force)"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}()
		err = fill(ctx, dsn, name, t.Migrate)
	}
	if err == nil {
		err = os.Setenv(envTemplate, name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return t.M.Run()
}

func fill(ctx context.Context, dsn, name string, migrate func(context.Context, *pgxpool.Pool) error) error {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("%s: %w", EnvDSN, err)
	}
	cfg.ConnConfig.Database = name
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	return migrate(ctx, pool)
}

// Config makes an empty database that is dropped after the test, and returns the configuration of a
// pool on it. Without a server it skips the test, and says so.
func Config(tb testing.TB) *pgxpool.Config {
	tb.Helper()
	return ConfigEncoded(tb, "UTF8")
}

// ConfigEncoded is like [Config], for a database in the given encoding.
func ConfigEncoded(tb testing.TB, encoding string) *pgxpool.Config {
	tb.Helper()
	return config(tb, "template0 encoding '"+encoding+"'")
}

// Migrated is like [Config], for a copy of the database that [Tests] have made; an empty one where
// they have made none.
func Migrated(tb testing.TB) *pgxpool.Config {
	tb.Helper()
	if template := os.Getenv(envTemplate); template != "" {
		return config(tb, template)
	}
	return Config(tb)
}

func config(tb testing.TB, template string) *pgxpool.Config {
	tb.Helper()
	dsn := os.Getenv(EnvDSN)
	if dsn == "" {
		tb.Skip("NOT TESTED ON POSTGRESQL: set " + EnvDSN + ", or run test/integration.sh, which does")
	}

	name := "ez_test_" + strings.ToLower(rand.Text())
	runSQL(tb, dsn, "create database "+name+" with template "+template)
	tb.Cleanup(func() { runSQL(tb, dsn, "drop database if exists "+name+" with (force)") })

	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		tb.Fatalf("%s: %v", EnvDSN, err)
	}
	cfg.ConnConfig.Database = name
	return cfg
}

// Pool returns a pool on a database made by [Migrated].
func Pool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return Connect(tb, Migrated(tb))
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
	if err := execute(context.Background(), dsn, sql); err != nil {
		tb.Fatal(err)
	}
}

func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}
