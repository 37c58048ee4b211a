// Command conformance tests a data plane of yours against the contract, on a
// Redis of yours:
//
//	go run ./cmd/conformance [-redis 127.0.0.1:6379] python3 ../examples/reader/reader.py
//
// See package conformance for what the program has to answer. Everything is published under a
// prefix of its own, with sync keys and without, and removed afterwards.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/test/conformance"
)

func main() {
	addr := flag.String("redis", "127.0.0.1:6379", "address of the Redis to publish to")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: conformance [-redis host:port] command [argument…]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, flag.Args()); err != nil {
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string, command []string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close() //nolint:errcheck // everything is said by then
	for _, syncKeys := range []string{"none", conformance.SyncKeys} {
		fmt.Println("sync keys:", syncKeys)
		tell := func(step string, err error) {
			if err != nil {
				fmt.Printf("  FAIL  %s: %v\n", step, err)
				return
			}
			fmt.Println("  ok   ", step)
		}
		if err := conformance.Run(ctx, rdb, addr, syncKeys, conformance.Program(os.Stderr, command...), tell); err != nil {
			fmt.Println(err)
			return err
		}
	}
	fmt.Println("conforms")
	return nil
}
