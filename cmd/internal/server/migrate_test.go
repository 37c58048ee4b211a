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
