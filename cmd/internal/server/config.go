package server

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/httpapi/console"
)

// Config is the environment of the server: every field is one variable. The help tags are what
// -help prints.
type Config struct {
	Port port `env:"EZ_API_PORT" default:"8080" help:"Listening port; 0 takes a free one."`
	Addr host `env:"EZ_API_ADDR" help:"Listening address. 127.0.0.1 when embedded, 0.0.0.0 with PostgreSQL and in the image."`

	Postgres       postgresDSN `env:"EZ_PG_DSN" secret:"" help:"PostgreSQL connection string. Unset: an SQLite file in EZ_DATA_DIR."`
	PostgresListen listenDSN   `env:"EZ_PG_LISTEN_DSN" secret:"" help:"Connection string for LISTEN where EZ_PG_DSN leads through a pooler, or none to poll. Defaults to EZ_PG_DSN."`
	LogStore       logStore    `env:"EZ_LOG_STORE" secret:"" help:"Where access logs end: a connection string of another PostgreSQL, or clickhouse://user:password@host:8123/database. Unset: with the catalog."`
	Redis          redisAddr   `env:"EZ_REDIS_ADDR" secret:"" help:"host:port, a redis:// or rediss:// URL, a comma-separated list for Cluster, redis+sentinel://host:port/master, or embedded. embedded://host:port says where the in-process one listens. Unset without PostgreSQL: embedded, on 127.0.0.1:6379 or a free port."`
	RedisCA        string      `env:"EZ_REDIS_CA" help:"File of the certificates that sign those of Redis. Unset: the system's."`
	RedisPrefix    redisPrefix `env:"EZ_REDIS_PREFIX" default:"ezapi" help:"Hash tag of all keys in Redis."`
	DataDir        string      `env:"EZ_DATA_DIR" default:"./ezapi-data" help:"Directory of the SQLite file, the log spool and the generated secrets. No two servers may share it."`

	LogQueue         count      `env:"EZ_LOG_QUEUE" default:"100000" help:"Log entries that may be pending in memory, or wait for the disk; beyond it POST /logs answers 429."`
	LogBatchSize     count      `env:"EZ_LOG_BATCH_SIZE" default:"5000" help:"Log entries per database transaction, at most."`
	LogQueryConns    count      `env:"EZ_LOG_QUERY_CONNS" default:"4" help:"Connections of PostgreSQL that queries of logs and usage may use at once, at most; at least half of those of the pool are left to writes."`
	BudgetInterval   duration   `env:"EZ_BUDGET_INTERVAL" default:"1s" help:"How often what was spent is compared with budgets, where there are some."`
	LogFlushInterval duration   `env:"EZ_LOG_FLUSH_INTERVAL" default:"1s" help:"Longest that a log entry waits for its batch to fill."`
	LogDurability    durability `env:"EZ_LOG_DURABILITY" default:"disk" help:"disk or memory: what an accepted log entry survives."`
	LogSpoolMax      size       `env:"EZ_LOG_SPOOL_MAX" default:"1GiB" help:"Capacity of the log spool on disk."`
	LogSpoolKeep     keep       `env:"EZ_LOG_SPOOL_KEEP" default:"10m" help:"How long log entries stay in the spool after they were stored, for a database that loses commits in a failover; at most 7d, 0 removes them at once."`
	LogRetention     retention  `env:"EZ_LOG_RETENTION" default:"90d" help:"Older log entries are dropped; at least 2d, 0 keeps all."`
	UsageRetention   retention  `env:"EZ_USAGE_RETENTION" default:"400d" help:"Usage is kept by the quarter of an hour for so long, and then by the day for ever; at least 32d, 0 keeps all."`
	UsageZone        zone       `env:"EZ_USAGE_ZONE" default:"UTC" help:"Time zone whose days usage is kept by. It is fixed at the first start."`
	ChangesRetention retention  `env:"EZ_CHANGES_RETENTION" default:"90d" help:"Older entries of the change feed are dropped, and what the control plane did by itself to holds and operators after 7d; 0 keeps all."`

	AdminTokens    tokens   `env:"EZ_ADMIN_TOKEN" secret:"" help:"Tokens of the admin role, at least 32 characters each, comma-separated while rotating. Generated when embedded."`
	ViewerTokens   tokens   `env:"EZ_VIEWER_TOKEN" secret:"" help:"Tokens of the viewer role."`
	BalancerTokens tokens   `env:"EZ_BALANCER_TOKEN" secret:"" help:"Tokens of the balancer role."`
	DBKeys         keyList  `env:"EZ_DB_KEYS" secret:"" help:"Keys that seal provider secrets in the database, id:base64(32 bytes)[,older]. Generated when embedded."`
	SyncKeys       syncKeys `env:"EZ_SYNC_KEYS" secret:"" help:"Keys that seal secrets in Redis and sign what is published, shared with balancers, or none for clear text."`

	AllowPrivateUpstreams toggle `env:"EZ_ALLOW_PRIVATE_UPSTREAMS" help:"Accept providers at plain http and private addresses. true when embedded and listening on loopback, else false."`

	Health healthRules `env:"EZ_HEALTH" help:"When providers that fail are left out for a while: off, or a list such as first_hold=1m,attempts=20 of the thresholds that differ from the defaults. Unset: the defaults."`

	Console      toggle   `env:"EZ_CONSOLE" default:"true" help:"Serve the console, the pages for people, at /console/."`
	OIDCIssuer   string   `env:"EZ_OIDC_ISSUER" help:"URL of the OpenID Connect identity provider that people sign in to the console through, as its discovery document says it. Unset: people sign in with tokens only."`
	OIDCClient   string   `env:"EZ_OIDC_CLIENT_ID" help:"How the identity provider knows the console. There, the redirect URI is https://HOST/console/signin/callback."`
	OIDCSecret   secret   `env:"EZ_OIDC_CLIENT_SECRET" secret:"" help:"The client's secret. Unset: a public client."`
	OIDCClaim    string   `env:"EZ_OIDC_CLAIM" help:"The claim that says what people may do, such as groups; see docs/console.md. Its values are admin, viewer, admin:PROJECT or viewer:PROJECT, or grant what is said behind it: groups; platform=admin; search=admin:acme/search."`
	OIDCRedirect string   `env:"EZ_OIDC_REDIRECT_URL" help:"The whole address of the page signin/callback, where a proxy serves the console below another path, such as https://HOST/gateway/console/signin/callback. Unset: by the request."`
	AlertURL     alertURL `env:"EZ_ALERT_URL" secret:"" help:"Where alerts are posted, as JSON. ?format=slack, feishu, dingtalk or wecom gives them the shape of those. Unset: alerts are only kept, see GET /alerts."`
	AlertSecret  secret   `env:"EZ_ALERT_SECRET" secret:"" help:"Signs alerts: HMAC-SHA-256 in the header EZ-Signature, or as Feishu and DingTalk do."`

	LogLevel  level  `env:"EZ_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
	LogFormat format `env:"EZ_LOG_FORMAT" help:"text or json. text on a terminal, else json."`
}

// Embedded reports whether the catalog is an SQLite file.
func (c *Config) Embedded() bool { return !c.Postgres.set() }

// EmbeddedRedis reports whether Redis runs in this process.
func (c *Config) EmbeddedRedis() bool { return c.Redis.embedded || !c.Redis.given }

// webhook returns what delivers alerts; nil where they are only kept.
func (c *Config) webhook() (alerts.Sender, error) {
	if c.AlertURL == "" {
		return nil, nil
	}
	private := catalog.PublicOnly
	if c.AllowPrivateUpstreams == on {
		private = catalog.AllowPrivate
	}
	return alerts.NewWebhook(string(c.AlertURL), &alerts.WebhookOptions{
		Secret: catalog.NewSecret(string(c.AlertSecret)), Private: private,
	})
}

// identityProvider returns the one that people sign in through; nil without one.
func (c *Config) identityProvider() (*console.OIDC, error) {
	if c.Console != on || c.OIDCIssuer == "" {
		return nil, nil
	}
	return console.NewOIDC(console.OIDCOptions{
		Issuer: c.OIDCIssuer, ClientID: c.OIDCClient, ClientSecret: catalog.NewSecret(string(c.OIDCSecret)),
		Claim: c.OIDCClaim, RedirectURL: c.OIDCRedirect,
	})
}

// settings returns what kong reads off the fields of c.
func settings(c *Config) ([]*kong.Flag, error) {
	parser, err := kong.New(c, kong.NoDefaultHelp())
	if err != nil {
		return nil, err
	}
	return parser.Model.Flags, nil
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
