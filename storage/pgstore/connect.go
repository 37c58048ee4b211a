package pgstore

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"
)

const (
	// connectTimeout is for each host of a connection string, one after the other.
	connectTimeout = 5 * time.Second

	// defaultMaxConns is enough for a sink, a relay, some queries and some requests at work.
	defaultMaxConns = 16
)

// PoolOptions change what [PoolConfig] returns. The zero value is fine, and so is nil.
type PoolOptions struct {
	// Schema comes first in the connections' search_path; see [Options].Schema. A search_path of
	// the connection string goes before, also one of its options (options=-csearch_path=…). Defaults
	// to none: the connections' own search_path.
	Schema string

	// MaxConns is how many connections there are at most where the connection string has no
	// pool_max_conns. Defaults to 16.
	MaxConns int32
}

// PoolConfig returns the configuration of a pool that is fit for a server which must not stop.
// Where the connection string does not say otherwise:
//
//   - connect_timeout is 5 s for each host;
//   - only a primary is taken (target_session_attrs=primary), so that of several hosts the one is
//     found that can be written to, and a standby is an error that says so;
//   - a server that does not answer any more is noticed within some 10 s, whether its machine is gone or
//     only its processes are halted: then the connections to it are closed, and the next host is tried;
//   - there are at most 16 connections, called ezapi.
//
// Texts are UTF-8, whatever the connection string and the role say.
//
// Change it as you like before you give it to pgxpool.NewWithConfig.
func PoolConfig(dsn string, opts *PoolOptions) (*pgxpool.Config, error) {
	if opts == nil {
		opts = &PoolOptions{}
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("pgstore: %w", err)
	}
	if !says(dsn, "pool_max_conns") {
		config.MaxConns = defaultMaxConns
		if opts.MaxConns > 0 {
			config.MaxConns = opts.MaxConns
		}
	}
	conn := config.ConnConfig
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "ezapi"
	}
	conn.RuntimeParams["client_encoding"] = "UTF8" // or texts would be taken for what the role has set
	if opts.Schema != "" && conn.RuntimeParams["search_path"] == "" && !setsSearchPath(conn.RuntimeParams["options"]) {
		conn.RuntimeParams["search_path"] = pgx.Identifier{opts.Schema}.Sanitize()
	}
	if !says(dsn, "connect_timeout") && os.Getenv("PGCONNECT_TIMEOUT") == "" {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.ValidateConnect == nil && !says(dsn, "target_session_attrs") {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	conn.DialFunc = (&watch{next: conn.DialFunc}).dial
	return config, nil
}

// setsSearchPath reports whether the options of a connection string, which libpq and psql know, do that:
// -csearch_path=…, -c search_path=… or --search_path=….
func setsSearchPath(options string) bool {
	return regexp.MustCompile(`(?i)(^|\s)(-c\s*|--)search[_-]path\s*=`).MatchString(options)
}

// ConnectTimeout returns how long it may take until a connection fails because no host of the connection
// string answers: they are tried one after the other, and each has its connect_timeout; 5 s where that is 0.
func ConnectTimeout(config *pgx.ConnConfig) time.Duration {
	each := config.ConnectTimeout
	if each <= 0 {
		each = connectTimeout
	}
	return time.Duration(1+len(config.Fallbacks)) * each
}

// says reports whether a connection string, of either kind, has a setting.
func says(dsn, setting string) bool {
	return regexp.MustCompile(`(^|[\s?&])` + regexp.QuoteMeta(setting) + `\s*=`).MatchString(dsn)
}

// A halted server is found out by who waits for it: when an answer has not come for probeAfter, the
// same address is asked whether anybody is there, by a new connection which sends the first
// message of the protocol. PostgreSQL and poolers answer that with one byte, before any
// password, however long a query or a lock keeps them otherwise.
const (
	probeAfter   = 4 * time.Second
	probeTimeout = 2 * time.Second
	probeTries   = 2
)

// sslRequest asks whether the server speaks TLS; see "Message Formats" in PostgreSQL's manual.
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

// A watch dials, and closes connections to servers that are not there any more.
type watch struct {
	next   pgconn.DialFunc
	probes singleflight.Group // of addresses: those who wait for the same server share a probe
}

func (w *watch) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := w.next(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn, watch: w, network: network, address: address}, nil
}

// probe returns an error when nobody answers at an address.
func (w *watch) probe(network, address string) error {
	_, err, _ := w.probes.Do(address, func() (any, error) { return nil, w.ask(network, address) })
	return err
}

func (w *watch) ask(network, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, err := w.next(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it was for one byte
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte(sslRequest)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// A watchedConn is a connection to PostgreSQL. A read that waits for long makes sure that the
// server is still there, and otherwise closes the connection, so that the read fails.
type watchedConn struct {
	net.Conn
	watch            *watch
	network, address string
}

// Read implements [net.Conn].
func (c *watchedConn) Read(p []byte) (int, error) {
	done := make(chan struct{})
	timer := time.AfterFunc(probeAfter, func() { c.guard(done) })
	n, err := c.Conn.Read(p)
	timer.Stop()
	close(done)
	return n, err
}

// guard asks at intervals until done is closed, and closes the connection when nobody answers.
func (c *watchedConn) guard(done <-chan struct{}) {
	for failed := 0; failed < probeTries; {
		pause := probeAfter
		if err := c.watch.probe(c.network, c.address); err != nil {
			failed++
			pause = 0
		} else {
			failed = 0
		}
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
	}
	select {
	case <-done:
	default:
		c.Conn.Close() //nolint:errcheck // Read says what there is to say
	}
}

// describeSetting rewords the refusal of a pooler that does not know search_path.
func describeSetting(err error) error {
	if err != nil && strings.Contains(err.Error(), "unsupported startup parameter: search_path") {
		return fmt.Errorf("%w; add search_path to the pooler's ignore_startup_parameters and set it for the role: "+
			"alter role … set search_path = …", err)
	}
	return err
}
