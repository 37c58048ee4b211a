// Package server is the reference server: it makes a plane of what the
// environment says, and serves it over HTTP.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/metrics"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// How long a shutdown takes at most: for requests at work, then for the logs.
const (
	requestGrace = 5 * time.Second
	drainGrace   = 7 * time.Second
)

// Main runs the server as a program, until SIGINT or SIGTERM, and returns its
// exit code. A second signal ends the process at once.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from then on signals do what they do by default
	return Run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
}

// Run starts a server, says on stdout where it is, and serves until ctx ends.
// Logs, and the one line that says why it does not start, go to stderr.
func Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		return help(args, stdout, stderr)
	}
	config, unknown, err := Load(environ)
	if err != nil {
		return fail(stderr, err)
	}
	logger := newLogger(config, stderr)
	for _, name := range unknown {
		logger.Warn("a variable that means nothing here; is it misspelt?", "name", name)
	}
	s, err := Open(ctx, config, logger)
	if err != nil {
		return fail(stderr, err)
	}
	fmt.Fprint(stdout, s.Banner())
	if err := s.Serve(ctx); err != nil {
		return fail(stderr, err)
	}
	return 0
}

func help(args []string, stdout, stderr io.Writer) int {
	text, err := Usage()
	if err != nil {
		return fail(stderr, err)
	}
	switch strings.TrimLeft(args[0], "-") {
	case "h", "help":
		fmt.Fprint(stdout, text)
		return 0
	}
	return fail(stderr, errors.New("takes no arguments: its settings come from the environment, see -help"))
}

// fail says in one line what is wrong. Wrong settings are exit code 2.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "ezapi:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if _, ok := errors.AsType[*SettingError](err); ok {
		return 2
	}
	return 1
}

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
			_ = s.close() // what is wrong is known
		}
	}()
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", config.address()); err != nil {
		return nil, listenError(config, err)
	}
	if s.engines, err = openEngines(ctx, config, s.dir, logger); err != nil {
		return nil, err
	}
	if s.plane, err = s.newPlane(); err != nil {
		return nil, err
	}
	api := s.handler()
	s.http = &http.Server{
		Handler:           api,
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

// prepare opens the data directory where one is needed, and completes the
// secrets from it.
func (s *Server) prepare() (err error) {
	c := s.config
	if !c.Embedded() && c.LogDurability == durability(logbuf.Memory) {
		return nil
	}
	if s.dir, err = openDataDir(c.DataDir); err != nil || !c.Embedded() {
		return err
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
		return &SettingError{"EZ_API_ADDR", fmt.Sprintf("must be an address of this machine, %s is not: %v", c.Addr, cause.Err)}
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
		Capacity: int(c.LogQueue), BatchSize: int(c.LogBatchSize), FlushInterval: time.Duration(c.LogFlushInterval), Logger: s.logger,
	}
	if c.LogDurability == durability(logbuf.Disk) {
		logs.Dir, logs.SpoolMax = s.dir.file("spool"), int64(c.LogSpoolMax)
	}
	plane, err := ezapi.New(ezapi.Config{
		Catalog: s.engines.catalog, Keeper: keeper, AllowPrivateUpstreams: c.AllowPrivateUpstreams == on,
		Publisher: s.engines.publisher, SyncKeys: syncKeys,
		LogSink: s.engines.sink, Logs: logs,
		ChangesRetention: c.ChangesRetention.forever(), LogRetention: c.LogRetention.forever(),
		Logger: s.logger,
	})
	if err != nil {
		return nil, err
	}
	s.logger.Info("access logs", "durability", plane.Logs().Stats().Durability)
	return plane, nil
}

func (s *Server) handler() *httpapi.Handler {
	auth := httpapi.Tokens(httpapi.TokenList{
		Admin: s.config.AdminTokens, Viewer: s.config.ViewerTokens, Balancer: s.config.BalancerTokens,
	})
	observed := metrics.New(s.plane)
	registry := prometheus.NewRegistry()
	registry.MustRegister(observed, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return httpapi.New(s.plane, auth, &httpapi.Options{
		Logger:   s.logger,
		Checks:   map[string]httpapi.Check{"redis": s.engines.publisher.Ready}, // its eviction policy too
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

// Banner says where everything is. It holds the admin's token if that was
// made here, because nobody else could know it.
func (s *Server) Banner() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "  %-12s %s\n", name, value) }
	b.WriteString("EZ-API is ready\n\n")
	line("URL", s.URL())
	if s.madeToken {
		line("admin token", s.config.AdminTokens[0])
	} else {
		line("admin token", "as EZ_ADMIN_TOKEN says")
	}
	if s.config.EmbeddedRedis() {
		line("Redis", s.engines.redisAddr+" (in this process)")
	} else {
		line("Redis", s.engines.redisAddr)
	}
	if s.dir != nil {
		line("data", s.dir.path)
	}
	b.WriteString("\n")
	return b.String()
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
	s.logger.Info("ready", "url", s.URL())

	var err error
	select {
	case <-ctx.Done():
		s.logger.Info("told to stop: no new requests, storing pending logs")
	case err = <-failed:
	}
	s.endRequests()
	stop()
	<-ran
	return errors.Join(err, s.close())
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

// close stores what is pending and closes all there is, the last opened first.
func (s *Server) close() error {
	var errs []error
	if s.plane != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainGrace)
		defer cancel()
		err := s.plane.Close(ctx)
		stats := s.plane.Stats().Logs
		if unstored, ok := errors.AsType[*logbuf.UnstoredError](err); ok && unstored.Kept {
			s.logger.Warn("logs are left in the spool; the next start stores them", "pending", unstored.Entries)
			err = nil
		}
		errs = append(errs, err)
		s.logger.Info("logs drained", "stored", stats.Stored, "pending", stats.Pending)
	}
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
