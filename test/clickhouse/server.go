// Package clickhouse starts ClickHouse for tests: the engine of libchdb.so, in a process that
// answers ClickHouse's HTTP interface. The library is large, so it is not fetched by default: see
// integration.sh --clickhouse.
package clickhouse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// LibraryVariable names the environment variable that says where libchdb.so is.
const LibraryVariable = "CHDB_LIB_PATH"

// Password is that of the user of every server. It is what must never be seen in an error.
const Password = "ch-s3cret/p@ss word"

const startTimeout = time.Minute // the library is large, and so is what it links

// A Server is a process that answers ClickHouse's HTTP interface.
type Server struct {
	program, dir, addr string
	process            *exec.Cmd
	exited             chan error
}

// Start builds the program and starts it on the data of a directory, which holds the program too.
func Start(ctx context.Context, dir string) (*Server, error) {
	if os.Getenv(LibraryVariable) == "" {
		return nil, fmt.Errorf(
			"%s is not set: say where libchdb.so is, or run integration.sh --clickhouse",
			LibraryVariable,
		)
	}
	s := &Server{
		program: filepath.Join(dir, "clickhouse"),
		dir:     filepath.Join(dir, "data"),
		addr:    "127.0.0.1:0",
	}
	build := exec.CommandContext(
		ctx,
		"go",
		"build",
		"-o",
		s.program,
		"github.com/ez-api/ez-api/test/cmd/clickhouse",
	)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return s, s.Run()
}

// Run starts the process again after it has ended, at the same address.
func (s *Server) Run() error {
	cmd := exec.Command(s.program, "-data", s.dir, "-listen", s.addr) //nolint:gosec // it was built here
	cmd.Env = append(os.Environ(), "CLICKHOUSE_PASSWORD="+Password)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	listening := make(chan string, 1)
	exited := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if addr, ok := strings.CutPrefix(lines.Text(), "listening on http://"); ok {
				listening <- addr
			}
		}
		exited <- cmd.Wait()
	}()
	s.process, s.exited = cmd, exited
	select {
	case s.addr = <-listening:
		return nil
	case err := <-exited:
		return fmt.Errorf("the server ended: %w", errors.Join(err, errors.New("see what it wrote")))
	case <-time.After(startTimeout):
		s.Kill()
		return errors.New("the server does not begin to listen")
	}
}

// DSN returns a connection string for a database, which need not exist.
func (s *Server) DSN(database string) string {
	u := url.URL{
		Scheme: "clickhouse",
		Host:   s.addr,
		Path:   "/" + database,
		User:   url.UserPassword("default", Password),
	}
	return u.String()
}

// Addr returns the address at which the server answers.
func (s *Server) Addr() string { return s.addr }

// Ask runs a statement beside whatever is tested.
func (s *Server) Ask(ctx context.Context, database, text string) (string, error) {
	address := "http://" + s.addr + "/?database=" + url.QueryEscape(database)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(text))
	if err != nil {
		return "", err
	}
	request.Header.Set("X-ClickHouse-User", "default")
	request.Header.Set("X-ClickHouse-Key", Password)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(string(answer))
	}
	return strings.TrimSpace(string(answer)), err
}

// Kill ends the process as a power loss does.
func (s *Server) Kill() {
	_ = s.process.Process.Kill()
	<-s.exited
}

// Stop ends the process in good order.
func (s *Server) Stop() {
	_ = s.process.Process.Signal(os.Interrupt)
	select {
	case <-s.exited:
	case <-time.After(startTimeout):
		s.Kill()
	}
}
