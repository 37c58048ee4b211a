package server

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// A SettingError says which variable stops the start, and what it should be.
// It never holds the value.
type SettingError struct{ Name, Want string }

func (e *SettingError) Error() string { return e.Name + " " + e.Want }

// Faults are all that is wrong with an environment: a line for each variable.
type Faults []*SettingError

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns every fault, for errors.As.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, fault := range f {
		errs[i] = fault
	}
	return errs
}

// Load reads the configuration from an environment such as os.Environ gives.
// An empty variable counts as unset. unknown are the variables that begin with
// EZ_ and mean nothing, most likely misspelt; they are told even when there is
// an error, which is of type [Faults].
func Load(environ []string) (c *Config, unknown []string, err error) {
	c = &Config{}
	flags, err := settings(c)
	if err != nil {
		return nil, nil, err
	}
	l := &loader{config: c, env: variables(environ), given: map[string]bool{}}
	for _, flag := range flags {
		l.set(flag)
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		if !strings.HasPrefix(name, "EZ_TEST_") {
			unknown = append(unknown, name)
		}
	}
	l.require()
	l.complete()
	if len(l.faults) > 0 {
		return nil, unknown, l.faults
	}
	return c, unknown, nil
}

// loadOnly reads a few variables, for what asks about nothing else.
func loadOnly(environ []string, names ...string) (*Config, error) {
	c := &Config{}
	flags, err := settings(c)
	if err != nil {
		return nil, err
	}
	l := &loader{config: c, env: variables(environ), given: map[string]bool{}}
	for _, flag := range flags {
		if slices.Contains(names, flag.Envs[0]) {
			l.set(flag)
		}
	}
	if len(l.faults) > 0 {
		return nil, l.faults
	}
	return c, nil
}

// variables returns those of an environment that are meant for the server.
func variables(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "EZ_") {
			env[name] = value
		}
	}
	maps.DeleteFunc(env, func(_, value string) bool { return value == "" })
	return env
}

// A loader fills a Config and collects what is wrong on the way.
type loader struct {
	config *Config
	env    map[string]string // what nobody has asked for yet
	given  map[string]bool   // the variables that have a value, right or wrong
	faults Faults
}

func (l *loader) fault(name, want string) {
	l.faults = append(l.faults, &SettingError{name, want})
}

// wrong reports whether a fault of the variable is known already.
func (l *loader) wrong(name string) bool {
	return slices.ContainsFunc(l.faults, func(f *SettingError) bool {
		return f.Name == name || f.Name == name+"_FILE"
	})
}

// set gives a setting its value from the environment, or its default.
func (l *loader) set(flag *kong.Flag) {
	name := flag.Envs[0]
	text, ok := l.read(name, flag.Tag.Has("secret"))
	if !ok && !l.given[name] {
		text = flag.Default
	}
	if text == "" {
		return
	}
	err := flag.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text}), flag.Target)
	if want, ok := errors.AsType[expectation](err); ok {
		l.fault(name, string(want))
	} else if err != nil {
		l.fault(name, "cannot be read")
	}
}

// read returns the value of a variable. ok is false when it has none that can be used: it is not
// set, or a fault was noted.
func (l *loader) read(name string, maybeFile bool) (text string, ok bool) {
	text, ok = l.env[name]
	path, isFile := l.env[name+"_FILE"]
	isFile = isFile && maybeFile
	delete(l.env, name)
	if isFile {
		delete(l.env, name+"_FILE")
	}
	l.given[name] = ok || isFile
	switch {
	case ok && isFile:
		l.fault(name, "and "+name+"_FILE are both set: set one of them only")
		return "", false
	case ok && quoted(text):
		l.fault(name, quotes)
		return "", false
	case isFile && quoted(path):
		l.fault(name+"_FILE", quotes)
		return "", false
	case !isFile:
		return text, ok
	}
	content, err := os.ReadFile(path)
	if err != nil {
		l.fault(name+"_FILE", "must name a file that can be read: "+reason(err))
		return "", false
	}
	if text = strings.TrimSpace(string(content)); text == "" {
		l.fault(name+"_FILE", "names an empty file")
	}
	return text, text != ""
}

// quotes is what is wrong with a value that is quoted. A shell takes the quotes away, docker's
// --env-file does not.
const quotes = "has quotation marks around its value, which are part of it (docker's --env-file keeps them): " +
	"remove them"

func quoted(text string) bool {
	return len(text) > 1 && (text[0] == '"' || text[0] == '\'') && text[0] == text[len(text)-1]
}

