// Command containers runs PostgreSQL and Redis in Docker for the tests. It
// writes EZ_TEST_PG_DSN=… and EZ_TEST_REDIS_ADDR=… once both answer, then
// "ready", and removes the containers when it is told to end. It is the only
// file that knows dockertest.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
	"github.com/redis/go-redis/v9"
)

// lifetime is when Docker removes the containers whatever happens to us: longer than any run takes.
const lifetime = 2 * time.Hour

// sharedMemory is what the server's parallel queries share, in bytes. Docker's default is too small for them.
const sharedMemory = 256 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "containers:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	pool, err := dockertest.NewPool("")
	if err != nil {
		return err
	}
	pool.MaxWait = 2 * time.Minute
	if err := pool.Client.Ping(); err != nil {
		return fmt.Errorf("no Docker engine answers: %w", err)
	}

	password := rand.Text()
	postgres, err := start(pool, "5432/tcp", &dockertest.RunOptions{
		Repository: "postgres", Tag: "17",
		Env: []string{"POSTGRES_PASSWORD=" + password, "LANG=C.UTF-8"},
		// Without fsync: each test has a database of its own, and none outlives the container.
		Cmd: []string{"postgres", "-c", "max_connections=300", "-c", "fsync=off"},
	})
	if err != nil {
		return err
	}
	defer pool.Purge(postgres)
	server, err := start(pool, "6379/tcp", &dockertest.RunOptions{
		Repository: "redis", Tag: "7",
		Cmd: []string{"redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no"},
	})
	if err != nil {
		return err
	}
	defer pool.Purge(server)

	dsn := fmt.Sprintf("postgres://postgres:%s@%s/postgres?sslmode=disable", password, address(postgres, "5432/tcp"))
	if err := retry(ctx, pool, func() error { return pingPostgres(ctx, dsn) }); err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	addr := address(server, "6379/tcp")
	if err := retry(ctx, pool, func() error { return pingRedis(ctx, addr) }); err != nil {
		return fmt.Errorf("connect to Redis: %w", err)
	}
	fmt.Printf("EZ_TEST_PG_DSN=%s\nEZ_TEST_REDIS_ADDR=%s\nready\n", dsn, addr)
	<-ctx.Done()
	return nil
}

// start runs a container. Where the engine is on this machine, the port is open on loopback alone.
func start(pool *dockertest.Pool, port docker.Port, opts *dockertest.RunOptions) (*dockertest.Resource, error) {
	if host := os.Getenv("DOCKER_HOST"); host == "" || strings.HasPrefix(host, "unix:") {
		opts.PortBindings = map[docker.Port][]docker.PortBinding{port: {{HostIP: "127.0.0.1"}}}
	}
	r, err := pool.RunWithOptions(opts, func(c *docker.HostConfig) {
		c.AutoRemove, c.ShmSize = true, sharedMemory
	})
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", opts.Repository, opts.Tag, err)
	}
	if err := r.Expire(uint(lifetime / time.Second)); err != nil {
		return nil, fmt.Errorf("%s:%s: %w", opts.Repository, opts.Tag, err)
	}
	return r, nil
}

// address is where a container's port is reached from here: on the engine's
// own machine when DOCKER_HOST names another.
func address(r *dockertest.Resource, port string) string {
	host, number, err := net.SplitHostPort(r.GetHostPort(port))
	if err != nil {
		return r.GetHostPort(port)
	}
	if host == "localhost" || host == "0.0.0.0" || host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, number)
}

// retry tries until fn succeeds, for as long as the pool allows or ctx lasts.
func retry(ctx context.Context, pool *dockertest.Pool, fn func() error) error {
	return pool.Retry(func() error {
		if ctx.Err() != nil {
			return nil // told to end: the caller's next step sees it
		}
		return fn()
	})
}

func pingPostgres(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

func pingRedis(ctx context.Context, addr string) error {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	return client.Ping(ctx).Err()
}
