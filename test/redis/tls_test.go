package redis_test

import (
	"strings"
	"testing"

	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/test/certs"
)

// TestTLS: a Redis whose certificate is signed by an authority of one's own.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := certs.New(t)
	s := start(t, "redis-server", "127.0.0.1", withTLS(t, ca, "127.0.0.1")...)
	ours := &redisstore.OpenOptions{CAFile: ca.File()}
	w := newWorld(t, open(t, "rediss://"+s.addr(), ours), open(t, "rediss://"+s.addr(), ours))
	w.run(t)
	if policy, err := w.publisher.Ready(t.Context()); err != nil || policy != "noeviction" {
		t.Errorf("Ready: %q, %v", policy, err)
	}

	for name, c := range map[string]struct {
		address string
		opts    *redisstore.OpenOptions
		want    string // of the error; empty: none
	}{
		"the system's authorities": {"rediss://" + s.addr(), nil, "unknown authority"},
		"another authority": {"rediss://" + s.addr(), &redisstore.OpenOptions{CAFile: certs.New(t).File()},
			"unknown authority"},
		"another name":    {strings.Replace("rediss://"+s.addr(), "127.0.0.1", "localhost", 1), ours, "localhost"},
		"no TLS":          {s.addr(), nil, "EOF"},
		"no verification": {"rediss://" + s.addr() + "?skip_verify=true", nil, ""},
	} {
		err := open(t, c.address, c.opts).Ping(t.Context()).Err()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || c.want != "EOF" && !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
