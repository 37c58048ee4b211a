package server

import (
	"crypto/tls"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// redisAddr is where Redis is: host:port, a URL, or a list of either, which is
// a Cluster (a trailing comma makes a list of one).
type redisAddr struct {
	embedded bool
	options  *redis.UniversalOptions
}

func (a redisAddr) set() bool { return a.options != nil }

func (a *redisAddr) UnmarshalText(text []byte) error {
	if string(text) == "embedded" {
		a.embedded = true
		return nil
	}
	options, ok := parseRedis(string(text))
	if !ok {
		return expectation("must be host:port, a redis:// or rediss:// URL, a comma-separated list of them for Cluster, or embedded")
	}
	a.options = options
	return nil
}

// parseRedis reads an address. In a list, credentials and TLS of the first
// item that has any hold for all.
func parseRedis(text string) (*redis.UniversalOptions, bool) {
	all := &redis.UniversalOptions{IsClusterMode: strings.Contains(text, ",")}
	for item := range strings.SplitSeq(strings.TrimSuffix(text, ","), ",") {
		one, ok := parseRedisItem(strings.TrimSpace(item))
		if !ok || all.IsClusterMode && one.DB != 0 { // a Cluster has one database
			return nil, false
		}
		all.Addrs = append(all.Addrs, one.Addr)
		if all.Username == "" && all.Password == "" {
			all.Username, all.Password = one.Username, one.Password
		}
		if all.TLSConfig == nil {
			all.TLSConfig = one.TLSConfig
		}
		all.DB = one.DB
	}
	return all, true
}

func parseRedisItem(item string) (*redis.Options, bool) {
	if strings.HasPrefix(item, "redis://") || strings.HasPrefix(item, "rediss://") {
		options, err := redis.ParseURL(item)
		if err != nil {
			return nil, false
		}
		if options.TLSConfig != nil {
			options.TLSConfig.MinVersion = tls.VersionTLS12
		}
		return options, true
	}
	host, port, err := net.SplitHostPort(item)
	if err != nil || host == "" || port == "" || strings.ContainsAny(item, "/@ ") {
		return nil, false
	}
	return &redis.Options{Addr: item}, true
}
