package process

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// Env returns a variable without which nothing here can run.
func Env(t T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run test/integration.sh, which sets it", name)
	}
	return value
}

// Postgres makes a database that is dropped after the test, and returns its
// connection string and a connection to it.
func Postgres(t T) (dsn string, conn *pgx.Conn) {
	t.Helper()
	admin := Env(t, "EZ_TEST_PG_DSN")
	name := "ez_e2e_" + strings.ToLower(rand.Text())
	exec := func(sql string) {
		t.Helper()
		c, err := pgx.Connect(context.Background(), admin)
		if err != nil {
			t.Fatalf("connect to PostgreSQL: %v", err)
		}
		defer c.Close(context.Background())
		if _, err := c.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("create database " + name + " with template template0 encoding 'UTF8'")
	t.Cleanup(func() { exec("drop database if exists " + name + " with (force)") })

	dsn = WithDatabase(t, admin, name)
	conn = Connect(t, dsn)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return dsn, conn
}

// Connect makes a connection that finds the server's tables.
func Connect(t T, dsn string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal("the connection string cannot be read")
	}
	config.RuntimeParams["search_path"] = "ezapi"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	return conn
}

// WithDatabase names another database in a connection string of either form.
func WithDatabase(t T, dsn, name string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal("EZ_TEST_PG_DSN cannot be read")
	}
	if strings.Contains(dsn, "://") {
		path, query, _ := strings.Cut(dsn, "?")
		scheme, rest, _ := strings.Cut(path, "://")
		server, _, _ := strings.Cut(rest, "/")
		return scheme + "://" + server + "/" + name + "?" + query
	}
	if config.Database != "" {
		dsn = strings.ReplaceAll(dsn, "dbname="+config.Database, "")
	}
	return dsn + " dbname=" + name
}

// Redis returns the address of Redis, a prefix that only this test uses,
// and a client.
func Redis(t T) (addr, prefix string, client *redis.Client) {
	t.Helper()
	addr = Env(t, "EZ_TEST_REDIS_ADDR")
	prefix = "e2e-" + strings.ToLower(rand.Text())
	options := &redis.Options{Addr: addr}
	if strings.Contains(addr, "://") {
		var err error
		if options, err = redis.ParseURL(addr); err != nil {
			t.Fatal("EZ_TEST_REDIS_ADDR cannot be read")
		}
	}
	client = redis.NewClient(options)
	t.Cleanup(func() {
		keys, err := client.Keys(context.Background(), "{"+prefix+"}:*").Result()
		if err == nil && len(keys) > 0 {
			err = client.Unlink(context.Background(), keys...).Err()
		}
		if err != nil {
			t.Errorf("clean up Redis: %v", err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return addr, prefix, client
}

// NewKey makes a key of the form that EZ_DB_KEYS and EZ_SYNC_KEYS take.
func NewKey(id string) string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return id + ":" + base64.StdEncoding.EncodeToString(key)
}

// NewToken makes a token of the form that EZ_ADMIN_TOKEN takes.
func NewToken() string { return rand.Text() + rand.Text() }

// An API is the HTTP surface as one caller sees it.
type API struct{ URL, Token string }

// Call sends a request, checks the status, and reads the answer into out
// unless that is nil.
func (a API) Call(t T, method, path string, body any, status int, out any) http.Header {
	t.Helper()
	resp := a.Send(t, method, path, body)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d\n%s", method, path, resp.StatusCode, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			t.Fatalf("%s %s: %v\n%s", method, path, err, answer)
		}
	}
	return resp.Header
}

// Send sends a request; the caller closes the answer's body.
func (a API) Send(t T, method, path string, body any) *http.Response {
	t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, a.URL+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if a.Token != "" {
		req.Header.Set("Authorization", "Bearer "+a.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// Eventually waits until a condition holds, and returns how long that took.
func Eventually(t T, limit time.Duration, what string, condition func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !condition() {
		if time.Since(begin) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(500 * time.Microsecond)
	}
	return time.Since(begin)
}

// FreePort returns a port of this machine that nobody listens on.
func FreePort(t T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
