package pgstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// network is the way from a pool to its server. Each connection writes through
// send, and once deaf is set loses what it reads.
type network struct {
	deaf atomic.Bool

	mu   sync.Mutex
	send func(conn net.Conn, data []byte) (int, error)
}

func (n *network) on(send func(conn net.Conn, data []byte) (int, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send = send
}

func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &wire{Conn: conn, network: n}, err
}

type wire struct {
	net.Conn
	network *network
}

func (w *wire) Write(data []byte) (int, error) {
	w.network.mu.Lock()
	send := w.network.send
	w.network.mu.Unlock()
	if send == nil {
		return w.Conn.Write(data)
	}
	return send(w.Conn, data)
}

func (w *wire) Read(data []byte) (int, error) {
	n, err := w.Conn.Read(data)
	if w.network.deaf.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// sentinels are what an error about an unknown outcome must not wrap.
var sentinels = []error{
	catalog.ErrConflict, catalog.ErrExists, catalog.ErrReferenced, catalog.ErrNotFound,
	catalog.ErrInvalid, catalog.ErrClosed, context.Canceled, context.DeadlineExceeded,
}

func wantUnknown(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("commit succeeded over a broken connection")
	}
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			t.Errorf("error %q wraps %q, though the outcome is not known", err, sentinel)
		}
	}
	if !errors.Is(err, catalog.ErrUnconfirmed) {
		t.Errorf("error %q does not say that the outcome is not known", err)
	}
}

// bulk makes n keys of so many bytes that their commit takes several parts. A commit of more than a
// hundred writes sends them before it locks the head, one of fewer afterwards.
func bulk(n, size int) (writes []catalog.Write) {
	for i := range n {
		writes = append(writes, write(key(int64(i+1), func(e *catalog.Entity) {
			e.Spec = json.RawMessage(`{"filler": "` + strings.Repeat("x", size) + `"}`)
		})))
	}
	return writes
}

// A process that freezes in the middle of a commit holds the head's lock. The
// server takes it away, and those behind it come through.
func TestFrozenWriter(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	others := open(t, pgtest.Connect(t, cfg), nil)

	var net1 network
	frozen, thaw := make(chan struct{}), make(chan struct{})
	slow := cfg.Copy()
	slow.ConnConfig.DialFunc = net1.dial
	store := open(t, pgtest.Connect(t, slow), &pgstore.Options{ListenDSN: pgstore.ListenNone})
	sent := 0
	net1.on(func(conn net.Conn, data []byte) (int, error) {
		if sent += len(data); sent > 150<<10 {
			close(frozen)
			net1.on(nil)
			<-thaw
		}
		return conn.Write(data)
	})

	outcome := make(chan error, 1)
	go func() {
		_, err := store.Commit(context.Background(), commit(bulk(90, 5000)...))
		outcome <- err
	}()
	<-frozen
	start := time.Now()
	rev, err := others.Commit(t.Context(), commit(write(key(1000))))
	if err != nil || rev != 1 {
		t.Errorf("commit behind a frozen writer: revision %d, %v; want 1", rev, err)
	}
	if waited := time.Since(start); waited < time.Second || waited > 9*time.Second {
		t.Errorf("commit behind a frozen writer took %v; want about 5 s", waited)
	}
	close(thaw)
	wantUnknown(t, <-outcome)

	err = others.Read(t.Context(), func(r catalog.Reader) error {
		keys, err := r.List(t.Context(), catalog.KindKey, catalog.Query{})
		if len(keys) != 1 {
			t.Errorf("%d keys; want only the one of the commit that succeeded", len(keys))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A lock that nobody gives back bounds the wait.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := open(t, pool, nil)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `select from catalog_head for update`); err != nil {
		t.Fatal(err)
	}
	if _, err = store.Commit(t.Context(), commit(write(key(1)))); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("commit: %v; want ErrUnavailable", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rev, err := store.Commit(t.Context(), commit(write(key(1)))); err != nil || rev != 1 {
		t.Errorf("commit afterwards: revision %d, %v; want 1", rev, err)
	}
}

// A commit whose context ends while it waits has not happened, and its
// connection is not reused.
func TestCommitCanceled(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := open(t, pool, nil)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `select from catalog_head for update`); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := store.Commit(ctx, commit(write(key(1)))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit: %v; want the context's error", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("canceling took %v", took)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // a cancellation that came late would hit one of these
		if rev, err := store.Commit(t.Context(), commit(write(key(int64(i+1))))); err != nil || rev != catalog.Revision(i+1) {
			t.Errorf("commit afterwards: revision %d, %v; want %d", rev, err, i+1)
		}
	}
}

// A connection that breaks before the answer came leaves the author in the dark,
// even if the commit has happened.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	var net1 network
	cfg := pgtest.Migrated(t)
	others := open(t, pgtest.Connect(t, cfg), nil)
	cfg.ConnConfig.DialFunc = net1.dial
	store := open(t, pgtest.Connect(t, cfg), &pgstore.Options{ListenDSN: pgstore.ListenNone})

	net1.on(func(conn net.Conn, data []byte) (int, error) {
		if !strings.Contains(string(data), "key-2") {
			return conn.Write(data)
		}
		net1.on(nil)
		net1.deaf.Store(true)
		n, err := conn.Write(data)
		if _, err := others.Wait(t.Context(), 0); err != nil {
			t.Error(err)
		}
		return n, err
	})
	_, err := store.Commit(t.Context(), commit(write(key(2))))
	wantUnknown(t, err)
	net1.deaf.Store(false)
	if _, err := store.Commit(t.Context(), commit(write(key(2)))); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("the same commit again: %v; want ErrConflict, for it has happened", err)
	}
}

