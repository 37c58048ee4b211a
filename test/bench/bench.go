package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/storage/pgstore"
)

// Options say what to measure, and how thoroughly. All are needed.
type Options struct {
	DSN    string    // of a superuser of a PostgreSQL on this machine
	Server string    // the program under test
	Self   []string  // the command that runs [HistoricServer], to which the connection string is added
	Pairs  int       // how often each pair is measured
	Rows   int       // how many each measurement writes
	Out    io.Writer // where the tables go
}

// A world is what all measurements of a run have in common.
type world struct {
	Options
	dsn  string // of the run's own database
	pool *pgxpool.Pool
	set  *entrySet
	raw  *rawCopy
}

// Run measures everything and prints it.
func Run(ctx context.Context, o Options) (err error) {
	w := &world{Options: o, set: newEntrySet(o.Rows)}
	drop, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	if w.raw, err = newRawCopy(ctx, w.pool, w.set); err != nil {
		return err
	}
	defer w.raw.remove()
	for _, part := range []func(context.Context) error{w.writers, w.servers, w.memory} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Memory measures only how much memory servers take while entries are pending. It needs neither Self
// nor Pairs.
func Memory(ctx context.Context, o Options) (err error) {
	w := &world{Options: o, set: newEntrySet(o.Rows)}
	drop, err := w.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.memory(ctx), drop())
}

// schema is where the server keeps its tables.
const schema = "ezapi"

// open makes the run's database. The function it returns drops it again.
func (w *world) open(ctx context.Context) (drop func() error, err error) {
	name := "ez_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	config, err := pgxpool.ParseConfig(w.DSN)
	if err != nil {
		return nil, errors.New("the connection string cannot be read")
	}
	admin := func(sql string) error {
		// Not with ctx: what was made is removed, however the run ends.
		conn, err := pgx.Connect(context.Background(), w.DSN)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background()) //nolint:errcheck // nothing is left to do
		_, err = conn.Exec(context.Background(), sql)
		return err
	}
	if err := admin("create database " + name + " with template template0 encoding 'UTF8'"); err != nil {
		return nil, err
	}
	config.ConnConfig.Database = name
	config.ConnConfig.RuntimeParams["search_path"] = schema + ",public" // where the historic design keeps its own
	w.dsn = dsnOf(config.ConnConfig)
	if w.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	drop = func() error {
		w.pool.Close()
		return admin("drop database " + name + " with (force)")
	}
	store, err := pgstore.Open(ctx, w.pool, &pgstore.Options{ListenDSN: pgstore.ListenNone, Schema: schema})
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	return drop, store.Close()
}

// dsnOf writes a configuration as a connection string without TLS.
func dsnOf(c *pgx.ConnConfig) string {
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable",
		quote(c.Host), c.Port, quote(c.User), quote(c.Password), quote(c.Database))
}

// exec runs statements, each in a transaction of its own.
func (w *world) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := w.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// empty forgets all logs, and lets PostgreSQL begin afresh, so that each
// measurement pays for its own writes only.
func (w *world) empty(ctx context.Context) error {
	return w.exec(ctx, `truncate access_logs, log_blocks, usage_pending, usage_quarters, usage_days,
		usage_quarter_totals, usage_day_totals`, `checkpoint`)
}

// timed returns how many rows a second were written, and how much of a
// processor's time this process took for each.
func timed(rows int, write func() error) (rate float64, cpu time.Duration, err error) {
	before, start := ownCPU(), time.Now()
	if err := write(); err != nil {
		return 0, 0, err
	}
	took := time.Since(start)
	return float64(rows) / took.Seconds(), (ownCPU() - before) / time.Duration(rows), nil
}

// A series is one figure, measured again and again.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// over returns the ratios of two series, pair by pair.
func (s series) over(base series) series {
	ratios := make(series, len(s))
	for i := range s {
		ratios[i] = s[i] / base[i]
	}
	return ratios
}

// A table is printed with its columns aligned.
type table struct{ tw *tabwriter.Writer }

func (w *world) table(header ...any) *table {
	t := &table{tabwriter.NewWriter(w.Out, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.tw)
	t.row(header...)
	return t
}

// row prints cells; floats with three digits that matter.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.tw, "\t")
		}
		switch v := c.(type) {
		case series:
			for i, x := range v {
				if i > 0 {
					fmt.Fprint(t.tw, " ")
				}
				fmt.Fprint(t.tw, number(x))
			}
		case float64:
			fmt.Fprint(t.tw, number(v))
		default:
			fmt.Fprint(t.tw, v)
		}
	}
	fmt.Fprintln(t.tw)
}

func (t *table) end() { _ = t.tw.Flush() }

func number(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

// progress says on standard error what goes on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
