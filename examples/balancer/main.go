// Command balancer is a small but working data plane: it follows the published
// snapshot in Redis, answers OpenAI's chat, completions, embeddings and list of models with
// the providers that the snapshot names, and ships its access logs to the control plane, with
// the attempts that failed.
//
//	EZ_REDIS_ADDR=127.0.0.1:6379 EZ_LOGS_URL=http://127.0.0.1:8080 \
//	EZ_BALANCER_TOKEN=… go run ./examples/balancer
//
// With EZ_SNAPSHOT_URL it reads from the control plane instead of Redis; with
// EZ_SNAPSHOT_FILE it starts from the last good snapshot while neither is up; with
// EZ_MAX_STALE it refuses everything while no control plane was heard of for so long.
//
// It authenticates keys and routes; limits and budgets, which the snapshot holds
// too, are left to whoever copies it. It is meant to be copied: gateway.go is the
// way of a request, failure.go what counts as failed, request.go and answer.go are OpenAI's protocol.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// settings are the environment.
type settings struct {
	snapshotURL string // EZ_SNAPSHOT_URL: the control plane, to read from it instead of Redis
	lastGood    string // EZ_SNAPSHOT_FILE: keeps the last good snapshot, to start while nothing else is up
	maxStale    string // EZ_MAX_STALE: refuse everything when no control plane was heard of for so long; empty: never
	redisAddr   string // EZ_REDIS_ADDR: host:port, a URL, a Cluster's list, or redis+sentinel://…
	redisCA     string // EZ_REDIS_CA: file of the certificates that sign those of Redis
	redisPrefix string // EZ_REDIS_PREFIX, default ezapi
	syncKeys    string // EZ_SYNC_KEYS, as the control plane's; none or empty: clear text
	logsURL     string // EZ_LOGS_URL: the control plane, to whose /logs the logs go
	token       string // EZ_BALANCER_TOKEN: the control plane's token of the role balancer
	spool       string // EZ_SPOOL_DIR: keeps logs through a crash; empty: memory
	listen      string // LISTEN, default 127.0.0.1:9000
	timeout     string // EZ_UPSTREAM_TIMEOUT, default 2m: how long an upstream may take to begin its answer
	private     string // EZ_ALLOW_PRIVATE_UPSTREAMS: true or false; by default true only while it listens on loopback
	name        string // the machine's, in logs
}

