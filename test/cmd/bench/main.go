// Command bench measures the log pipeline beside PostgreSQL's own COPY and
// beside the design that this project replaces; see package bench.
//
// It runs in the directory test, whose parent holds the server:
//
//	go run ./cmd/bench -dsn postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable
//	go run ./cmd/bench -queries 10000000
//	go run ./cmd/bench -queries 10000000 -clickhouse
//	go run ./cmd/bench -fold 200000
//	go run ./cmd/bench -memory
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/ez-api/ez-api/test/bench"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	dsn := flag.String("dsn", os.Getenv("EZ_TEST_PG_DSN"),
		"a superuser's connection string to a PostgreSQL on this machine; EZ_TEST_PG_DSN by default")
	pairs := flag.Int("pairs", 5, "how often each pair is measured")
	rows := flag.Int("rows", 200_000, "how many entries each measurement writes")
	queried := flag.Int("queries", 0, "measure queries, among so many entries, and nothing else")
	column := flag.Bool("clickhouse", false, "with -queries: measure ClickHouse, too, see CHDB_LIB_PATH")
	folded := flag.Int("fold", 0, "measure how fast so many groups of usage are folded, and nothing else")
	resident := flag.Bool("memory", false, "measure the memory of servers with entries pending, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if flag.Arg(0) == "historic" {
		return bench.HistoricServer(ctx, flag.Arg(1))
	}
	if *dsn == "" {
		return errors.New("say with -dsn where PostgreSQL is")
	}
	if *folded > 0 {
		return bench.Fold(ctx, os.Stdout, *dsn, *folded, *pairs)
	}
	if *queried > 0 && *column {
		return bench.ClickHouse(ctx, os.Stdout, *dsn, *queried)
	}
	if *queried > 0 {
		return bench.Queries(ctx, os.Stdout, *dsn, *queried)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ez-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server := filepath.Join(dir, "server")
	build := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", server, "./cmd/server")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	o := bench.Options{
		DSN: *dsn, Server: server, Self: []string{self, "historic"}, Pairs: *pairs, Rows: *rows, Out: os.Stdout,
	}
	if *resident {
		return bench.Memory(ctx, o)
	}
	return bench.Run(ctx, o)
}
