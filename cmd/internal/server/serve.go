// Package server is the reference server: it makes a plane of what the
// environment says, and serves it over HTTP.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/console"
	"github.com/ez-api/ez-api/httpapi/metrics"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// How long a shutdown takes at most: for requests at work, then for the logs.
const (
	requestGrace = 5 * time.Second
	drainGrace   = 7 * time.Second
)

// A Server is a plane with its engines and its listener.
type Server struct {
	config   *Config
	logger   *slog.Logger
	dir      *dataDir // nil where nothing is kept on this machine
	engines  *engines
	plane    *ezapi.Plane
	listener net.Listener
	http     *http.Server

	madeToken bool // the admin's token comes from the data directory
}

// Open makes a server that listens already, but answers only in Serve, which
// has to be called: it closes what Open has opened.
func Open(ctx context.Context, config *Config, logger *slog.Logger) (_ *Server, err error) {
	s := &Server{config: config, logger: logger}
	defer func() {
		if err != nil {
			_ = s.drain(time.Now().Add(drainGrace)) // what is wrong is known
			_ = s.release()
		}
	}()
	if err := s.claim(); err != nil {
		return nil, err
	}
	if s.engines, err = openEngines(ctx, config, s.dir, logger); err != nil {
		return nil, err
	}
	if s.plane, err = s.newPlane(); err != nil {
		return nil, err
	}
	auth := httpapi.Tokens(httpapi.TokenList{
		Admin: config.AdminTokens, Viewer: config.ViewerTokens, Balancer: config.BalancerTokens,
	})
	people, err := config.identityProvider()
	if err != nil {
		return nil, err
	}
	api := s.handler(auth, people)
	all, err := s.withConsole(api, auth, people)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           all,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute, // a write may wait a minute until it is applied
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(api.Drain)
	return s, nil
}

// maxConnections is how many clients may be connected at once. Those beyond wait until
// another has gone. Each connection costs a few kilobytes.
const maxConnections = 10_000

// claim takes what this server alone may have: its data directory and its listening address. It
// says at once what is wrong with either.
func (s *Server) claim() (err error) {
	var faults Faults
	for _, take := range []func() error{s.prepare, s.listen} {
		err := take()
		if fault, ok := errors.AsType[*SettingError](err); ok {
			faults = append(faults, fault)
		} else if err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

func (s *Server) listen() (err error) {
	if s.listener, err = net.Listen("tcp", s.config.address()); err != nil {
		return listenError(s.config, err)
	}
	s.listener = limited(s.listener)
	return nil
}

// limited returns the listener with a bound of the connections that are open at once.
func limited(l net.Listener) net.Listener { return netutil.LimitListener(l, maxConnections) }

// prepare opens the data directory where one is needed, and completes the
// secrets from it. It also sees to it that there is a directory for temporary files.
func (s *Server) prepare() (err error) {
	c := s.config
	if c.Embedded() || c.EmbeddedRedis() || c.LogDurability != durability(logbuf.Memory) {
		if s.dir, err = openDataDir(c.DataDir); err != nil {
			return err
		}
	}
	// Last: where both are one directory, as in the image, openDataDir makes it or says whose it is.
	if err := tryTemporary(); err != nil || s.dir == nil {
		return err
	}
	if c.EmbeddedRedis() && c.Redis.password == "" {
		if c.Redis.password, err = s.dir.redisPassword(); err != nil {
			return err
		}
	}
	if !c.Embedded() {
		return nil
	}
	if len(c.AdminTokens) == 0 {
		s.madeToken = true
		if c.AdminTokens, err = s.dir.adminToken(); err != nil {
			return err
		}
	}
	if len(c.DBKeys) == 0 {
		c.DBKeys, err = s.dir.dbKeys()
	}
	return err
}

// listenError says which variable has to change.
func listenError(c *Config, err error) error {
	var cause *os.SyscallError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &SettingError{"EZ_API_PORT", fmt.Sprintf("must be a free port, %s is taken", c.address())}
	case errors.Is(err, syscall.EACCES):
		return &SettingError{"EZ_API_PORT", fmt.Sprintf("must be a port that this user may listen on, %d is not", c.Port)}
	case errors.As(err, &cause):
		return &SettingError{"EZ_API_ADDR", fmt.Sprintf("must be an address of this machine, %s is not: %v", c.Addr,
			cause.Err)}
	}
	return &SettingError{"EZ_API_ADDR", fmt.Sprintf("must be an address of this machine, %s is not", c.Addr)}
}

func (s *Server) newPlane() (*ezapi.Plane, error) {
	c := s.config
	keeper, err := catalog.NewKeyRing(c.DBKeys...)
	if err != nil {
		return nil, err
	}
	var syncKeys *snapshot.Keys
	if len(c.SyncKeys.list) > 0 {
		if syncKeys, err = snapshot.NewKeys(c.SyncKeys.list...); err != nil {
			return nil, err
		}
	}
	logs := logbuf.Options{
		Capacity: int(c.LogQueue), BatchSize: int(c.LogBatchSize), FlushInterval: time.Duration(
			c.LogFlushInterval), Logger: s.logger,
	}
	if c.LogDurability == durability(logbuf.Disk) {
		logs.Dir, logs.SpoolMax, logs.SpoolKeep = s.dir.file("spool"), int64(c.LogSpoolMax), c.LogSpoolKeep.option()
	}
	webhook, err := c.webhook()
	if err != nil {
		return nil, err
	}
	plane, err := ezapi.New(ezapi.Config{
		Catalog: s.engines.catalog, Keeper: keeper, AllowPrivateUpstreams: c.AllowPrivateUpstreams == on,
		Publisher: s.engines.publisher, SyncKeys: syncKeys,
		LogSink: s.engines.sink, Logs: logs, Alerts: webhook,
		BudgetInterval:   time.Duration(c.BudgetInterval),
		Health:           health.Options(c.Health),
		ChangesRetention: c.ChangesRetention.forever(), LogRetention: c.LogRetention.forever(),
		UsageRetention: c.UsageRetention.forever(),
		Clock:          clock,
		Logger:         s.logger,
	})
	if err != nil {
		return nil, err
	}
	s.logger.Info("access logs", "durability", plane.Logs().Stats().Durability)
	return plane, nil
}

func (s *Server) handler(auth httpapi.Auth, people *console.OIDC) *httpapi.Handler {
	checks := maps.Clone(s.engines.checks)
	if people != nil {
		checks["oidc"] = people.Check
	}
	observed := metrics.New(s.plane)
	registry := prometheus.NewRegistry()
	registry.MustRegister(observed, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return httpapi.New(s.plane, auth, &httpapi.Options{
		Version:  version,
		Checks:   checks,
		Observer: observed,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		}),
	})
}

