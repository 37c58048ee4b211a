package chstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/claim"
	"github.com/ez-api/ez-api/storage/internal/gate"
)

const (
	defaultQueryTimeout = 30 * time.Second
	defaultSettle       = 10 * time.Minute

	// writeTimeout is how long a batch may take, all its statements together. It is well below what a
	// written hour is left alone for.
	writeTimeout = 2 * time.Minute

	// A query reads many rows with all cores of the server: few at once are as fast as many.
	queriesAtOnce = 8
	keysAtOnce    = 4

	// clockAge is how long a reading of the server's clock is used, for what may be told too early by
	// the time that this machine was suspended. Writes read the clock themselves.
	clockAge = time.Minute
)

// Sink stores access logs in ClickHouse, and answers questions about them. It is safe for
// concurrent use.
//
// Errors that need an operator, such as a wrong password or a missing right, wrap
// [logbuf.ErrPaused]; those that time may mend, such as a server that is away, has too many parts,
// or no space left, wrap [logbuf.ErrUnavailable]. No error holds the password.
type Sink struct {
	client        *client
	logger        *slog.Logger
	queryTimeout  time.Duration
	settle        time.Duration
	queries, keys *gate.Gate
	claims        *claim.Claim

	schema sync.Mutex
	made   bool // the tables are there

	mu     sync.Mutex
	closed bool
	theirs time.Time // what the server's clock said
	asked  time.Time // when, by the monotonic clock
}

var (
	_ logbuf.Sink         = (*Sink)(nil)
	_ logbuf.Classifier   = (*Sink)(nil)
	_ logbuf.Archive      = (*Sink)(nil)
	_ logbuf.Maintainer   = (*Sink)(nil)
	_ logbuf.Repricer     = (*Sink)(nil)
	_ logbuf.Timekeeper   = (*Sink)(nil)
	_ logbuf.HealthKeeper = (*Sink)(nil)
)

// SinkOptions change how a [Sink] works; nil and zero fields mean the defaults.
type SinkOptions struct {
	// QueryTimeout is how long one question may take; the server gives it up then. Defaults to 30
	// seconds.
	QueryTimeout time.Duration

	// Settle is how long after the last write into an hour that is over its usage is still read
	// from the entries; after that it is summed, and the sums are stored. It has to be longer than
	// replicas lag behind each other, than a write that was given up may still go on, and than the
	// server's clock may be set back. A negative value means none, for tests with one server.
	// Defaults to 10 minutes.
	Settle time.Duration

	// Owner returns which catalog the logs belong to: the Store of its head. The database remembers
	// the first catalog that comes. A sink of another one does nothing there, and fails with
	// [logbuf.ErrForeign]: otherwise the usage of two catalogs would be added up, and maintenance
	// for one would delete the entries of the other. Defaults to none: nothing is checked.
	Owner func(ctx context.Context) (string, error)

	// Logger is told what is worth knowing. Defaults to none.
	Logger *slog.Logger
}

// NewSink returns a sink for a connection string:
//
//	clickhouse://USER:PASSWORD@HOST:PORT/DATABASE
//
// The port is that of the HTTP interface, 8123 by default, or 8443 with secure=true. Parameters:
// secure=true speaks TLS, and ca=FILE names the certificates that sign the server's;
// replicated=true makes tables that replicate themselves, and cluster=NAME makes such tables on all
// hosts of a cluster. NewSink does not connect.
func NewSink(dsn string, opts *SinkOptions) (*Sink, error) {
	a, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	s := &Sink{
		client: newClient(
			a,
		), logger: slog.New(slog.DiscardHandler), queryTimeout: defaultQueryTimeout, settle: defaultSettle,
		queries: gate.New(queriesAtOnce), keys: gate.New(keysAtOnce), claims: claim.New(nil),
	}
	if opts == nil {
		return s, nil
	}
	if opts.QueryTimeout > 0 {
		s.queryTimeout = opts.QueryTimeout
	}
	if opts.Settle != 0 {
		s.settle = max(0, opts.Settle)
	}
	s.claims = claim.New(opts.Owner)
	if opts.Logger != nil {
		s.logger = opts.Logger
	}
	return s, nil
}

