// Command embed shows EZ-API inside a service of one's own: the control plane
// is a part of the program, its HTTP surface is mounted under a prefix, and the rest of
// the program uses it as a library.
//
//	ADMIN_TOKEN=$(openssl rand -hex 32) go run ./examples/embed
//
// Everything is in memory here; a service that means it passes engines, which
// it opens and closes itself: see the documentation of package ezapi.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, "127.0.0.1:8081", os.Getenv("ADMIN_TOKEN")); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, addr, token string) error {
	if token == "" {
		return errors.New("ADMIN_TOKEN is not set")
	}
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, plane.Close(ctx))
	}

	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	ran := make(chan error, 1)
	go func() { ran <- plane.Run(running) }()

	handler, drain := newHandler(plane, token)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(drain) // who only waits does not keep it
	fmt.Printf("listening on http://%s\n", listener.Addr())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served: // it cannot go on
	case <-ctx.Done():
	}

	// Requests first, then what runs, then the logs that are pending.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = errors.Join(err, server.Shutdown(grace))
	stopRunning()
	return errors.Join(err, <-ran, plane.Close(grace))
}

// newHandler is the service's own surface with the control plane's beside it.
func newHandler(plane *ezapi.Plane, token string) (handler http.Handler, drain func()) {
	api := httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{token}}), nil)
	mux := http.NewServeMux()
	mux.Handle("/gateway/", http.StripPrefix("/gateway", api))

	// Sign-up is the service's own; the key that comes of it is the plane's.
	mux.HandleFunc("POST /signup", func(w http.ResponseWriter, r *http.Request) {
		key, err := plane.Keys.Create(r.Context(), ezapi.Key{Name: r.FormValue("name")})
		if err != nil {
			http.Error(w, "that is no good name", http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, key.Token.Reveal())
	})
	return mux, api.Drain
}
