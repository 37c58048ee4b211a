package model

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/sqlitestore"
)

// A database is a store whose file can be backed up, and restored under the
// feet of whoever uses it.
type database struct {
	path string

	mu     sync.RWMutex
	store  *sqlitestore.Store
	closed chan struct{} // when the store of now is replaced
}

func openDatabase(path string) (*database, error) {
	store, err := sqlitestore.Open(path, nil)
	return &database{path: path, store: store, closed: make(chan struct{})}, err
}

func (d *database) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.store.Read(ctx, fn)
}

func (d *database) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.store.Commit(ctx, c)
}

func (d *database) NextIDs(ctx context.Context, n int) (int64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.store.NextIDs(ctx, n)
}

func (d *database) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	for {
		d.mu.RLock()
		store, closed := d.store, d.closed
		d.mu.RUnlock()
		r, err := store.Wait(ctx, after)
		if !errors.Is(err, catalog.ErrClosed) {
			return r, err
		}
		select {
		case <-closed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (d *database) backup(path string) error {
	db, err := sql.Open("sqlite", d.path)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(`vacuum into ?`, path)
	return err
}

func (d *database) restore(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.store.Close(); err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(d.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.WriteFile(d.path, content, 0o600); err != nil {
		return err
	}
	d.store, err = sqlitestore.Open(d.path, nil)
	close(d.closed)
	d.closed = make(chan struct{})
	return err
}

func (d *database) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store.Close()
}
