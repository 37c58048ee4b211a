package server

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// redisAddress is where the in-process Redis would like to be: where every
// program looks for Redis first.
const redisAddress = "127.0.0.1:6379"

// startRedis starts a Redis-compatible server in this process, which other
// processes of this machine reach on loopback. Where its address is taken it
// takes a free port. It keeps nothing: publishing refills it after a restart.
func startRedis() (*miniredis.Miniredis, error) {
	m, err := startRedisAt(redisAddress)
	if err != nil {
		m, err = startRedisAt("127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("start the in-process Redis: %w", err)
	}
	return m, nil
}

func startRedisAt(addr string) (*miniredis.Miniredis, error) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true) // else what expires never does
	return m, m.StartAddr(addr)
}
