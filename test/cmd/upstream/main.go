// Command upstream runs the mock provider of package upstream and prints its
// URL, for trying a balancer by hand:
//
//	go run ./cmd/upstream -listen 127.0.0.1:9090 -key sk-upstream-secret
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

	"github.com/ez-api/ez-api/test/upstream"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	key := flag.String("key", "sk-upstream-secret", "the API key that is accepted")
	pause := flag.Duration("pause", 20*time.Millisecond, "between the chunks of a stream")
	flag.Parse()
	if err := run(*listen, upstream.New(*key, *pause)); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func run(addr string, handler http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Printf("listening on http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