// reason returns what is wrong with a file, without its name.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// require notes which variables are missing, or are of no use.
func (l *loader) require() {
	embedded := !l.given["EZ_PG_DSN"]
	if embedded && l.given["EZ_PG_LISTEN_DSN"] {
		l.fault("EZ_PG_LISTEN_DSN", "is of use only together with EZ_PG_DSN")
	}
	for _, required := range []struct{ name, want string }{
		{"EZ_REDIS_ADDR", "host:port of Redis, or embedded for the in-process one"},
		{"EZ_ADMIN_TOKEN", "a secret of at least 32 characters (openssl rand -hex 32)"},
		{"EZ_DB_KEYS", "id:base64(32 bytes), which seals provider secrets " +
			"(echo k1:$(openssl rand -base64 32))"},
	} {
		if !embedded && !l.given[required.name] {
			l.fault(required.name, "is required with EZ_PG_DSN: "+required.want)
		}
	}
	external := (l.given["EZ_REDIS_ADDR"] || !embedded) && !l.config.Redis.embedded
	if external && !l.given["EZ_SYNC_KEYS"] {
		l.fault("EZ_SYNC_KEYS", "is required with an external Redis: id:base64(32 bytes) shared with balancers "+
			"(echo s1:$(openssl rand -base64 32)), or none for provider secrets in clear text")
	}
}

// complete sets the defaults that depend on other settings, and notes what does not fit together.
func (l *loader) complete() {
	c := l.config
	if c.Addr == "" {
		c.Addr = "0.0.0.0"
		if c.Embedded() {
			c.Addr = "127.0.0.1"
		}
	}
	if c.AllowPrivateUpstreams == unset {
		c.AllowPrivateUpstreams = off
		if c.Embedded() && c.Addr.loopback() {
			c.AllowPrivateUpstreams = on
		}
	}
	if c.LogSpoolMax < 1<<20 && !l.wrong("EZ_LOG_SPOOL_MAX") {
		l.fault("EZ_LOG_SPOOL_MAX", "must be at least 1MiB")
	}
	if c.LogRetention.days() > 0 && c.LogRetention.days() < 2 {
		l.fault("EZ_LOG_RETENTION", "must be at least 2d, or 0 to keep all")
	}
	if c.UsageRetention.days() > 0 && c.UsageRetention.days() < 32 {
		l.fault("EZ_USAGE_RETENTION", "must be at least 32d, or 0 to keep all: what one server drops is gone for all")
	}
	l.checkRedisCA()
	l.checkAlerts()
	l.checkIdentityProvider()
	l.checkRoles()
}

// checkRedisCA reads the certificates by making a client that is not used.
func (l *loader) checkRedisCA() {
	c := l.config
	switch {
	case c.RedisCA == "" || l.wrong("EZ_REDIS_CA") || l.wrong("EZ_REDIS_ADDR"):
	case c.EmbeddedRedis():
		l.fault("EZ_REDIS_CA", "is of use only for a Redis with TLS: set EZ_REDIS_ADDR to its rediss:// address")
	default:
		client, err := c.Redis.address.Open(&redisstore.OpenOptions{CAFile: c.RedisCA})
		if err != nil {
			l.fault("EZ_REDIS_CA", "is wrong: "+strings.TrimPrefix(trimInvalid(err), "redisstore: "))
			return
		}
		_ = client.Close() // it was never connected
	}
}

// checkAlerts makes the webhook that alerts are delivered by.
func (l *loader) checkAlerts() {
	c := l.config
	switch {
	case l.wrong("EZ_ALERT_URL"):
	case c.AlertURL == "" && c.AlertSecret != "":
		l.fault("EZ_ALERT_SECRET", "is of use only together with EZ_ALERT_URL")
	case c.AlertURL != "":
		if _, err := c.webhook(); err != nil {
			l.fault("EZ_ALERT_URL", strings.TrimPrefix(trimInvalid(err), "url "))
		}
	}
}

// checkIdentityProvider makes the one that people sign in through, which asks it nothing yet.
func (l *loader) checkIdentityProvider() {
	for _, name := range []string{"EZ_OIDC_CLIENT_ID", "EZ_OIDC_CLIENT_SECRET", "EZ_OIDC_CLAIM", "EZ_OIDC_REDIRECT_URL"} {
		if l.given[name] && !l.given["EZ_OIDC_ISSUER"] {
			l.fault(name, "is of use only together with EZ_OIDC_ISSUER")
		}
	}
	_, err := l.config.identityProvider()
	if errs, ok := errors.AsType[catalog.FieldErrors](err); ok {
		for _, e := range errs {
			l.fault("EZ_OIDC_"+strings.ToUpper(e.Field), e.Message)
		}
	}
}

// checkRoles notes a token that has two roles: one of them would win by accident.
func (l *loader) checkRoles() {
	seen := map[string]bool{}
	for _, role := range []struct {
		name   string
		tokens tokens
	}{
		{"EZ_ADMIN_TOKEN", l.config.AdminTokens},
		{"EZ_VIEWER_TOKEN", l.config.ViewerTokens},
		{"EZ_BALANCER_TOKEN", l.config.BalancerTokens},
	} {
		for _, t := range role.tokens {
			if seen[t] && !l.wrong(role.name) {
				l.fault(role.name, "holds a token that is listed already: each token has one role")
			}
			seen[t] = true
		}
	}
}

// loopback reports whether only this machine reaches the address.
func (h host) loopback() bool {
	addr, err := netip.ParseAddr(string(h))
	return err == nil && addr.IsLoopback() || h == "localhost"
}
