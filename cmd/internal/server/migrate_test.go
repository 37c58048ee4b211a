package server

import (
	"bytes"
	"strings"
	"testing"
)

// What -migrate cannot do is said in one line, which holds no password.
func TestMigrateRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		args, env []string
		want      string
		code      int
	}{
		"nothing to migrate": {nil, nil, "EZ_PG_DSN must be set for -migrate", 2},
		"two roles":          {[]string{"one", "two"}, nil, "takes the name of one role", 1},
		"a wrong string":     {nil, []string{"EZ_PG_DSN=postgres://u:hidden-word@h:port/d"}, "EZ_PG_DSN must be", 2},
		"nobody there": {[]string{"ezapi"}, []string{"EZ_PG_DSN=postgres://u:hidden-word@127.0.0.1:1/d?sslmode=disable"},
			"EZ_PG_DSN: failed to connect", 1},
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), append([]string{"-migrate"}, c.args...), c.env, &out, &errs)
		said := errs.String()
		if code != c.code || !strings.Contains(said, c.want) || strings.Count(said, "\n") != 1 ||
			strings.Contains(said, "hidden-word") {
			t.Errorf("%s: %d %s", name, code, said)
		}
	}
}

// What is wrong with a connection string is said, and nothing of a password in it.
func TestWrongConnectionString(t *testing.T) {
	const leak = "hunter2hunter2"
	for dsn, want := range map[string]string{
		"postgres://u:" + leak + "@h/d?sslmode=bogus":                            "in this one sslmode is invalid",
		"postgres://u:" + leak + "@h/d?sslmode=verify-full&sslrootcert=/nowhere": "open /nowhere: no such file",
		"postgres://u:" + leak + "@h/d?pool_max_conns=0":                         "this one: pool_max_conns too small",
		"postgres://u:" + leak + "@h/d?target_session_attrs=" + leak:             "this one: unknown target_session_attrs",
		"postgres://u:x:" + leak + "/@h/d":                                       "this one: ",
		"host=h port=" + leak:                                                    "this one: invalid port",
	} {
		for _, variable := range []string{"EZ_PG_DSN", "EZ_PG_LISTEN_DSN", "EZ_LOG_STORE"} {
			_, _, err := Load(append(withPostgres(), variable+"="+dsn))
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), variable) ||
				strings.Contains(err.Error(), leak) {
				t.Errorf("%s=%s: %v; want %q", variable, dsn, err, want)
			}
		}
	}
	c, _, err := Load(append(withPostgres(), "EZ_PG_DSN=postgres://h/d?sslmode=disable\r\n",
		"EZ_PG_LISTEN_DSN=host=h dbname=d\r", "EZ_LOG_STORE=host=h dbname=d\r"))
	if err != nil || c.Postgres != "postgres://h/d?sslmode=disable" || c.PostgresListen != "host=h dbname=d" ||
		c.LogStore != "host=h dbname=d" {
		t.Errorf("with the end of a line of a file from Windows: %v", err)
	}
}
