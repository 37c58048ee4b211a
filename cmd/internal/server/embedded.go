package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"

	"github.com/alicebob/miniredis/v2"
)

// redisAddress is where the in-process Redis would like to be: where every
// program looks for Redis first.
const redisAddress = "127.0.0.1:6379"

// startRedis starts a Redis-compatible server in this process, which asks for a password. With
// an empty address it listens on loopback, at the usual port or at a free one when that is
// taken. It keeps nothing: publishing refills it after a restart.
func startRedis(addr, password string) (*miniredis.Miniredis, error) {
	if addr != "" {
		m, err := startRedisAt(addr, password)
		return m, redisListenError(addr, err)
	}
	m, err := startRedisAt(redisAddress, password)
	if err != nil {
		m, err = startRedisAt("127.0.0.1:0", password)
	}
	if err != nil {
		return nil, fmt.Errorf("start the in-process Redis: %w", err)
	}
	return m, nil
}

func startRedisAt(addr, password string) (*miniredis.Miniredis, error) {
	m := miniredis.NewMiniRedis()
	m.RequireAuth(password)
	m.ClockTTL(true) // else what expires never does
	return m, m.StartAddr(addr)
}

// redisListenError says why the in-process Redis cannot listen where it was told to.
func redisListenError(addr string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return &SettingError{"EZ_REDIS_ADDR", "must name a free port for the in-process Redis, " + addr + " is taken"}
	default:
		return &SettingError{"EZ_REDIS_ADDR", "must name an address of this machine for the in-process Redis, " +
			addr + " is not"}
	}
}

// redisURL returns how programs on this machine reach the in-process Redis, password included.
func redisURL(m *miniredis.Miniredis, password string) string {
	host, port := m.Host(), m.Port()
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	u := url.URL{Scheme: "redis", User: url.UserPassword("default", password), Host: net.JoinHostPort(host, port)}
	return u.String()
}
