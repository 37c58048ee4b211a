package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/catalog"
)

// SQLSTATEs that say more than "it failed".
const (
	stateNotNull    = "23502"
	stateForeignKey = "23503"
	stateUnique     = "23505"
	stateCanceled   = "57014"
)

// sqlModels asks which of the natural keys models have.
const sqlModels = `select natural_key from models where natural_key = any ($1::text[])`

// notCommitted wraps an error that came before the commit went to the server.
type notCommitted struct{ err error }

func (e *notCommitted) Error() string { return e.err.Error() }
func (e *notCommitted) Unwrap() error { return e.err }

// explain turns the failure of a commit into what [catalog.Store] promises.
// An error of the server's that ends a statement means that nothing was committed;
// after any other it is not known, and the error wraps nothing.
func (s *Store) explain(ctx context.Context, c catalog.Commit, err error) error {
	var before *notCommitted
	if errors.As(err, &before) || pgconn.SafeToRetry(err) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Severity != "ERROR" {
		return fmt.Errorf("connection lost, outcome not known: %v", err) //nolint:errorlint // the cause may be a context's end
	}
	switch pg.Code {
	case stateNotNull:
		switch {
		case pg.TableName == "catalog_head" && pg.ColumnName == "revision":
			return fmt.Errorf("the catalog is at another revision: %w", catalog.ErrConflict)
		case pg.TableName == "changes" && pg.ColumnName == "seq":
			return fmt.Errorf("the entity is at another revision: %w", catalog.ErrConflict)
		}
	case stateUnique:
		return uniqueError(pg)
	case stateForeignKey:
		return s.referenceError(ctx, c)
	case stateCanceled:
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// uniqueError names what is taken by the constraint's name: <table>_<what>.
func uniqueError(pg *pgconn.PgError) error {
	kind, what, _ := strings.Cut(pg.ConstraintName, "_")
	switch {
	case pg.ConstraintName == "key_hashes_pkey":
		return catalog.Exists(catalog.KindKey, catalog.ByHash)
	case what == "natural_key":
		return catalog.Exists(catalog.Kind(kind), catalog.ByNaturalKey)
	case what == "external_id":
		return catalog.Exists(catalog.Kind(kind), catalog.ByExternalID)
	case what == "pkey" && kind != "changes":
		return fmt.Errorf("the %s exists: %w", catalog.Kind(kind).Noun(), catalog.ErrConflict)
	}
	return pg
}

// referenceError tells the two ends of a broken reference apart, which the
// SQLSTATE does not: either a binding that was written names no model, or a model
// that was deleted or renamed is still referred to.
func (s *Store) referenceError(ctx context.Context, c catalog.Commit) error {
	refs := map[string]bool{} // referred to by what was written → exists
	var models []string       // names that models were given
	moved := false            // whether models went or may have been renamed
	for _, w := range c.Writes {
		switch {
		case w.Entity.Kind == catalog.KindModel && (w.Delete || w.If != 0):
			moved = true
			fallthrough
		case w.Entity.Kind == catalog.KindModel:
			models = append(models, w.Entity.NaturalKey)
		case w.Entity.Ref != "" && !w.Delete:
			refs[w.Entity.Ref] = slices.Contains(models, w.Entity.Ref)
		}
	}
	switch {
	case len(refs) == 0:
		return catalog.Referenced(catalog.KindModel)
	case !moved:
		return catalog.Dangling(catalog.KindBinding)
	}
	wanted := make([]string, 0, len(refs))
	for ref := range refs {
		if !slices.Contains(models, ref) {
			wanted = append(wanted, ref)
		}
	}
	var found []string
	if err := s.db.SelectContext(ctx, &found, sqlModels, wanted); err != nil || len(found) == len(wanted) {
		return catalog.Referenced(catalog.KindModel)
	}
	return catalog.Dangling(catalog.KindBinding)
}

// fail wraps the error of a read: nothing hangs on what became of it.
func (s *Store) fail(ctx context.Context, doing string, err error) error {
	if closed := s.alive(); closed != nil {
		return closed
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("pgstore: %s: %w", doing, err)
}
