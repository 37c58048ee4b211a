package pgstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
)

const (
	sqlListen   = `listen ezapi_catalog`
	sqlIdentity = `select store::text as store, revision from catalog_head`

	// A listening connection that was silent this long is pinged; without an
	// answer in time it is dead, and made again.
	listenPing    = 10 * time.Second
	listenTimeout = 5 * time.Second

	// Pause before a lost connection is made again: doubled from the least to
	// the most, with jitter.
	leastPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second

	// Waiters look for themselves this often, whatever the listener hears.
	pollInterval = 2 * time.Second
)

// session makes connections outside the pool.
type session struct {
	config        *pgx.ConnConfig
	beforeConnect func(context.Context, *pgx.ConnConfig) error // a pool's hook: short-lived passwords
}

func newSession(pool *pgxpool.Pool, dsn string) (*session, error) {
	if dsn == "" || dsn == ListenNone {
		cfg := pool.Config()
		return &session{config: cfg.ConnConfig, beforeConnect: cfg.BeforeConnect}, nil
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	return &session{config: cfg}, nil
}

func (s *session) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout+ConnectTimeout(s.config))
	defer cancel()
	cfg := s.config.Copy()
	if s.beforeConnect != nil {
		if err := s.beforeConnect(ctx, cfg); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// listen follows other processes' commits until the store is closed.
func (s *Store) listen(session *session) {
	ctx, cancel := context.WithCancel(context.Background())
	s.background.Go(func() {
		<-s.closed
		cancel()
	})
	s.background.Go(func() {
		pause := leastPause
		for {
			err := s.follow(ctx, session, func() { pause = leastPause })
			if ctx.Err() != nil {
				return
			}
			s.logger.Warn("pgstore: listening connection lost; polling until it is back", "error", err, "retry_in", pause)
			select {
			case <-time.After(pause/2 + rand.N(pause)):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, mostPause)
		}
	})
}

// follow listens on one connection until it is lost or ctx ends.
func (s *Store) follow(ctx context.Context, session *session, connected func()) error {
	conn, err := session.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(closing)
	}()

	setup, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	if _, err := conn.Exec(setup, sqlListen); err != nil {
		return err
	}
	// Read after subscribing: what was committed before is not announced.
	var head struct {
		Store    string
		Revision catalog.Revision
	}
	if err := s.db.GetContext(setup, &head, sqlIdentity); err != nil {
		return err
	}
	s.head.Raise(head.Revision)
	connected()

	for {
		quiet, cancel := context.WithTimeout(ctx, listenPing)
		note, err := conn.WaitForNotification(quiet)
		cancel()
		switch {
		case err == nil:
			if store, rev, ok := parseNote(note.Payload); ok && store == head.Store {
				s.head.Raise(rev)
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		default:
			ping, cancel := context.WithTimeout(ctx, listenTimeout)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

// parseNote reads what a commit announces: "<store> <revision>". Stores in
// several schemas of one database share the channel.
func parseNote(payload string) (store string, rev catalog.Revision, ok bool) {
	store, number, ok := strings.Cut(payload, " ")
	if !ok {
		return "", 0, false
	}
	n, err := strconv.ParseInt(number, 10, 64)
	return store, catalog.Revision(n), err == nil
}

// Wait blocks until the head's revision exceeds after; see [catalog.Store].
// Commits of other processes are heard of at once through the listening
// connection, and within about 2 s without it.
func (s *Store) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.head.Wait(ctx, s.closed, after, pollInterval, s.readRevision)
}