// URL returns where the server is reached from this machine.
func (s *Server) URL() string {
	addr := s.listener.Addr().(*net.TCPAddr) //nolint:forcetypeassert // net.Listen("tcp") gives no other
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// Serve answers requests until ctx ends; then it ends those at work, stores
// the logs that are pending and closes everything.
func (s *Server) Serve(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 2)
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if err := s.plane.Run(running); err != nil {
			failed <- err
		}
	}()
	go func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve: %w", err)
		}
	}()
	var err error
	select {
	case <-ctx.Done():
		s.logger.Info("told to stop: no new requests, storing pending logs")
	case err = <-failed:
	}
	s.endRequests()
	until := time.Now().Add(drainGrace)
	stop()
	err = errors.Join(err, s.drain(until)) // beside what runs, which takes seconds to end with a database that is halted
	select {
	case <-ran:
	case <-time.After(time.Until(until)):
	}
	return errors.Join(err, s.release())
}

// endRequests stops listening and lets requests at work finish, but not for ever.
func (s *Server) endRequests() {
	ctx, cancel := context.WithTimeout(context.Background(), requestGrace)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.logger.Warn("requests were cut off", "error", err)
		_ = s.http.Close()
	}
}

// drain stores what is pending, until a time.
func (s *Server) drain(until time.Time) error {
	if s.plane == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	err := s.plane.Close(ctx)
	stats := s.plane.Stats().Logs
	if unstored, ok := errors.AsType[*logbuf.UnstoredError](err); ok && unstored.Kept {
		s.logger.Warn("logs are left in the spool; the next start stores them", "pending", unstored.Entries)
		err = nil
	}
	s.logger.Info("logs drained", "stored", stats.Stored, "pending", stats.Pending)
	return err
}

// release closes all there is, the last opened first.
func (s *Server) release() error {
	var errs []error
	if s.engines != nil {
		errs = append(errs, s.engines.close())
	}
	if s.listener != nil {
		_ = s.listener.Close() // closed already after Shutdown
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}
