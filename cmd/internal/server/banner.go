package server

import (
	"fmt"
	"io"
	"strings"
)

// Reached returns a channel that is closed once the catalog's database was reached.
func (s *Server) Reached() <-chan struct{} { return s.engines.reached }

// announce says that the server is ready. A terminal gets the banner, with the secrets that were
// made here, because somebody sits there who needs them. What is not a terminal may be kept and
// read by many, so it gets a line of the log with the files that hold them.
func (s *Server) announce(stdout io.Writer) {
	where := []any{"url", s.URL(), "redis", s.engines.redisAddr}
	if s.config.Console == on {
		where = append(where, "console", s.URL()+consolePath+"/")
	}
	if s.dir != nil {
		where = append(where, "data", s.dir.path)
	}
	if s.madeToken {
		where = append(where, "admin_token_file", s.dir.file(tokenFile))
	}
	if s.config.EmbeddedRedis() {
		where = append(where, "redis_url_file", s.dir.file(redisURLFile))
	}
	s.logger.Info("ready", where...)
	if isTerminal(stdout) {
		_, _ = io.WriteString(stdout, s.Banner()) // nobody is there to be told
	}
}

// Banner says where everything is, to somebody who may know the secrets: it holds the admin's token
// if that was made here, and the password of the in-process Redis.
func (s *Server) Banner() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "  %-12s %s\n", name, value) }
	b.WriteString("\nEZ-API is ready\n\n")
	line("URL", s.URL())
	if s.config.Console == on {
		line("console", s.URL()+consolePath+"/")
	}
	if s.madeToken {
		line("admin token", s.config.AdminTokens[0])
	} else {
		line("admin token", "as EZ_ADMIN_TOKEN says")
	}
	if s.config.EmbeddedRedis() {
		line("Redis", s.engines.redisURL+" (in this process)")
	} else {
		line("Redis", s.engines.redisAddr)
	}
	if s.dir != nil {
		line("data", s.dir.path)
	}
	b.WriteString("\n")
	return b.String()
}
