package sqlitestore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationsTable has a name of its own, because the file may belong to a
// program that uses goose too.
const migrationsTable = "ezapi_migrations"

// migrate brings the schema up to date. Numbers may be added out of order: the
// catalog and the logs number their migrations separately.
func migrate(ctx context.Context, db *sql.DB, logger *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithTableName(migrationsTable),
		goose.WithSlog(logger),
		goose.WithDisableGlobalRegistry(true),
		goose.WithAllowOutofOrder(true),
	)
	if err != nil {
		return err
	}

	// goose has no lock for SQLite. When another process migrates at the same
	// time, one of the two fails, harmlessly, and finds the work done when it looks again.
	const attempts = 3
	for i := range attempts {
		if _, err = provider.Up(ctx); err == nil {
			return nil
		}
		if i < attempts-1 {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("migrate: %w", err)
}
