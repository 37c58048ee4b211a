package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// The types of settings. Each reads its variable with UnmarshalText, and says
// with an expectation what it should have been: never what it was, which may
// be a secret in the wrong place.

// An expectation completes the sentence that begins with the variable's name.
type expectation string

func (e expectation) Error() string { return string(e) }

type port int

func (p *port) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil && strings.HasPrefix(string(text), "tcp://") {
		return expectation("must be a port number, 0 to 65535; Kubernetes sets it to a URL for a Service that is " +
			"called ez-api, unless the pod has enableServiceLinks: false")
	}
	if err != nil {
		return expectation("must be a port number, 0 to 65535")
	}
	*p = port(n)
	return nil
}

type host string

var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func (h *host) UnmarshalText(text []byte) error {
	if _, err := netip.ParseAddr(string(text)); err != nil && !hostname.Match(text) {
		return expectation("must be an address or a host name, without a port")
	}
	*h = host(text)
	return nil
}

type postgresDSN string

func (d postgresDSN) set() bool { return d != "" }

func (d *postgresDSN) UnmarshalText(text []byte) error {
	text = bytes.TrimSpace(text)
	if _, err := pgxpool.ParseConfig(string(text)); err != nil {
		return expectation("must be a PostgreSQL connection string, postgres://user:password@host/database or host=… " +
			"user=… dbname=…" + dsnFault(err))
	}
	*d = postgresDSN(text)
	return nil
}

// dsnFault says what is wrong with a connection string, and nothing of what is in it but the names of
// files. A password may be in every other part of the driver's error: "invalid port \":word\" after host".
func dsnFault(err error) string {
	text := err.Error() // cannot parse `postgres://…`: what is wrong (why)
	what, why, _ := strings.Cut(text[strings.LastIndex(text, "`")+1:], " (")
	what, _, _ = strings.Cut(strings.TrimPrefix(what, ": "), ":")
	switch {
	case what == "":
		return ""
	case what == "failed to configure TLS":
		return "; in this one " + strings.TrimSuffix(why, ")")
	}
	return "; this one: " + what
}

// A logStore is a connection string of ClickHouse or PostgreSQL.
type logStore string

// clickHouseScheme begins the connection strings that are not PostgreSQL's.
const clickHouseScheme = "clickhouse://"

func (d logStore) set() bool        { return d != "" }
func (d logStore) clickHouse() bool { return strings.HasPrefix(string(d), clickHouseScheme) }

func (d *logStore) UnmarshalText(text []byte) error {
	store := logStore(bytes.TrimSpace(text))
	if store.clickHouse() {
		if err := chstore.ParseDSN(string(store)); err != nil {
			return expectation("is wrong: " + strings.TrimPrefix(err.Error(), "chstore: "))
		}
	} else if err := new(postgresDSN).UnmarshalText(text); err != nil {
		return expectation(err.Error() + "; or clickhouse://user:password@host:8123/database")
	}
	*d = store
	return nil
}

type listenDSN string

func (d *listenDSN) UnmarshalText(text []byte) error {
	if string(text) == pgstore.ListenNone {
		*d = listenDSN(text)
		return nil
	}
	if err := new(postgresDSN).UnmarshalText(text); err != nil {
		return expectation(err.Error() + "; or none")
	}
	*d = listenDSN(bytes.TrimSpace(text))
	return nil
}

type redisPrefix string

func (p *redisPrefix) UnmarshalText(text []byte) error {
	if err := redisstore.CheckPrefix(string(text)); err != nil {
		return expectation("must be 1 to 64 letters, digits, or any of _ . : -")
	}
	*p = redisPrefix(text)
	return nil
}

type count int

func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 100_000_000 {
		return expectation("must be a whole number, 1 to 100000000")
	}
	*c = count(n)
	return nil
}

type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 || v > time.Hour {
		return expectation("must be a duration such as 500ms or 1s, at most 1h")
	}
	*d = duration(v)
	return nil
}

// A keep is how long something stays that is not needed any more; 0 is not at all.
type keep time.Duration

// maxKeep is as old as an entry may be that is stored.
const maxKeep = 7 * 24 * time.Hour

// option returns the duration as the library wants it: negative for not at all.
func (k keep) option() time.Duration {
	if k == 0 {
		return -1
	}
	return time.Duration(k)
}

func (k *keep) UnmarshalText(text []byte) error {
	v, err := parseDays(string(text))
	if err != nil || v < 0 || v > maxKeep {
		return expectation("must be a duration such as 10m or 1h, at most 7d, or 0 for not at all")
	}
	*k = keep(v)
	return nil
}

