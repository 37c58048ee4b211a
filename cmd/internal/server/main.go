package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

// version is set by builds that have no history to take it from:
// -ldflags "-X github.com/ez-api/ez-api/cmd/internal/server.version=v1.2.3". The program never writes it.
var version string

// Main runs the server as a program, until SIGINT or SIGTERM, and returns its
// exit code. A second signal ends the process at once.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from then on signals do what they do by default
	return Run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
}

// Run does what args say; without any it starts a server and serves until ctx ends. Logs, and the
// lines that say why it does not start, go to stderr. stdout gets a banner if it is a terminal.
func Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		return fail(stderr, command(ctx, args, environ, stdout))
	}
	config, unknown, err := Load(environ)
	if err != nil {
		code := fail(stderr, err)
		for _, name := range unknown {
			fmt.Fprintln(stderr, "ezapi:", name, "means nothing here: is it misspelt?")
		}
		return code
	}
	logger := newLogger(config, stderr)
	slog.SetDefault(logger) // for libraries that ask for none; package log writes to it, too
	for _, name := range unknown {
		logger.Warn("a variable that means nothing here; is it misspelt?", "name", name)
	}
	s, err := Open(ctx, config, logger)
	if err != nil {
		return fail(stderr, err)
	}
	return fail(stderr, serve(ctx, s, stdout))
}

// serve runs a server, and says when it is ready.
func serve(ctx context.Context, s *Server, stdout io.Writer) error {
	s.logger.Info("listening", "url", s.URL())
	served, stop := context.WithCancel(ctx)
	var announced sync.WaitGroup
	announced.Go(func() {
		select {
		case <-s.Reached():
			s.announce(stdout)
		case <-served.Done():
		}
	})
	defer announced.Wait()
	defer stop()
	return s.Serve(ctx)
}

// command does what a command line asks for.
func command(ctx context.Context, args, environ []string, stdout io.Writer) error {
	switch strings.TrimPrefix(strings.TrimPrefix(args[0], "-"), "-") {
	case "h", "help":
		text, err := Usage()
		if err != nil {
			return err
		}
		_, err = io.WriteString(stdout, text)
		return err
	case "check":
		return check(ctx, environ, stdout)
	case "init-env":
		return initEnv(args[1:], stdout)
	case "migrate":
		return migrate(ctx, args[1:], environ, stdout)
	}
	return errors.New("takes no other arguments than -check, -init-env, -migrate and -help: " +
		"its settings come from the environment, see -help")
}

// fail says what is wrong, in one line for each setting or in one line in all, and returns the exit
// code: 0 when nothing is, 2 for wrong settings, 1 for the rest.
func fail(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if faults, ok := errors.AsType[Faults](err); ok {
		for _, fault := range faults {
			fmt.Fprintln(stderr, "ezapi:", fault)
		}
		return 2
	}
	fmt.Fprintln(stderr, "ezapi:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if _, ok := errors.AsType[*SettingError](err); ok {
		return 2
	}
	return 1
}
