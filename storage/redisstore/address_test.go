package redisstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// opened is what a client was opened with.
type opened struct {
	Kind                   string
	Addrs                  []string
	Master                 string
	User, Password         string
	SentinelUser           string
	SentinelPassword       string
	DB                     int
	Name                   string
	PoolSize, MaxRetries   int
	ReadTimeout, Reload    time.Duration
	TLS, SkipVerify, Named bool // Named: TLS insists on one server name
}

func inspect(t *testing.T, address string, opts *redisstore.OpenOptions) opened {
	t.Helper()
	client, err := redisstore.Open(address, opts)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	t.Cleanup(func() { _ = client.Close() })
	switch c := client.(type) {
	case *redis.ClusterClient:
		o := c.Options()
		got := opened{
			Kind: "cluster", Addrs: o.Addrs, User: o.Username, Password: o.Password, Name: o.ClientName,
			PoolSize: o.PoolSize, MaxRetries: o.MaxRetries, ReadTimeout: o.ReadTimeout, Reload: o.ClusterStateReloadInterval,
		}
		if o.TLSConfig != nil {
			got.TLS, got.SkipVerify, got.Named = true, o.TLSConfig.InsecureSkipVerify, o.TLSConfig.ServerName != ""
		}
		return got
	case *redis.Client:
		o := c.Options()
		got := opened{
			Kind: "node", Addrs: []string{o.Addr}, User: o.Username, Password: o.Password, DB: o.DB, Name: o.ClientName,
			PoolSize: o.PoolSize, MaxRetries: o.MaxRetries, ReadTimeout: o.ReadTimeout,
		}
		if o.TLSConfig != nil {
			got.TLS, got.SkipVerify, got.Named = true, o.TLSConfig.InsecureSkipVerify, o.TLSConfig.ServerName != ""
		}
		if o.Addr == "FailoverClient" {
			got.Kind, got.Addrs = "sentinel", nil
		}
		return got
	}
	t.Fatalf("%s opened a %T", address, client)
	return opened{}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	node := func(change func(o *opened)) opened {
		o := opened{
			Kind:        "node",
			Addrs:       []string{"h:6379"},
			PoolSize:    16,
			MaxRetries:  3,
			ReadTimeout: 5 * time.Second,
		}
		change(&o)
		return o
	}
	cluster := func(change func(o *opened)) opened {
		return node(func(o *opened) {
			o.Kind, o.Addrs, o.Reload, o.MaxRetries = "cluster", []string{"a:1", "b:6379"}, time.Second, -1
			o.ReadTimeout = time.Second
			change(o)
		})
	}
	for address, want := range map[string]opened{
		"h:6379":                        node(func(*opened) {}),
		" h:6379 ":                      node(func(*opened) {}),
		"[::1]:7":                       node(func(o *opened) { o.Addrs = []string{"[::1]:7"} }),
		"redis://[::1]":                 node(func(o *opened) { o.Addrs = []string{"[::1]:6379"} }),
		"redis://h":                     node(func(*opened) {}),
		"redis://h/":                    node(func(*opened) {}),
		"redis://:p%40%2C%3F%23@h":      node(func(o *opened) { o.Password = "p@,?#" }),
		"redis://u:p:q@h:6379/2":        node(func(o *opened) { o.User, o.Password, o.DB = "u", "p:q", 2 }),
		"redis://h?db=3&client_name=x":  node(func(o *opened) { o.DB, o.Name = 3, "x" }),
		"redis://h/3?db=3":              node(func(o *opened) { o.DB = 3 }),
		"rediss://h?skip_verify=true":   node(func(o *opened) { o.TLS, o.SkipVerify = true, true }),
		"rediss://h":                    node(func(o *opened) { o.TLS = true }),
		"redis://h?max_retries=-1":      node(func(o *opened) { o.MaxRetries = 0 }), // go-redis' way to say none
		"redis://h?read_timeout=700ms":  node(func(o *opened) { o.ReadTimeout = 700 * time.Millisecond }),
		"redis://h?pool_size=7":         node(func(o *opened) { o.PoolSize = 7 }),
		"a:1,redis://b":                 cluster(func(*opened) {}),
		"a:1,":                          cluster(func(o *opened) { o.Addrs = []string{"a:1"} }),
		"a:1, redis://u:p@b/0":          cluster(func(o *opened) { o.User, o.Password = "u", "p" }),
		"rediss://:p@a:1,rediss://:p@b": cluster(func(o *opened) { o.Password, o.TLS = "p", true }),
		"rediss+sentinel://u:p@a,b:9/m/2?sentinel_password=s": node(func(o *opened) {
			o.Kind, o.Addrs, o.User, o.Password, o.DB, o.TLS = "sentinel", nil, "u", "p", 2, true
		}),
	} {
		if diff := cmp.Diff(want, inspect(t, address, nil)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", address, diff)
		}
	}
	if name := inspect(t, "h:1", &redisstore.OpenOptions{Name: "host é 1"}).Name; name != "host---1" {
		t.Errorf("the client is named %q", name)
	}
}