// parseDays reads a duration that may be given in days.
func parseDays(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// A retention is a duration that may be given in days; 0 keeps all.
type retention time.Duration

func (r retention) days() float64 { return time.Duration(r).Hours() / 24 }

// forever returns the retention as the library wants it: negative for all.
func (r retention) forever() time.Duration {
	if r == 0 {
		return -1
	}
	return time.Duration(r)
}

func (r *retention) UnmarshalText(text []byte) error {
	v, err := parseDays(string(text))
	if err != nil || v < 0 {
		return expectation("must be a number of days such as 90d, a duration such as 72h, or 0 to keep all")
	}
	*r = retention(v)
	return nil
}

// A zone is a time zone by its IANA name.
type zone struct{ location *time.Location }

func (z *zone) UnmarshalText(text []byte) error {
	location, err := catalog.LoadZone(string(text))
	if err != nil {
		return expectation("must be the name of an IANA time zone such as Europe/Berlin")
	}
	z.location = location
	return nil
}

type durability logbuf.Durability

func (d *durability) UnmarshalText(text []byte) error {
	switch v := logbuf.Durability(text); v {
	case logbuf.Disk, logbuf.Memory:
		*d = durability(v)
		return nil
	}
	return expectation("must be disk or memory")
}

// A size is a number of bytes.
type size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

func (s *size) UnmarshalText(text []byte) error {
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 1 || n > (1<<50)/unit.bytes {
			break
		}
		*s = size(n * unit.bytes)
		return nil
	}
	return expectation("must be a size such as 512MiB or 1GiB")
}

// tokens are the bearer tokens of one role.
type tokens []string

// minToken keeps tokens out of reach of guessing.
const minToken = 32

func (t *tokens) UnmarshalText(text []byte) error {
	const want = expectation("must be a token of at least 32 printable characters without spaces, or a " +
		"comma-separated list of such")
	for item := range strings.SplitSeq(string(text), ",") {
		item = strings.TrimSpace(item)
		if len(item) < minToken || strings.ContainsFunc(item, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return want
		}
		*t = append(*t, item)
	}
	return nil
}

func (t tokens) String() string { return fmt.Sprintf("[%d tokens]", len(t)) }

type keyList []catalog.NamedKey

func (k *keyList) UnmarshalText(text []byte) error {
	keys, err := catalog.ParseKeyList(string(text))
	if err != nil {
		return expectation("must be id:base64(32 bytes)[,older…]: " + trimInvalid(err))
	}
	*k = keys
	return nil
}

// syncKeys are a key list, or explicitly none.
type syncKeys struct {
	none bool
	list keyList
}

func (k syncKeys) set() bool { return k.none || len(k.list) > 0 }

func (k *syncKeys) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		k.none = true
		return nil
	}
	keys, err := catalog.ParseKeyList(string(text))
	if err != nil {
		return expectation("must be none, or id:base64(32 bytes)[,older…]: " + trimInvalid(err))
	}
	k.list = keys
	return nil
}

// trimInvalid drops the sentinel's name from an error of package catalog,
// which holds no value.
func trimInvalid(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+catalog.ErrInvalid.Error())
}

// A toggle is a bool that knows whether it was given.
type toggle string

const (
	unset toggle = ""
	on    toggle = "true"
	off   toggle = "false"
)

func (t *toggle) UnmarshalText(text []byte) error {
	v, err := strconv.ParseBool(string(text))
	if err != nil {
		return expectation("must be true or false")
	}
	*t = toggle(strconv.FormatBool(v))
	return nil
}

type level slog.Level

func (l *level) UnmarshalText(text []byte) error {
	for name, v := range map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	} {
		if strings.EqualFold(string(text), name) {
			*l = level(v)
			return nil
		}
	}
	return expectation("must be debug, info, warn or error")
}

type format string

func (f *format) UnmarshalText(text []byte) error {
	switch string(text) {
	case "text", "json":
		*f = format(text)
		return nil
	}
	return expectation("must be text or json")
}

// address joins what the server listens on.
func (c *Config) address() string {
	return net.JoinHostPort(string(c.Addr), strconv.Itoa(int(c.Port)))
}

// alertURL is where alerts are posted. What it may be depends on other settings, see
// loader.checkAlerts.
type alertURL string

func (u alertURL) String() string {
	if u == "" {
		return ""
	}
	return "[url]" // it may hold a secret
}

// secret is a text that is shown nowhere.
type secret string

func (s secret) String() string {
	if s == "" {
		return ""
	}
	return "[secret]"
}
