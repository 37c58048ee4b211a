package server

import (
	"strings"

	"github.com/ez-api/ez-api/storage/redisstore"
)

// redisAddr is where Redis is.
type redisAddr struct {
	embedded bool
	given    bool
	address  redisstore.Address
}

func (a redisAddr) set() bool { return a.given }

func (a *redisAddr) UnmarshalText(text []byte) (err error) {
	if string(text) == "embedded" {
		a.embedded = true
		return nil
	}
	if a.address, err = redisstore.ParseAddress(string(text)); err != nil {
		return expectation("is wrong: " + strings.TrimPrefix(trimInvalid(err), "redisstore: ") +
			". It may also be embedded, for the in-process Redis")
	}
	a.given = true
	return nil
}
