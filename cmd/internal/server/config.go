package server

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Config is the environment of the server: every field is one variable. The
// comments are what -help prints.
type Config struct {
	Port port `env:"EZ_API_PORT" default:"8080" help:"Listening port; 0 takes a free one."`
	Addr host `env:"EZ_API_ADDR" help:"Listening address. 127.0.0.1 when embedded, 0.0.0.0 with PostgreSQL."`

	Postgres       postgresDSN `env:"EZ_PG_DSN" secret:"" help:"PostgreSQL connection string. Unset: an SQLite file in EZ_DATA_DIR."`
	PostgresListen listenDSN   `env:"EZ_PG_LISTEN_DSN" secret:"" help:"Connection string for LISTEN where EZ_PG_DSN leads through a pooler, or none to poll. Defaults to EZ_PG_DSN."`
	Redis          redisAddr   `env:"EZ_REDIS_ADDR" secret:"" help:"host:port, a redis:// or rediss:// URL, a comma-separated list for Cluster, redis+sentinel://host:port/master, or embedded. Unset without PostgreSQL: embedded."`
	RedisCA        string      `env:"EZ_REDIS_CA" help:"File of the certificates that sign those of Redis. Unset: the system's."`
	RedisPrefix    redisPrefix `env:"EZ_REDIS_PREFIX" default:"ezapi" help:"Hash tag of all keys in Redis."`
	DataDir        string      `env:"EZ_DATA_DIR" default:"./ezapi-data" help:"Directory of the SQLite file and the generated secrets."`

	LogQueue         count      `env:"EZ_LOG_QUEUE" default:"100000" help:"Log entries that may be pending in memory, or wait for the disk; beyond it POST /logs answers 429."`
	LogBatchSize     count      `env:"EZ_LOG_BATCH_SIZE" default:"5000" help:"Log entries per database transaction, at most."`
	LogFlushInterval duration   `env:"EZ_LOG_FLUSH_INTERVAL" default:"1s" help:"Longest that a log entry waits for its batch to fill."`
	LogDurability    durability `env:"EZ_LOG_DURABILITY" default:"disk" help:"disk or memory: what an accepted log entry survives."`
	LogSpoolMax      size       `env:"EZ_LOG_SPOOL_MAX" default:"1GiB" help:"Capacity of the log spool on disk."`
	LogRetention     retention  `env:"EZ_LOG_RETENTION" default:"90d" help:"Older log entries are dropped; at least 2d, 0 keeps all."`
	ChangesRetention retention  `env:"EZ_CHANGES_RETENTION" default:"90d" help:"Older entries of the change feed are dropped; 0 keeps all."`

	AdminTokens    tokens   `env:"EZ_ADMIN_TOKEN" secret:"" help:"Tokens of the admin role, at least 32 characters each, comma-separated while rotating. Generated when embedded."`
	ViewerTokens   tokens   `env:"EZ_VIEWER_TOKEN" secret:"" help:"Tokens of the viewer role."`
	BalancerTokens tokens   `env:"EZ_BALANCER_TOKEN" secret:"" help:"Tokens of the balancer role."`
	DBKeys         keyList  `env:"EZ_DB_KEYS" secret:"" help:"Keys that seal provider secrets in the database, id:base64(32 bytes)[,older]. Generated when embedded."`
	SyncKeys       syncKeys `env:"EZ_SYNC_KEYS" secret:"" help:"Keys that seal secrets in Redis and sign what is published, shared with balancers, or none for clear text."`

	AllowPrivateUpstreams toggle `env:"EZ_ALLOW_PRIVATE_UPSTREAMS" help:"Accept providers at plain http and private addresses. true when embedded, else false."`

	LogLevel  level  `env:"EZ_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
	LogFormat format `env:"EZ_LOG_FORMAT" help:"text or json. text on a terminal, else json."`
}

// Embedded reports whether the catalog is an SQLite file.
func (c *Config) Embedded() bool { return !c.Postgres.set() }

// EmbeddedRedis reports whether Redis runs in this process.
func (c *Config) EmbeddedRedis() bool { return c.Redis.embedded || !c.Redis.set() }

// A SettingError says which variable stops the start, and what it should be.
// It never holds the value.
type SettingError struct{ Name, Want string }

func (e *SettingError) Error() string { return e.Name + " " + e.Want }

// Load reads the configuration from an environment such as os.Environ gives.
// An empty variable counts as unset. unknown are the variables that begin with
// EZ_ and mean nothing, most likely misspelt.
func Load(environ []string) (c *Config, unknown []string, err error) {
	c = &Config{}
	flags, err := settings(c)
	if err != nil {
		return nil, nil, err
	}
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "EZ_") {
			env[name] = value
		}
	}
	maps.DeleteFunc(env, func(_, value string) bool { return value == "" })
	for _, flag := range flags {
		if err := set(flag, env); err != nil {
			return nil, nil, err
		}
	}
	if err := c.complete(); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, "EZ_TEST_") {
			unknown = append(unknown, name)
		}
	}
	return c, unknown, nil
}

// settings returns what kong reads off the fields of c.
func settings(c *Config) ([]*kong.Flag, error) {
	parser, err := kong.New(c, kong.NoDefaultHelp())
	if err != nil {
		return nil, err
	}
	return parser.Model.Flags, nil
}

// set gives a setting its value from env, or its default, and takes what it
// has read out of env.
func set(flag *kong.Flag, env map[string]string) error {
	name := flag.Envs[0]
	text, ok := env[name]
	delete(env, name)
	if flag.Tag.Has("secret") {
		path, isFile := env[name+"_FILE"]
		delete(env, name+"_FILE")
		switch {
		case isFile && ok:
			return &SettingError{name, "and " + name + "_FILE are both set: one of them, please"}
		case isFile:
			content, err := os.ReadFile(path)
			if err != nil {
				return &SettingError{name + "_FILE", "must name a file that can be read: " + reason(err)}
			}
			if text = strings.TrimSpace(string(content)); text == "" {
				return &SettingError{name + "_FILE", "names an empty file"}
			}
			ok = true
		}
	}
	if !ok {
		if text = flag.Default; text == "" {
			return nil
		}
	}
	err := flag.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text}), flag.Target)
	if err == nil {
		return nil
	}
	if want, ok := errors.AsType[expectation](err); ok {
		return &SettingError{name, string(want)}
	}
	return &SettingError{name, "cannot be read"}
}

// reason returns what is wrong with a file, without its name.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// complete sets the defaults that depend on other settings, and checks that
// what is required is there.
func (c *Config) complete() error {
	if c.Embedded() {
		if c.PostgresListen.set() {
			return &SettingError{"EZ_PG_LISTEN_DSN", "is of use only together with EZ_PG_DSN"}
		}
	} else {
		for _, required := range []struct {
			name string
			set  bool
			want string
		}{
			{"EZ_REDIS_ADDR", c.Redis.set() || c.Redis.embedded, "host:port of Redis, or embedded for the in-process one"},
			{"EZ_ADMIN_TOKEN", len(c.AdminTokens) > 0, "a secret of at least 32 characters (openssl rand -hex 32)"},
			{"EZ_DB_KEYS", len(c.DBKeys) > 0, "id:base64(32 bytes), which seals provider secrets (echo k1:$(openssl rand -base64 32))"},
		} {
			if !required.set {
				return &SettingError{required.name, "is required with EZ_PG_DSN: " + required.want}
			}
		}
	}
	if !c.EmbeddedRedis() && !c.SyncKeys.set() {
		return &SettingError{"EZ_SYNC_KEYS", "is required with an external Redis: id:base64(32 bytes) shared with balancers (echo s1:$(openssl rand -base64 32)), or none for provider secrets in clear text"}
	}
	if c.Addr == "" {
		c.Addr = "0.0.0.0"
		if c.Embedded() {
			c.Addr = "127.0.0.1"
		}
	}
	if c.AllowPrivateUpstreams == unset {
		c.AllowPrivateUpstreams = off
		if c.Embedded() {
			c.AllowPrivateUpstreams = on
		}
	}
	if c.LogRetention.days() > 0 && c.LogRetention.days() < 2 {
		return &SettingError{"EZ_LOG_RETENTION", "must be at least 2d, or 0 to keep all"}
	}
	return c.disjoint()
}

// disjoint refuses a token that has two roles: one of them would win by
// accident.
func (c *Config) disjoint() error {
	seen := map[string]bool{}
	for _, role := range []struct {
		name   string
		tokens tokens
	}{{"EZ_ADMIN_TOKEN", c.AdminTokens}, {"EZ_VIEWER_TOKEN", c.ViewerTokens}, {"EZ_BALANCER_TOKEN", c.BalancerTokens}} {
		for _, t := range role.tokens {
			if seen[t] {
				return &SettingError{role.name, "holds a token that is listed already: each token has one role"}
			}
			seen[t] = true
		}
	}
	return nil
}

// Usage describes the settings, a paragraph each.
func Usage() (string, error) {
	flags, err := settings(&Config{})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("EZ-API, the control plane of an AI gateway. It takes its settings from the environment:\n\n")
	for _, f := range flags {
		name := f.Envs[0]
		if f.Default != "" {
			name += "=" + f.Default
		}
		fmt.Fprintf(&b, "  %s\n      %s", name, f.Help)
		if f.Tag.Has("secret") {
			fmt.Fprintf(&b, " Or %s_FILE.", f.Envs[0])
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}
