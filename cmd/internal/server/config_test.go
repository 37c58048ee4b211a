package server

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/logbuf"
)

var (
	goodToken = strings.Repeat("t", 32)
	goodKey   = "k1:" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	goodDSN   = "postgres://ez:hunter2@db.example:5432/ez"
)

// withPostgres is the least that a server with PostgreSQL and Redis needs.
func withPostgres(more ...string) []string {
	return append([]string{
		"EZ_PG_DSN=" + goodDSN, "EZ_REDIS_ADDR=redis.example:6379", "EZ_ADMIN_TOKEN=" + goodToken,
		"EZ_DB_KEYS=" + goodKey, "EZ_SYNC_KEYS=" + goodKey,
	}, more...)
}

func mustLoad(t *testing.T, environ ...string) *Config {
	t.Helper()
	c, _, err := Load(environ)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func TestEmptyEnvironmentIsEmbedded(t *testing.T) {
	c := mustLoad(t, "HOME=/root", "EZ_PG_DSN=") // empty is unset
	if !c.Embedded() || !c.EmbeddedRedis() || c.AllowPrivateUpstreams != on {
		t.Errorf("not embedded: %+v", c)
	}
	if got := c.address(); got != "127.0.0.1:8080" {
		t.Errorf("address %s", got)
	}
	if c.RedisPrefix != "ezapi" || c.DataDir != "./ezapi-data" || c.LogQueue != 100000 || c.LogBatchSize != 5000 ||
		c.LogQueryConns != 4 ||
		time.Duration(c.LogFlushInterval) != time.Second || logbuf.Durability(c.LogDurability) != logbuf.Disk ||
		c.LogSpoolMax != 1<<30 || c.LogSpoolKeep.option() != 10*time.Minute || c.LogRetention.days() != 90 ||
		c.ChangesRetention.days() != 90 || slog.Level(c.LogLevel) != slog.LevelInfo {
		t.Errorf("defaults are not those of the contract: %+v", c)
	}
}

func TestPostgresDefaults(t *testing.T) {
	c := mustLoad(t, withPostgres()...)
	if c.Embedded() || c.EmbeddedRedis() || c.AllowPrivateUpstreams != off {
		t.Errorf("embedded: %+v", c)
	}
	if got := c.address(); got != "0.0.0.0:8080" {
		t.Errorf("address %s", got)
	}
	c = mustLoad(t, "EZ_PG_DSN=host=localhost dbname=ez", "EZ_REDIS_ADDR=embedded", "EZ_ADMIN_TOKEN="+goodToken,
		"EZ_DB_KEYS="+goodKey)
	if !c.EmbeddedRedis() {
		t.Error("EZ_REDIS_ADDR=embedded is not embedded")
	}
}

func TestSettings(t *testing.T) {
	c := mustLoad(t, withPostgres(
		"EZ_API_PORT=0", "EZ_API_ADDR=::1", "EZ_PG_LISTEN_DSN=none", "EZ_REDIS_PREFIX=a.b", "EZ_LOG_QUEUE=7",
		"EZ_LOG_FLUSH_INTERVAL=20ms",
		"EZ_LOG_DURABILITY=memory", "EZ_LOG_SPOOL_MAX=512 MiB", "EZ_LOG_SPOOL_KEEP=0", "EZ_LOG_RETENTION=72h",
		"EZ_CHANGES_RETENTION=0",
		"EZ_VIEWER_TOKEN="+strings.Repeat("v", 32)+", "+strings.Repeat("w", 40), "EZ_LOG_LEVEL=WARN", "EZ_LOG_FORMAT=json",
		"EZ_ALLOW_PRIVATE_UPSTREAMS=1", "EZ_SYNC_KEYS=none",
	)...)
	for name, got := range map[string]bool{
		"address": c.address() == "[::1]:0", "listen": c.PostgresListen == "none", "prefix": c.RedisPrefix == "a.b",
		"queue": c.LogQueue == 7,
		"flush": time.Duration(c.LogFlushInterval) == 20*time.Millisecond, "durability": c.LogDurability == "memory",
		"spool": c.LogSpoolMax == 512<<20, "spool keep": c.LogSpoolKeep.option() < 0,
		"log retention": c.LogRetention.days() == 3, "changes retention": c.ChangesRetention.forever() < 0,
		"viewers": len(c.ViewerTokens) == 2, "level": slog.Level(
			c.LogLevel) == slog.LevelWarn, "format": c.LogFormat == "json",
		"private": c.AllowPrivateUpstreams == on, "sync keys": c.SyncKeys.none && c.SyncKeys.set(),
	} {
		if !got {
			t.Errorf("%s is wrong: %+v", name, c)
		}
	}
}

func TestHealthRules(t *testing.T) {
	if c := mustLoad(t, "EZ_HEALTH=off"); !c.Health.Disabled {
		t.Error("off does not turn it off")
	}
	c := mustLoad(t, "EZ_HEALTH=window=1m, slot=2s,first_hold=3s,longest_hold=4s,longest_rate=5s,"+
		"probe_every=6s,interval=700ms,attempts=8,percent=9,successes=10,probe=11")
	want := healthRules{
		Window: time.Minute, Slot: 2 * time.Second, FirstHold: 3 * time.Second, LongestHold: 4 * time.Second,
		LongestRate: 5 * time.Second, ProbeEvery: 6 * time.Second, Interval: 700 * time.Millisecond,
		Attempts: 8, Percent: 9, Successes: 10, Probe: 11,
	}
	if diff := cmp.Diff(want, c.Health); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRedisAddr(t *testing.T) {
	for text, shown := range map[string]string{
		"redis:6379":                      "redis:6379",
		"redis://u:p@h:1/2":               "h:1",
		"rediss://u:p@a,rediss://u:p@b:2": "rediss://a:6379,rediss://b:2",
		"redis+sentinel://:p@a,b/main":    "redis+sentinel://a:26379,b:26379/main",
	} {
		var a redisAddr
		if err := a.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := a.address.String(); got != shown || !a.given {
			t.Errorf("%s is shown as %s, want %s", text, got, shown)
		}
	}
	var a redisAddr
	err := a.UnmarshalText([]byte("redis://h:1/?read_only=true"))
	if err == nil || !strings.HasPrefix(err.Error(), "is wrong: the option read_only is not allowed") {
		t.Errorf("an option that is refused: %v", err)
	}
}

func TestWrongValueNamesItsVariable(t *testing.T) {
	const leak = "hunter2hunter2" // is in every value, and must be in no error
	for name, values := range map[string][]string{
		"EZ_API_PORT":      {leak, "65536", "-1", "80.5", "tcp://10.0.0.1:80"},
		"EZ_API_ADDR":      {leak + ":80", "a b", "-" + leak},
		"EZ_PG_DSN":        {"postgres://u:" + leak + "@h:port/db", "host=h port=" + leak},
		"EZ_PG_LISTEN_DSN": {"postgres://u:" + leak + "@h:port/db"},
		"EZ_LOG_STORE": {
			"clickhouse://", "clickhouse://u:" + leak + "@h:9000/", "clickhouse://u:" + leak + "@h?x=" + leak,
			"clickhouse://u:" + leak + "@h:x/", "http://u:" + leak + "@h", "postgres://u:" + leak + "@h:port/db",
		},
		"EZ_REDIS_ADDR": {
			leak, "http://" + leak + "@h", "redis://:" + leak + "@h:x", "a:1,redis://:" + leak + "@h/3", ":6379",
			"redis+sentinel://u:" + leak + "@h",
			"embedded://", "embedded://" + leak, "embedded://h", "embedded://h:70000", "embedded://u:" + leak + leak + "@h:1",
			"embedded://:" + leak + "@h:1", "embedded://h:1/0", "embedded://h:1?" + leak,
		},
		"EZ_REDIS_CA":           {"/" + leak},
		"EZ_REDIS_PREFIX":       {"{" + leak + "}", strings.Repeat("a", 65)},
		"EZ_LOG_QUEUE":          {leak, "0", "-5"},
		"EZ_LOG_BATCH_SIZE":     {leak, "0", "1e3"},
		"EZ_BUDGET_INTERVAL":    {leak, "1", "0s", "-1s", "2h"},
		"EZ_LOG_FLUSH_INTERVAL": {leak, "1", "0s", "-1s", "2h"},
		"EZ_LOG_DURABILITY":     {leak, "DISK"},
		"EZ_LOG_SPOOL_MAX":      {leak, "0", "1", "1023KiB", "1GB", "-1MiB", "9999999TiB"},
		"EZ_LOG_SPOOL_KEEP":     {leak, "8d", "-1s", "169h", "999999d"},
		"EZ_LOG_RETENTION":      {leak, "1d", "47h", "-3d"},
		"EZ_USAGE_RETENTION":    {leak, "1s", "4h", "31d", "-400d"},
		"EZ_CHANGES_RETENTION":  {leak, "-1h", "1.5d"},
		"EZ_ADMIN_TOKEN":        {leak, strings.Repeat("t", 31), goodToken + ",", leak + " " + goodToken},
		"EZ_VIEWER_TOKEN":       {leak},
		"EZ_BALANCER_TOKEN":     {leak, goodToken}, // the admin's
		"EZ_DB_KEYS": {leak, "k1:" + leak, goodKey + "," + goodKey,
			"k1:" + base64.StdEncoding.EncodeToString([]byte(leak))},
		"EZ_SYNC_KEYS":               {leak, "k1:" + leak},
		"EZ_ALLOW_PRIVATE_UPSTREAMS": {leak, "yes"},
		"EZ_ALERT_URL": {leak, "http://hooks.example.com/" + leak, "https://10.0.0.1/",
			"https://" + leak + "@hooks.example.com/",
			"https://hooks.example.com/?format=" + leak},
		"EZ_ALERT_SECRET":   {leak}, // without an address
		"EZ_OIDC_CLIENT_ID": {leak}, // without an issuer
		"EZ_OIDC_CLAIM":     {leak},
		"EZ_HEALTH": {leak, "off," + leak, leak + "=1s", "first_hold=" + leak, "first_hold=1ms",
			"attempts=0", "attempts=1.5", "percent=101", "attempts=10,", "=", "models"},
		"EZ_LOG_LEVEL":  {leak, "loud"},
		"EZ_LOG_FORMAT": {leak, "xml"},
	} {
		for _, value := range values {
			environ := append(withPostgres(), name+"="+value) // the last of a name counts
			_, _, err := Load(environ)
			wrong, ok := errors.AsType[*SettingError](err)
			if !ok {
				t.Errorf("%s=%s: %v, want a SettingError", name, value, err)
				continue
			}
			if wrong.Name != name {
				t.Errorf("%s=%s: names %s", name, value, wrong.Name)
			}
			if text := err.Error(); name != "EZ_REDIS_CA" && strings.Contains(text, leak) || strings.Contains(text, "\n") ||
				len(text) < len(name)+10 {
				t.Errorf("%s=%s: the message is %q", name, value, text)
			}
		}
	}
}

func TestRequiredVariables(t *testing.T) {
	for _, name := range []string{"EZ_REDIS_ADDR", "EZ_ADMIN_TOKEN", "EZ_DB_KEYS", "EZ_SYNC_KEYS"} {
		_, _, err := Load(withPostgres(name + "="))
		wrong, ok := errors.AsType[*SettingError](err)
		if !ok || wrong.Name != name || !strings.Contains(wrong.Want, "is required with") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, _, err := Load([]string{"EZ_REDIS_ADDR=h:1"}); err == nil || !strings.HasPrefix(err.Error(), "EZ_SYNC_KEYS ") {
		t.Errorf("an external Redis beside SQLite: %v", err)
	}
	if _, _, err := Load([]string{"EZ_PG_LISTEN_DSN=none"}); err == nil ||
		!strings.HasPrefix(err.Error(), "EZ_PG_LISTEN_DSN ") {
		t.Errorf("a listener without PostgreSQL: %v", err)
	}
}

func redisPassword(t *testing.T, c *Config) string {
	client, err := c.Redis.address.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	return client.(*redis.Client).Options().Password
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secrets := map[string]string{
		"EZ_PG_DSN": goodDSN, "EZ_PG_LISTEN_DSN": goodDSN, "EZ_LOG_STORE": "clickhouse://u:p@h/logs",
		"EZ_REDIS_ADDR": "redis://:p@h:6379", "EZ_ADMIN_TOKEN": goodToken,
		"EZ_VIEWER_TOKEN": strings.Repeat("v", 32), "EZ_BALANCER_TOKEN": strings.Repeat("b",
			32), "EZ_DB_KEYS": goodKey, "EZ_SYNC_KEYS": goodKey,
	}
	var environ []string
	for name, value := range secrets {
		environ = append(environ, name+"_FILE="+file(name, value+"\n"))
	}
	c, unknown, err := Load(environ)
	if err != nil || len(unknown) > 0 {
		t.Fatalf("Load: %v, unknown %v", err, unknown)
	}
	if string(c.Postgres) != goodDSN || !c.LogStore.clickHouse() ||
		c.AdminTokens[0] != goodToken || redisPassword(t, c) != "p" ||
		len(c.SyncKeys.list) != 1 {
		t.Errorf("the files were not read: %+v", c)
	}

	for name, environ := range map[string][]string{
		"EZ_ADMIN_TOKEN_FILE": {"EZ_ADMIN_TOKEN_FILE=" + filepath.Join(dir, "none")},
		"EZ_DB_KEYS_FILE":     {"EZ_DB_KEYS_FILE=" + file("empty", "\n")},
		"EZ_SYNC_KEYS":        {"EZ_SYNC_KEYS=" + goodKey, "EZ_SYNC_KEYS_FILE=" + file("both", goodKey)},
		"EZ_VIEWER_TOKEN":     {"EZ_VIEWER_TOKEN_FILE=" + file("short", "secret-but-short")},
	} {
		_, _, err := Load(environ)
		wrong, ok := errors.AsType[*SettingError](err)
		if !ok || wrong.Name != name || strings.Contains(err.Error(), "secret-but-short") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownVariablesAreTold(t *testing.T) {
	_, unknown, err := Load([]string{"EZ_REDIS_ADRR=h:1", "EZ_API_PORT_FILE=x", "EZ_TEST_PG_DSN=y", "OTHER=z"})
	if diff := cmp.Diff([]string{"EZ_API_PORT_FILE", "EZ_REDIS_ADRR"}, unknown); err != nil || diff != "" {
		t.Errorf("unknown (-want +got, %v):\n%s", err, diff)
	}
}

func TestUsageNamesEverySetting(t *testing.T) {
	text, err := Usage()
	if err != nil {
		t.Fatal(err)
	}
	flags, err := settings(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	if len(flags) != 38 {
		t.Errorf("%d settings", len(flags))
	}
	for _, f := range flags {
		if !strings.Contains(text, f.Envs[0]) || f.Help == "" {
			t.Errorf("%s is not described", f.Envs[0])
		}
	}
}

// TestEverythingWrongIsToldAtOnce has one fault of each kind.
func TestEverythingWrongIsToldAtOnce(t *testing.T) {
	_, unknown, err := Load([]string{
		"EZ_API_PORT=many", "EZ_PG_DSN='postgres://ez@h/ez'", "EZ_LOG_RETENTION=1d", "EZ_VIEWER_TOKEN_FILE=/nowhere/at/all",
		"EZ_BALANCER_TOKEN=short", "EZ_REDIS_ADRR=h:1", "EZ_DB_KEYS=" + goodKey, "EZ_DB_KEYS_FILE=/also/here",
		"EZ_LOG_FORMAT=xml",
	})
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("Load: %v, want Faults", err)
	}
	var names []string
	for _, f := range faults {
		names = append(names, f.Name)
	}
	want := []string{
		"EZ_API_PORT", "EZ_PG_DSN", "EZ_VIEWER_TOKEN_FILE", "EZ_BALANCER_TOKEN", "EZ_DB_KEYS", "EZ_LOG_FORMAT",
		"EZ_REDIS_ADDR", "EZ_ADMIN_TOKEN", "EZ_SYNC_KEYS", "EZ_LOG_RETENTION",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if strings.Count(err.Error(), "\n") != len(want)-1 {
		t.Errorf("not a line for each:\n%v", err)
	}
	if diff := cmp.Diff([]string{"EZ_REDIS_ADRR"}, unknown); diff != "" {
		t.Errorf("unknown (-want +got):\n%s", diff)
	}
}

func TestQuotesAreRecognised(t *testing.T) {
	for _, entry := range []string{
		`EZ_PG_DSN="postgres://ez@h/ez"`, `EZ_ADMIN_TOKEN='` + goodToken + `'`, `EZ_LOG_LEVEL="info"`, `EZ_DATA_DIR="/data"`,
		`EZ_SYNC_KEYS=""`, `EZ_DB_KEYS_FILE="/run/secrets/db"`,
	} {
		name, _, _ := strings.Cut(entry, "=")
		_, _, err := Load(append(withPostgres("EZ_DB_KEYS="), entry))
		wrong, ok := errors.AsType[*SettingError](err)
		if !ok || wrong.Name != name || !strings.Contains(wrong.Want, "quotation marks") {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if c := mustLoad(t, withPostgres(`EZ_PG_DSN=host=h password='a b'`)...); c.Postgres == "" {
		t.Error("quotes within a value are refused")
	}
}

func TestEmbeddedRedisAddress(t *testing.T) {
	c := mustLoad(t, "EZ_REDIS_ADDR=embedded://:0123456789abcdef@0.0.0.0:6380")
	if !c.EmbeddedRedis() || c.Redis.listen != "0.0.0.0:6380" || c.Redis.password != "0123456789abcdef" {
		t.Errorf("%+v", c.Redis)
	}
	c = mustLoad(t, "EZ_REDIS_ADDR=embedded://[::1]:6380")
	if !c.EmbeddedRedis() || c.Redis.listen != "[::1]:6380" || c.Redis.password != "" {
		t.Errorf("%+v", c.Redis)
	}
}

// TestPrivateUpstreamsStayOnThisMachine: whoever reaches the server can make it reach others.
func TestPrivateUpstreamsStayOnThisMachine(t *testing.T) {
	for addr, want := range map[string]toggle{
		"": on, "127.0.0.1": on, "::1": on, "localhost": on, "0.0.0.0": off, "192.0.2.1": off, "::": off, "box.example": off,
	} {
		if c := mustLoad(t, "EZ_API_ADDR="+addr); c.AllowPrivateUpstreams != want {
			t.Errorf("listening on %q: private upstreams %s, want %s", addr, c.AllowPrivateUpstreams, want)
		}
	}
	if c := mustLoad(t, "EZ_API_ADDR=0.0.0.0", "EZ_ALLOW_PRIVATE_UPSTREAMS=true"); c.AllowPrivateUpstreams != on {
		t.Error("what is asked for is not allowed")
	}
}

func TestRedisCA(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, environ := range [][]string{
		{"EZ_REDIS_CA=" + file}, // the in-process Redis
		withPostgres("EZ_REDIS_CA=" + file),
		withPostgres("EZ_REDIS_CA="+file, "EZ_REDIS_ADDR=rediss://h:1"),
	} {
		_, _, err := Load(environ)
		if wrong, ok := errors.AsType[*SettingError](err); !ok || wrong.Name != "EZ_REDIS_CA" {
			t.Errorf("%v: %v", environ, err)
		}
	}
}

// TestIdentityProviderIsCheckedAtTheStart: by its settings, and without asking it.
func TestIdentityProviderIsCheckedAtTheStart(t *testing.T) {
	good := []string{"EZ_OIDC_ISSUER=https://id.example", "EZ_OIDC_CLIENT_ID=c",
		"EZ_OIDC_CLAIM=groups; ops=admin:acme", "EZ_OIDC_REDIRECT_URL=https://gw.example/a/console/signin/callback"}
	if _, _, err := Load(append(withPostgres(), good...)); err != nil {
		t.Error(err)
	}
	for i, wrong := range []string{"EZ_OIDC_ISSUER=http://hunter2.example", "EZ_OIDC_CLIENT_ID=",
		"EZ_OIDC_CLAIM=groups; hunter2", "EZ_OIDC_REDIRECT_URL=/hunter2/console"} {
		environ := append(withPostgres(), good...)
		environ = append(environ, wrong)
		_, _, err := Load(environ)
		name, _, _ := strings.Cut(good[i], "=")
		if faults, ok := errors.AsType[Faults](err); !ok || len(faults) != 1 || faults[0].Name != name ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