// A commit in several parts is all or nothing, too.
func TestLargeCommit(t *testing.T) {
	t.Parallel()
	store := open(t, pgtest.Pool(t), nil)
	writes := bulk(500, 1000)
	bad := append(writes[:len(writes):len(writes)],
		write(key(9999, func(e *catalog.Entity) { e.Hashes = writes[0].Entity.Hashes })))
	if _, err := store.Commit(t.Context(), commit(bad...)); !errors.Is(err, catalog.ErrExists) {
		t.Fatalf("commit: %v; want ErrExists for the last of its writes", err)
	}
	if h := head(t, store); h.Revision != 0 {
		t.Fatalf("head at %d after a commit that failed", h.Revision)
	}
	if rev, err := store.Commit(t.Context(), commit(writes...)); err != nil || rev != 1 {
		t.Fatalf("commit: revision %d, %v; want 1", rev, err)
	}
	err := store.Read(t.Context(), func(r catalog.Reader) error {
		changes, err := r.Changes(t.Context(), catalog.Cursor{}, len(writes)+1)
		if len(changes) != len(writes) {
			t.Errorf("%d changes; want %d", len(changes), len(writes))
		}
		for i, c := range changes {
			if c.Revision != 1 || c.ID != int64(i+1) {
				return fmt.Errorf("change %d is of revision %d and id %d", i, c.Revision, c.ID)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A question whose connection is lost fails as one does while the database is away, and one whose
// caller has gone does not.
func TestReadsThatLoseTheirConnection(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	var network network
	cfg.ConnConfig.DialFunc = network.dial
	pool := pgtest.Connect(t, cfg)
	store, sink := open(t, pool, &pgstore.Options{ListenDSN: pgstore.ListenNone}), newSink(pool)
	read := func(ctx context.Context) error {
		return store.Read(ctx, func(r catalog.Reader) error {
			_, err := r.Get(ctx, catalog.KindKey, 1)
			return err
		})
	}
	network.deaf.Store(true)
	if err := read(t.Context()); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("the catalog: %v; want ErrUnavailable", err)
	}
	if _, err := sink.Clock(t.Context()); !errors.Is(err, logbuf.ErrUnavailable) {
		t.Errorf("the logs: %v; want ErrUnavailable", err)
	}
	network.deaf.Store(false)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := read(gone); errors.Is(err, catalog.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone: %v", err)
	}
}

// A commit that finds no connection free is given up before anything is sent, and says that nothing was done.
func TestCommitWithoutConnection(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	cfg.MaxConns = 1
	pool := pgtest.Connect(t, cfg)
	s := open(t, pool, &pgstore.Options{ListenDSN: pgstore.ListenNone})
	busy, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err = s.Commit(t.Context(), catalog.Commit{Sync: true, Time: now})
	if took := time.Since(begun); took < 15*time.Second || took > 20*time.Second {
		t.Errorf("it took %s, want 15 s", took)
	}
	if !errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrUnconfirmed) ||
		errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want ErrUnavailable and nothing else", err)
	}
	busy.Release()
	if rev, err := s.Commit(t.Context(), catalog.Commit{Sync: true, Time: now}); rev != 1 || err != nil {
		t.Errorf("revision %d, %v; the one before was not made", rev, err)
	}
}
