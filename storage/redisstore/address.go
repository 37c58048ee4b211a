package redisstore

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
)

// deployment is how a Redis is run.
type deployment int

const (
	singleNode deployment = iota
	cluster
	sentinel
)

// String completes "the option is not for …".
func (d deployment) String() string {
	switch d {
	case cluster:
		return "a Cluster"
	case sentinel:
		return "Sentinel"
	default:
		return "a single node"
	}
}

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"

	// maxDatabase is the highest number of a database that an address may name.
	maxDatabase = 1<<31 - 1
)

// forms says which addresses there are.
const forms = "an address is host:port, redis://[user:password@]host[:port][/database], rediss://… for TLS, " +
	"a comma-separated list of these for a Cluster (a trailing comma makes a list of one), or " +
	"redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/database], rediss+sentinel://… for TLS; " +
	"in a URL the characters / ? # @ , : % of a name or password are percent-encoded"

// Address says where Redis is and how to talk to it. [ParseAddress] makes one.
type Address struct {
	deployment deployment
	options    redis.UniversalOptions // without TLS
	tls        bool
	skipVerify bool
}

// ParseAddress reads an address. It is one of
//
//	host:port
//	redis://[user:password@]host[:port][/database][?option=value&…]
//	rediss://…                                            the same with TLS
//	a,b,c                                                 a Cluster: a list of the above; "a," is a list of one
//	redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/database][?option=value&…]
//	rediss+sentinel://…                                   with TLS, to the Sentinels too
//
// User and password are those of Redis; the options sentinel_username and sentinel_password are for
// the Sentinels. In a list, what one item says holds for all, and items that contradict each other
// are refused. An option that is not known, that is of no use for this kind of address, or that would
// read from replicas, is refused by its name.
//
// Errors wrap [catalog.ErrInvalid]. They never contain any part of the address but names of options.
func ParseAddress(text string) (Address, error) {
	a, err := parseAddress(strings.TrimSpace(text))
	if err != nil {
		return Address{}, fmt.Errorf("redisstore: %w: %w", err, catalog.ErrInvalid)
	}
	return a, nil
}

func parseAddress(text string) (Address, error) {
	if scheme, rest, ok := strings.Cut(text, "://"); ok && strings.HasSuffix(scheme, "+sentinel") {
		return parseSentinel(scheme, rest)
	}
	a := Address{}
	items := strings.Split(text, ",")
	if len(items) > 1 {
		a.deployment = cluster
		if items[len(items)-1] == "" {
			items = items[:len(items)-1]
		}
	}
	seen := make(settings)
	for i, item := range items {
		p, err := splitURL(strings.TrimSpace(item))
		if err != nil {
			return Address{}, err
		}
		if len(p.hosts) != 1 || len(p.path) > 1 {
			return Address{}, errForms()
		}
		host, err := hostPort(p.hosts[0], p.defaultPort(defaultPort))
		if err != nil {
			return Address{}, err
		}
		a.options.Addrs = append(a.options.Addrs, host)
		if i > 0 && p.tls != a.tls {
			return Address{}, fmt.Errorf("in a list either all addresses use TLS (rediss://) or none does")
		}
		a.tls = p.tls
		if err := p.collect(seen); err != nil {
			return Address{}, err
		}
		if len(p.path) == 1 {
			if err := seen.add("db", p.path[0]); err != nil {
				return Address{}, err
			}
		}
	}
	return a, a.apply(seen)
}

