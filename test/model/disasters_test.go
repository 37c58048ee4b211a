package model

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
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

var errDown = errors.New("the publisher is down")

// A cache is a publisher that loses what such servers lose: its content, an
// answer, an entry of its stream, the last seconds before a failover.
type cache struct {
	mu        sync.Mutex
	server    *memstore.Publisher
	down      bool
	deaf      int // that many publishes are refused unseen
	mute      int // that many publishes are done, but the answer is lost
	forgetful int // that many stream entries are lost
}

func newCache() *cache { return &cache{server: memstore.NewPublisher()} }

func (c *cache) now() (*memstore.Publisher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	return c.server, nil
}

// set changes the cache.
func (c *cache) set(change func(*cache)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

// spend takes one of what is left of a disaster.
func (c *cache) spend(left *int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *left == 0 {
		return false
	}
	*left--
	return true
}

// become makes the cache another server with a content, or none.
func (c *cache) become(s *snapshot.Snapshot) error {
	server := memstore.NewPublisher()
	if s != nil {
		if err := server.Replace(context.Background(), s, nil); err != nil {
			return err
		}
	}
	c.set(func(c *cache) { c.server = server })
	return nil
}

func (c *cache) Head(ctx context.Context) (snapshot.Head, error) {
	s, err := c.now()
	if err != nil {
		return snapshot.Head{}, err
	}
	return s.Head(ctx)
}

func (c *cache) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	s, err := c.now()
	if err != nil {
		return nil, err
	}
	return s.Load(ctx)
}

func (c *cache) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	s, err := c.now()
	if err != nil {
		return snapshot.Delta{}, err
	}
	d, err := s.Next(ctx, after)
	if err == nil && !d.Reset && c.spend(&c.forgetful) {
		return s.Next(ctx, d.Head.Position) // the one after it, as if that one had never been
	}
	return d, err
}

func (c *cache) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	s, err := c.now()
	if err != nil {
		return nil, err
	}
	return s.Lookup(ctx, k, keys...)
}

func (c *cache) Report(ctx context.Context, n snapshot.Node) error {
	s, err := c.now()
	if err != nil {
		return err
	}
	return s.Report(ctx, n)
}

func (c *cache) Nodes(ctx context.Context) ([]snapshot.Node, error) {
	s, err := c.now()
	if err != nil {
		return nil, err
	}
	return s.Nodes(ctx)
}

func (c *cache) Apply(ctx context.Context, d snapshot.Delta) error {
	return c.publish(func(s *memstore.Publisher) error { return s.Apply(ctx, d) })
}

func (c *cache) Replace(ctx context.Context, s *snapshot.Snapshot, catchUp snapshot.CatchUp) error {
	return c.publish(func(p *memstore.Publisher) error { return p.Replace(ctx, s, catchUp) })
}

func (c *cache) publish(do func(*memstore.Publisher) error) error {
	s, err := c.now()
	if err != nil {
		return err
	}
	if c.spend(&c.deaf) {
		return errDown
	}
	err = do(s)
	if err == nil && c.spend(&c.mute) {
		return errDown
	}
	return err
}
