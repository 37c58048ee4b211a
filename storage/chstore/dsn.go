package chstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
)

const (
	defaultPort       = "8123"
	defaultSecurePort = "8443"
	defaultDatabase   = "default"
	defaultUser       = "default"
)

// An address is what a connection string says.
type address struct {
	url            url.URL // without credentials
	user, password string
	database       string
	cluster        string
	replicated     bool
	tls            *tls.Config // nil: as usual
}

// nativePorts are those of the other protocol.
var nativePorts = map[string]bool{"9000": true, "9440": true}

// ParseDSN reports whether a connection string can be read, without connecting. Errors never hold
// any of it.
func ParseDSN(dsn string) error {
	_, err := parseDSN(dsn)
	return err
}

var errDSN = errors.New("chstore: the connection string must be " +
	"clickhouse://USER:PASSWORD@HOST:PORT/DATABASE, special characters in the password as %XX")

func parseDSN(dsn string) (a address, err error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "clickhouse" || u.Hostname() == "" || u.Opaque != "" || u.Fragment != "" {
		return a, errDSN // url.Parse quotes what it was given
	}
	if strings.Contains(u.Host, ",") {
		return a, errors.New("chstore: the connection string must name one host; where there are several, " +
			"a load balancer in front of them")
	}
	a.user, a.database = defaultUser, defaultDatabase
	if name := u.User.Username(); name != "" {
		a.user = name
	}
	a.password, _ = u.User.Password()
	if name := strings.TrimPrefix(u.Path, "/"); name != "" {
		a.database = name
	}
	if !identifier.MatchString(a.database) {
		return a, errors.New(
			"chstore: the database of the connection string must be a name of letters, digits and _",
		)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, errDSN
	}
	secure := false
	for name, v := range values {
		if err := a.set(name, v[len(v)-1], &secure); err != nil {
			return a, err
		}
	}
	if a.tls != nil && !secure {
		return a, errors.New("chstore: ca in the connection string needs secure=true")
	}
	return a, a.point(u, secure)
}

// identifier is what names of databases and clusters may be.
var identifier = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)

// set takes a parameter of a connection string.
func (a *address) set(name, value string, secure *bool) (err error) {
	switch name {
	case "secure":
		*secure, err = strconv.ParseBool(value)
	case "replicated":
		a.replicated, err = strconv.ParseBool(value)
	case "cluster":
		if a.cluster = value; !identifier.MatchString(value) {
			return errors.New(
				"chstore: cluster in the connection string must be the name of a cluster of the server",
			)
		}
		a.replicated = true
	case "ca":
		a.tls, err = readCA(value)
		return err
	default:
		return errors.New(
			"chstore: the connection string takes secure, ca, cluster and replicated, no others",
		)
	}
	if err != nil {
		return fmt.Errorf("chstore: %s in the connection string must be true or false", name)
	}
	return nil
}

// point makes the URL that statements are sent to.
func (a *address) point(u *url.URL, secure bool) error {
	a.url = url.URL{Scheme: "http", Path: "/"}
	port := defaultPort
	if secure {
		a.url.Scheme, port = "https", defaultSecurePort
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if nativePorts[port] {
		return fmt.Errorf(
			"chstore: the port of the connection string must be that of the HTTP interface, as a rule %s, "+
				"or %s with secure=true; %s is that of the native protocol",
			defaultPort,
			defaultSecurePort,
			port,
		)
	}
	a.url.Host = net.JoinHostPort(u.Hostname(), port)
	return nil
}

func readCA(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, errors.New("chstore: the file that ca names in the connection string cannot be read")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(
			"chstore: the file that ca names in the connection string holds no certificate in PEM",
		)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
