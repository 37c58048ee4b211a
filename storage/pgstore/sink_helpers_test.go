package pgstore_test

import (
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/storage/pgstore"
)

func newSink(pool *pgxpool.Pool) *pgstore.Sink {
	return pgstore.NewSink(pool, &pgstore.SinkOptions{Logger: slog.New(slog.DiscardHandler)})
}
