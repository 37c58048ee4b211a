package pgtest

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Role makes a role that owns nothing, which is dropped after the test, and returns the
// configuration of a pool that connects as it.
func Role(tb testing.TB, cfg *pgxpool.Config) *pgxpool.Config {
	tb.Helper()
	name, password := "ez_role_"+strings.ToLower(rand.Text()), rand.Text()
	owner := DSN(cfg)
	runSQL(tb, owner, "create role "+name+" login password '"+password+"'")
	tb.Cleanup(func() { runSQL(tb, owner, "drop owned by "+name+" cascade; drop role "+name) })
	cfg = cfg.Copy()
	cfg.ConnConfig.User, cfg.ConnConfig.Password = name, password
	return cfg
}
