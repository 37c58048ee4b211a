package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// clusterReload is how old a client's view of a Cluster gets. go-redis' own default is a minute,
	// which is how long everything would stand still after a failover.
	clusterReload = time.Second

	// clusterTimeout is how long a node of a Cluster may keep an answer. One that has frozen is asked twice
	// before another is, so it is what decides how long that takes. No command of ours takes Redis a hundredth of that.
	clusterTimeout = time.Second

	// dialTimeout is how long a machine that answers nothing, such as a master that lost its network,
	// keeps a connection from being tried elsewhere.
	dialTimeout = 2 * time.Second

	// connections is the size of the pool: commands, blocked reads, and what a load does beside them.
	connections = 16
)

// OpenOptions configure [Open]. The zero value is fine.
type OpenOptions struct {
	// CAFile names a PEM file of the certificates that sign those of Redis. It replaces the system's.
	// Only for addresses with TLS.
	CAFile string

	// TLS is what connections with TLS start from, for a client's own certificate, say. Leave its
	// ServerName empty in a Cluster and with Sentinel: each node is checked against its own name.
	TLS *tls.Config

	// Name is what CLIENT LIST shows, unless the address has the option client_name.
	Name string

	// Logger gets what go-redis has to say. It keeps one logger for the whole process, so the last
	// Open that has a Logger decides. Without any, go-redis prints plain lines on standard error.
	Logger *slog.Logger
}

// Open returns a client for a server, a balancer or a mirror; see [ParseAddress] for addresses. It
// connects when it is first used, so a Redis that is away is no error here. The caller closes it.
//
// A failover of a Cluster's master, or of one that Sentinels watch, is over for it within a few
// seconds after the promotion. Errors wrap [catalog.ErrInvalid] and never contain a password.
func Open(address string, opts *OpenOptions) (redis.UniversalClient, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	return a.Open(opts)
}

// Open is the function [Open] for an address that was parsed before.
func (a Address) Open(opts *OpenOptions) (redis.UniversalClient, error) {
	var o OpenOptions
	if opts != nil {
		o = *opts
	}
	u := a.options
	var err error
	if u.TLSConfig, err = a.tlsConfig(o); err != nil {
		return nil, fmt.Errorf("redisstore: %w: %w", err, catalog.ErrInvalid)
	}
	if o.Logger != nil {
		redis.SetLogger(slogger{o.Logger})
	}
	u.ClientName = cmp.Or(u.ClientName, strings.Map(clientNameRune, o.Name))
	u.DialTimeout = cmp.Or(u.DialTimeout, dialTimeout)
	u.DialerRetries = cmp.Or(u.DialerRetries, 1) // commands are tried again, and elsewhere
	u.PoolSize = cmp.Or(u.PoolSize, connections)
	u.PipelinePoolSize = -1 // a second pool would double the connections of each balancer
	u.ContextTimeoutEnabled = true
	u.DisableIdentity = true // CLIENT SETINFO is one right and one round trip more
	u.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch a.deployment {
	case cluster:
		u.ReadTimeout = cmp.Or(u.ReadTimeout, clusterTimeout)
		c := u.Cluster()
		c.ClusterStateReloadInterval = clusterReload
		return redis.NewClusterClient(c), nil
	case sentinel:
		return redis.NewFailoverClient(u.Failover()), nil
	default:
		return redis.NewClient(u.Simple()), nil
	}
}

// tlsConfig returns nil for connections without TLS. It leaves the server's name to go-redis, which
// takes the name of the node that it dials.
func (a Address) tlsConfig(o OpenOptions) (*tls.Config, error) {
	if !a.tls {
		if o.CAFile != "" {
			return nil, fmt.Errorf(
				"certificates are given, but the address does not use TLS: write rediss:// in place of redis://",
			)
		}
		return nil, nil
	}
	config := &tls.Config{}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if a.skipVerify {
		config.InsecureSkipVerify = true //nolint:gosec // the address asks for it by name
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf(
				"the file %s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
				o.CAFile,
			)
		}
	}
	return config, nil
}

// clientNameRune replaces what Redis does not take in a client's name.
func clientNameRune(r rune) rune {
	if r <= ' ' || r > '~' {
		return '-'
	}
	return r
}

// slogger writes the log of go-redis. Its messages have no level; all are about connections that fail
// or move.
type slogger struct{ log *slog.Logger }

// Printf implements the interface that redis.SetLogger takes.
func (s slogger) Printf(ctx context.Context, format string, v ...any) {
	s.log.WarnContext(ctx, "redis client: "+strings.TrimPrefix(fmt.Sprintf(format, v...), "redis: "))
}
