package pgstore

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// What time may help with is told apart from what it does not, for the catalog and for logs alike.
func TestErrorsThatPass(t *testing.T) {
	t.Parallel()
	for code, passing := range map[string]bool{
		"55P03": true, "53300": true, "53100": true, "57014": true, "57P01": true, "57P03": true,
		"40001": true, "40P01": true, "25006": true, "25P03": true, "25P04": true,
		"23505": false, "42501": false, "42P01": false, "28P01": false, "3D000": false, "22023": false, "XX000": false,
	} {
		err := &pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"}
		for name, got := range map[string]error{
			"a commit":       (&Store{}).explain(context.Background(), catalog.Commit{}, err),
			"before it":      (&Store{}).explain(context.Background(), catalog.Commit{}, &notCommitted{err}),
			"a read":         (&Store{closed: make(chan struct{})}).fail(context.Background(), "read", err),
			"logs and usage": explainSink(context.Background(), "read", err),
		} {
			if is := errors.Is(got, catalog.ErrUnavailable) || errors.Is(got, logbuf.ErrUnavailable); is != passing {
				t.Errorf("%s, %s: %v; want that it is unavailable: %t", code, name, got, passing)
			}
		}
	}
	lost := &pgconn.PgError{Code: "57P01", SeverityUnlocalized: "FATAL"}
	if err := (&Store{}).explain(context.Background(), catalog.Commit{}, lost); errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("a commit of which nobody knows what became: %v; want no word that nothing was done", err)
	}
}