func parseSentinel(scheme, rest string) (Address, error) {
	a := Address{deployment: sentinel}
	p, err := splitURL(strings.TrimSuffix(scheme, "+sentinel") + "://" + rest)
	if err != nil {
		return Address{}, err
	}
	if len(p.path) == 0 || p.path[0] == "" || len(p.path) > 2 {
		return Address{}, fmt.Errorf("an address of Sentinels ends in the name of the master: "+
			"redis+sentinel://host:%s/master", defaultSentinelPort)
	}
	a.tls = p.tls
	a.options.MasterName = p.path[0]
	for _, h := range p.hosts {
		host, err := hostPort(h, defaultSentinelPort)
		if err != nil {
			return Address{}, err
		}
		a.options.Addrs = append(a.options.Addrs, host)
	}
	seen := make(settings)
	if err := p.collect(seen); err != nil {
		return Address{}, err
	}
	if len(p.path) == 2 {
		if err := seen.add("db", p.path[1]); err != nil {
			return Address{}, err
		}
	}
	return a, a.apply(seen)
}

// String returns the address without credentials and options, to be shown.
func (a Address) String() string {
	hosts := strings.Join(a.options.Addrs, ",")
	scheme := "redis"
	if a.tls {
		scheme = "rediss"
	}
	switch {
	case a.deployment == sentinel:
		return scheme + "+sentinel://" + hosts + "/" + a.options.MasterName
	case a.tls:
		return "rediss://" + strings.Join(a.options.Addrs, ",rediss://")
	}
	return hosts
}

// parts are a URL's, percent-decoded, or those of a plain host:port.
type parts struct {
	isURL, tls     bool
	user, password string
	hosts          []string
	path           []string // without empty ones
	query          url.Values
}

// splitURL cuts an address. It does not use url.Parse, whose errors repeat what it was given.
func splitURL(text string) (parts, error) {
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		if strings.ContainsAny(text, "/@?# ") {
			return parts{}, errForms()
		}
		return parts{hosts: []string{text}}, nil
	}
	p := parts{isURL: true, tls: scheme == "rediss"}
	if scheme != "redis" && scheme != "rediss" || strings.Contains(rest, "#") {
		return parts{}, errForms()
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	var err error
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		authority = authority[at+1:]
		if p.user, err = url.PathUnescape(user); err != nil {
			return parts{}, errForms()
		}
		if p.password, err = url.PathUnescape(password); err != nil {
			return parts{}, errForms()
		}
		if p.user != "" && p.password == "" {
			return parts{}, fmt.Errorf(
				"the user has no password: write user:password@, or :password@ for the default user",
			)
		}
	}
	p.hosts = strings.Split(authority, ",")
	for step := range strings.SplitSeq(path, "/") {
		if step == "" {
			continue
		}
		if step, err = url.PathUnescape(step); err != nil {
			return parts{}, errForms()
		}
		p.path = append(p.path, step)
	}
	if p.query, err = url.ParseQuery(query); err != nil {
		return parts{}, fmt.Errorf("the options after ? cannot be read: write name=value&name=value")
	}
	return p, nil
}

// defaultPort returns the port of a URL that names none; a plain host must have one.
func (p parts) defaultPort(port string) string {
	if p.isURL {
		return port
	}
	return ""
}

// collect adds what the address says to what others of the list say.
func (p parts) collect(seen settings) error {
	if p.user != "" {
		if err := seen.add("username", p.user); err != nil {
			return err
		}
	}
	if p.password != "" {
		if err := seen.add("password", p.password); err != nil {
			return err
		}
	}
	for name, values := range p.query {
		for _, v := range values {
			if err := seen.add(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostPort checks a host and adds the port if there is none; without one to add, it is required.
func hostPort(text, port string) (string, error) {
	host, given, err := net.SplitHostPort(text)
	if err != nil {
		bare := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
		if port == "" || strings.Contains(bare, ":") && bare == text {
			return "", errForms()
		}
		host, given = bare, port
	}
	if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("the port is a number from 1 to 65535")
	}
	if host == "" || strings.ContainsAny(host, " \t/@?#[]%") || slices.Contains([]byte(host), 0) {
		return "", errForms()
	}
	return net.JoinHostPort(host, given), nil
}

func errForms() error { return fmt.Errorf("the address cannot be read: %s", forms) }