// TestOpenRefuses: an error says what is wrong and what is right, and repeats nothing that may be a secret.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const leak = "hunter2"
	for address, want := range map[string]string{
		"":                                        "an address is host:port",
		leak:                                      "an address is host:port",
		"u:" + leak + "@h:1":                      "an address is host:port",
		"http://" + leak + "@h":                   "an address is host:port",
		"redis://u:" + leak + "#1@h":              "percent-encoded",
		"redis://u:%zz" + leak + "@h":             "percent-encoded",
		"redis://" + leak + "@h":                  "the user has no password",
		"redis://:" + leak + "@h:x":               "the port is a number from 1 to 65535",
		"h:65536":                                 "the port is a number from 1 to 65535",
		":6379":                                   "an address is host:port",
		"redis://h/1/2":                           "an address is host:port",
		"redis://:" + leak + "@a,redis://:q@b":    "two values for the option password",
		"redis://a,rediss://b":                    "either all addresses use TLS",
		"a:1,redis://:" + leak + "@h/3":           "the option db is not for a Cluster",
		"redis://h/many":                          "the option db must be a whole number from 0 to",
		"redis://h/-1":                            "the option db must be a whole number from 0 to",
		"redis://h/99999999999999999999":          "the option db must be a whole number from 0 to",
		"redis://h?pool_size=" + leak:             "the option pool_size must be a whole number from 2 to 10000",
		"redis://h?read_timeout=5":                "the option read_timeout must be a duration such as 500ms or 3s",
		"redis://h?pool_fifo=yes":                 "the option pool_fifo must be true or false",
		"redis://h?read_only=true":                "the option read_only is not allowed: everything is read from the master",
		"a:1,redis://b?route_by_latency=true":     "the option route_by_latency is not allowed",
		"redis://h?pool_timeuot=3s":               "the option pool_timeuot is not known; there are client_name, ",
		"redis://h?" + leak + "!%20%0A=3s":        "an option whose name is no name is not known",
		"redis://h?max_redirects=3":               "the option max_redirects is not for a single node",
		"redis://h?sentinel_password=" + leak:     "the option sentinel_password is not for a single node",
		"redis://h?skip_verify=true":              "the option skip_verify is of use only with TLS",
		"redis://h?db=1&db=2":                     "two values for the option db",
		"redis://h?a;b":                           "the options after ? cannot be read",
		"redis+sentinel://:" + leak + "@h":        "ends in the name of the master",
		"redis+sentinel://h/":                     "ends in the name of the master",
		"redis+sentinel://h/m/x":                  "the option db must be",
		"redis+sentinel://h/m?replica_only=true":  "the option replica_only is not allowed",
		"redis+sentinel://h:1,:2/m":               "an address is host:port",
		"gopher+sentinel://u:" + leak + "@h/main": "an address is host:port",
	} {
		client, err := redisstore.Open(address, nil)
		if client != nil || !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), leak) {
			t.Errorf("%s: the error repeats it: %v", address, err)
		}
	}
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	must(t, os.WriteFile(empty, []byte("no certificate"), 0o600))
	for _, c := range []struct{ address, file, want string }{
		{"h:1", empty, "the address does not use TLS: write rediss://"},
		{"rediss://h", empty, "holds no certificate in PEM form"},
		{"rediss://h", filepath.Join(dir, "none.pem"), "no such file"},
	} {
		_, err := redisstore.Open(c.address, &redisstore.OpenOptions{CAFile: c.file})
		if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: got %v, want %q", c.address, c.file, err, c.want)
		}
	}
}

// FuzzParseAddress: no input panics, and no error or shown address holds the password.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"h:1", "redis://u:sesame@h/1?db=1", "a:1,redis://:sesame@b",
		"redis+sentinel://:sesame@h,h:1/m/1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := redisstore.ParseAddress(text)
		if err != nil {
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := redisstore.ParseAddress(a.String())
		if err != nil || again.String() != a.String() {
			t.Fatalf("%q is shown as %q, which reads as %q, %v", text, a, again, err)
		}
	})
}

// TestClientLogsThroughSlog: the lines of go-redis do not stand as plain text in a JSON log.
func TestClientLogsThroughSlog(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	client, err := redisstore.Open("redis+sentinel://127.0.0.1:1/main?max_retries=-1", &redisstore.OpenOptions{
		Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	must(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		redis.SetLogger(quietRedis{})
	})
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Fatal("nobody answers there")
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for _, line := range lines {
		var entry struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil ||
			!strings.HasPrefix(entry.Msg, "redis client: ") {
			t.Errorf("the log has %q", line)
		}
	}
}

type quietRedis struct{}

func (quietRedis) Printf(context.Context, string, ...any) {}
