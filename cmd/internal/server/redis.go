package server

import (
	"net"
	"net/url"
	"strings"

	"github.com/ez-api/ez-api/storage/redisstore"
)

// redisAddr is where Redis is.
type redisAddr struct {
	embedded bool
	listen   string // host:port of the in-process Redis; empty is the usual one
	password string // of the in-process Redis; empty is the data directory's

	given   bool
	address redisstore.Address // of another Redis
}

// embeddedScheme begins an address at which the in-process Redis shall listen.
const embeddedScheme = "embedded://"

// minRedisPassword keeps passwords out of reach of guessing.
const minRedisPassword = 16

func (a *redisAddr) UnmarshalText(text []byte) (err error) {
	if string(text) == "embedded" {
		a.embedded = true
		return nil
	}
	if strings.HasPrefix(string(text), embeddedScheme) {
		return a.parseEmbedded(string(text))
	}
	if a.address, err = redisstore.ParseAddress(string(text)); err != nil {
		return expectation("is wrong: " + strings.TrimPrefix(trimInvalid(err), "redisstore: ") +
			". It may also be embedded, for the in-process Redis")
	}
	a.given = true
	return nil
}

// parseEmbedded reads embedded://[:password@]host:port.
func (a *redisAddr) parseEmbedded(text string) error {
	const want = expectation("must be embedded://host:port, or embedded://:password@host:port with a password " +
		"of at least 16 characters, when the in-process Redis shall listen elsewhere than on 127.0.0.1:6379")
	a.embedded = true
	u, err := url.Parse(text)
	if err != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User.Username() != "" {
		return want
	}
	var name host
	var number port
	if name.UnmarshalText([]byte(u.Hostname())) != nil || number.UnmarshalText([]byte(u.Port())) != nil {
		return want
	}
	password, ok := u.User.Password()
	if ok && len(password) < minRedisPassword {
		return want
	}
	a.listen, a.password = net.JoinHostPort(u.Hostname(), u.Port()), password
	return nil
}
