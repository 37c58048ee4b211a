// Command clickhouse answers ClickHouse's HTTP interface with the engine of libchdb.so, for tests
// and for trying things by hand:
//
//	LIB=$(find ~/.cache/ezapi-test/chdb -name libchdb.so) # test/integration.sh --clickhouse fetches it
//	go run ./cmd/clickhouse -lib "$LIB" -data /tmp/ch -listen 127.0.0.1:8123
//
// The password of the user is taken from CLICKHOUSE_PASSWORD.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/test/clickhouse/engine"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	library := flag.String(
		"lib",
		os.Getenv("CHDB_LIB_PATH"),
		"`path` of libchdb.so; CHDB_LIB_PATH by default",
	)
	dir := flag.String("data", "", "`directory` of the data")
	user := flag.String("user", "default", "`name` of the user")
	flag.Parse()
	if err := run(*listen, engine.Options{
		Library: *library, Dir: *dir, User: *user, Password: os.Getenv("CLICKHOUSE_PASSWORD"),
	}); err != nil {
		fmt.Fprintln(os.Stderr, "clickhouse:", err)
		os.Exit(1)
	}
}

func run(addr string, o engine.Options) error {
	if o.Library == "" || o.Dir == "" {
		return errors.New("say with -lib where libchdb.so is, and with -data where the data shall be")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e, err := engine.Open(o)
	if err != nil {
		return err
	}
	defer e.Close()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Printf("listening on http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