func environment() settings {
	or := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	name, err := os.Hostname()
	if err != nil {
		name = "balancer"
	}
	return settings{
		snapshotURL: os.Getenv("EZ_SNAPSHOT_URL"),
		lastGood:    os.Getenv("EZ_SNAPSHOT_FILE"),
		maxStale:    or("EZ_MAX_STALE", "0s"),
		redisAddr:   or("EZ_REDIS_ADDR", "127.0.0.1:6379"),
		redisCA:     os.Getenv("EZ_REDIS_CA"),
		redisPrefix: or("EZ_REDIS_PREFIX", "ezapi"),
		syncKeys:    or("EZ_SYNC_KEYS", "none"),
		logsURL:     or("EZ_LOGS_URL", "http://127.0.0.1:8080"),
		token:       os.Getenv("EZ_BALANCER_TOKEN"),
		spool:       os.Getenv("EZ_SPOOL_DIR"),
		listen:      or("LISTEN", "127.0.0.1:9000"),
		timeout:     or("EZ_UPSTREAM_TIMEOUT", "2m"),
		private:     os.Getenv("EZ_ALLOW_PRIVATE_UPSTREAMS"),
		name:        name,
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, environment(), slog.Default()); err != nil {
		fmt.Fprintln(os.Stderr, "balancer:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends; then it finishes the requests at work and ships
// the logs that are left.
func run(ctx context.Context, s settings, logger *slog.Logger) (err error) {
	var keys *snapshot.Keys
	if s.syncKeys != "none" {
		if keys, err = snapshot.ParseKeys(s.syncKeys); err != nil {
			return fmt.Errorf("EZ_SYNC_KEYS: %w", err)
		}
	}
	upstreams, err := s.upstreams()
	if err != nil {
		return err
	}
	source, closeSource, err := openSource(s, logger)
	if err != nil {
		return err
	}
	defer closeSource()
	maxStale, err := time.ParseDuration(s.maxStale)
	if err != nil || maxStale < 0 {
		return errors.New("EZ_MAX_STALE must be a duration such as 60s, or 0s for never")
	}
	timeout, err := time.ParseDuration(s.timeout)
	if err != nil || timeout <= 0 {
		return errors.New("EZ_UPSTREAM_TIMEOUT must be a duration such as 2m")
	}
	watcher := snapshot.NewWatcher(source, &snapshot.WatcherOptions{
		Keys: keys, Name: s.name, File: s.lastGood, MaxStale: maxStale, Logger: logger,
	})
	logs, err := logbuf.Open(logbuf.NewHTTPSink(s.logsURL, s.token, nil), &logbuf.Options{Dir: s.spool, Logger: logger})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, logs.Close(ctx)) // ships what is left
	}()

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	watched := make(chan error, 1)
	go func() { watched <- watcher.Run(watching) }()
	defer func() { stopWatching(); err = errors.Join(err, <-watched) }()

	g := &gateway{name: s.name, view: watcher.View, breaker: snapshot.NewBreaker(nil),
		client: upstreamClient(upstreams, timeout), logs: logs, logger: logger}
	return serve(ctx, s.listen, g.handler())
}

// openSource returns where the snapshot is read from: Redis, or the control
// plane itself.
func openSource(s settings, logger *slog.Logger) (snapshot.Source, func(), error) {
	if s.snapshotURL != "" {
		source := snapshot.NewHTTPSource(s.snapshotURL, s.token, nil)
		return source, source.Close, nil
	}
	client, err := redisstore.Open(s.redisAddr, &redisstore.OpenOptions{CAFile: s.redisCA, Name: s.name, Logger: logger})
	if err != nil {
		return nil, nil, fmt.Errorf("EZ_REDIS_ADDR or EZ_REDIS_CA: %w", err)
	}
	if err := redisstore.CheckPrefix(s.redisPrefix); err != nil {
		return nil, nil, fmt.Errorf("EZ_REDIS_PREFIX: %w", err)
	}
	source := redisstore.New(client, &redisstore.Options{Prefix: s.redisPrefix, Logger: logger})
	return source, func() { _ = client.Close() }, nil
}

// serve answers requests until ctx ends and those at work are done.
func serve(ctx context.Context, addr string, handler http.Handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 30*time.Second) // streams take their time
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), server.Close())
	}
	return nil
}

// upstreams returns where requests, and with them secrets, may be sent.
func (s settings) upstreams() (catalog.Privacy, error) {
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return 0, fmt.Errorf("LISTEN must be host:port: %w", err)
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case s.private == "true", s.private == "" && (host == "localhost" || err == nil && addr.IsLoopback()):
		return catalog.AllowPrivate, nil
	case s.private == "false", s.private == "":
		return catalog.PublicOnly, nil
	}
	return 0, errors.New("EZ_ALLOW_PRIVATE_UPSTREAMS must be true or false")
}

// upstreamClient waits long for an answer to begin, but not for a connection. Where
// upstreams are to be public, it looks at the address that it dials: the control plane has
// checked the name, which may lead elsewhere since. There is no proxy then, because its
// address would be looked at in place of the upstream's.
func upstreamClient(upstreams catalog.Privacy, timeout time.Duration) *http.Client {
	dialer, proxy := &net.Dialer{Timeout: 5 * time.Second}, http.ProxyFromEnvironment
	if upstreams == catalog.PublicOnly {
		dialer.Control, proxy = catalog.DialControl, nil
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 proxy,
			DialContext:           dialer.DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: timeout,
			MaxIdleConnsPerHost:   100,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