// Class says that entries are told apart by their identity when they are read.
func (*Sink) Class() logbuf.Class { return logbuf.ByIdentity }

// Close ends the sink: nothing works any more.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.client.close()
	return nil
}

// begin is what everything begins with, but for telling the time: the sink is open, its tables are there, and what is
// in them is this catalog's.
func (s *Sink) begin(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	return s.claims.Check(ctx, s.own)
}

// reach makes sure that the sink is open, and that its tables are there.
func (s *Sink) reach(ctx context.Context) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return logbuf.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.ensure(ctx)
}

// ask sends a question and returns the rows of the answer.
func (s *Sink) ask(ctx context.Context, text string) ([]byte, error) {
	return s.client.run(ctx, statement{text: text + " FORMAT RowBinary", settings: settings{
		// The days of access_logs never share an entry.
		"do_not_merge_across_partitions_select_final":  "1",
		"cancel_http_readonly_queries_on_client_close": "1",
	}})
}

// do sends a statement that has no answer.
func (s *Sink) do(ctx context.Context, text string) error {
	_, err := s.client.run(
		ctx,
		statement{text: text, settings: settings{"async_insert": "0", "insert_deduplicate": "0"}},
	)
	return err
}

// guarded runs questions that wait their turn at a gate, within the time that a question may take.
func (s *Sink) guarded(
	ctx context.Context,
	g *gate.Gate,
	doing string,
	fn func(context.Context) error,
) error {
	if err := g.Enter(ctx); err != nil {
		return explain(ctx, doing, err)
	}
	defer g.Leave()
	within, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	err := s.begin(within)
	if err == nil {
		err = fn(within)
	}
	return explain(ctx, doing, err)
}

// Clock tells the time of the server; see [logbuf.Timekeeper].
func (s *Sink) Clock(ctx context.Context) (now time.Time, err error) {
	if err = s.reach(ctx); err == nil {
		now, err = s.readClock(ctx)
	}
	return now, explain(ctx, "read the clock", err)
}

func (s *Sink) readClock(ctx context.Context) (time.Time, error) {
	answer, err := s.ask(ctx, "SELECT toInt64(toUnixTimestamp64Micro(now64(6)))")
	if err != nil {
		return time.Time{}, err
	}
	asked := time.Now()
	r := rowReader{rest: answer}
	now := time.UnixMicro(r.int64()).UTC()
	switch {
	case r.err != nil:
		return time.Time{}, r.err
	case now.Before(minTime()) || now.After(maxTime()):
		return time.Time{}, errors.New("the clock of the server is not between 1970 and 2105")
	}
	s.mu.Lock()
	s.theirs, s.asked = now, asked
	s.mu.Unlock()
	return now, nil
}

// now returns the time of the server, as of a reading that is not old.
func (s *Sink) now(ctx context.Context) (time.Time, error) {
	s.mu.Lock()
	theirs, asked := s.theirs, s.asked
	s.mu.Unlock()
	if age := time.Since(asked); !asked.IsZero() && age < clockAge {
		return theirs.Add(age), nil
	}
	return s.readClock(ctx)
}

// Ready asks the server for its time, for a check of readiness. The note says what does not work
// without it.
func (s *Sink) Ready(ctx context.Context) (note string, err error) {
	if err = s.begin(ctx); err == nil {
		_, err = s.readClock(ctx)
	}
	if err == nil {
		return "", nil
	}
	if errors.Is(err, logbuf.ErrForeign) {
		return "it has the logs of another catalog: entries wait in the spool", explain(ctx, "ask", err)
	}
	return "ClickHouse cannot be asked: entries wait in the spool, logs and usage cannot be read", explain(
		ctx,
		"ask",
		err,
	)
}
