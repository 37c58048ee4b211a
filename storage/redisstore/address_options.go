package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// settings are what an address says beside hosts, by the name of the option.
type settings map[string]string

// add refuses a second value for the same option.
func (s settings) add(name, value string) error {
	if before, ok := s[name]; ok && before != value {
		return fmt.Errorf("the address has two values for %s, one is allowed", plainName(name))
	}
	s[name] = value
	return nil
}

// plainName keeps whatever a stranger put where a name is expected from filling a log.
func plainName(name string) string {
	if len(name) > 64 || strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) >= 0 {
		return "an option whose name is no name"
	}
	return "the option " + name
}

// An option is one that an address may have.
type option struct {
	deployments []deployment // empty: all
	rule        string       // completes "the option … must be …"
	set         func(a *Address, value string) error
}

var errRule = errors.New("breaks the option's rule")

// options returns all there are. Their names and meanings are those of go-redis, whose documentation
// of redis.Options describes them.
func options() map[string]option {
	text := func(field func(o *redis.UniversalOptions) *string) option {
		return option{rule: "must not be empty", set: func(a *Address, v string) error {
			if v == "" {
				return errRule
			}
			*field(&a.options) = v
			return nil
		}}
	}
	number := func(lowest, highest int, field func(o *redis.UniversalOptions) *int) option {
		return option{
			rule: fmt.Sprintf("must be a whole number from %d to %d", lowest, highest),
			set: func(a *Address, v string) error {
				n, err := strconv.Atoi(v)
				if err != nil || n < lowest || n > highest {
					return errRule
				}
				*field(&a.options) = n
				return nil
			},
		}
	}
	duration := func(field func(o *redis.UniversalOptions) *time.Duration) option {
		return option{
			rule: "must be a duration such as 500ms or 3s, from 1ms to 24h",
			set: func(a *Address, v string) error {
				d, err := time.ParseDuration(v)
				if err != nil || d < time.Millisecond || d > 24*time.Hour {
					return errRule
				}
				*field(&a.options) = d
				return nil
			},
		}
	}
	truth := func(set func(a *Address, v bool)) option {
		return option{rule: "must be true or false", set: func(a *Address, v string) error {
			if v != "true" && v != "false" {
				return errRule
			}
			set(a, v == "true")
			return nil
		}}
	}
	only := func(o option, deployments ...deployment) option {
		o.deployments = deployments
		return o
	}
	return map[string]option{
		"username":    text(func(o *redis.UniversalOptions) *string { return &o.Username }),
		"password":    text(func(o *redis.UniversalOptions) *string { return &o.Password }),
		"client_name": text(func(o *redis.UniversalOptions) *string { return &o.ClientName }),
		"sentinel_username": only(
			text(func(o *redis.UniversalOptions) *string { return &o.SentinelUsername }),
			sentinel,
		),
		"sentinel_password": only(
			text(func(o *redis.UniversalOptions) *string { return &o.SentinelPassword }),
			sentinel,
		),

		"db": only(
			number(0, maxDatabase, func(o *redis.UniversalOptions) *int { return &o.DB }),
			singleNode,
			sentinel,
		),
		"protocol":    number(2, 3, func(o *redis.UniversalOptions) *int { return &o.Protocol }),
		"max_retries": number(-1, 100, func(o *redis.UniversalOptions) *int { return &o.MaxRetries }),
		"max_redirects": only(
			number(0, 100, func(o *redis.UniversalOptions) *int { return &o.MaxRedirects }),
			cluster,
		),
		"dialer_retries": number(1, 100, func(o *redis.UniversalOptions) *int { return &o.DialerRetries }),
		"pool_size":      number(2, 10_000, func(o *redis.UniversalOptions) *int { return &o.PoolSize }),
		"min_idle_conns": number(0, 10_000, func(o *redis.UniversalOptions) *int { return &o.MinIdleConns }),
		"max_idle_conns": number(0, 10_000, func(o *redis.UniversalOptions) *int { return &o.MaxIdleConns }),
		"max_active_conns": number(
			0,
			10_000,
			func(o *redis.UniversalOptions) *int { return &o.MaxActiveConns },
		),
		"max_concurrent_dials": number(
			0,
			10_000,
			func(o *redis.UniversalOptions) *int { return &o.MaxConcurrentDials },
		),

		"min_retry_backoff": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.MinRetryBackoff },
		),
		"max_retry_backoff": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.MaxRetryBackoff },
		),
		"dial_timeout": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.DialTimeout },
		),
		"dialer_retry_timeout": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.DialerRetryTimeout },
		),
		"read_timeout": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.ReadTimeout },
		),
		"write_timeout": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.WriteTimeout },
		),
		"pool_timeout": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.PoolTimeout },
		),
		"conn_max_idle_time": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.ConnMaxIdleTime },
		),
		"conn_max_lifetime": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.ConnMaxLifetime },
		),
		"conn_max_lifetime_jitter": duration(
			func(o *redis.UniversalOptions) *time.Duration { return &o.ConnMaxLifetimeJitter },
		),

		"pool_fifo":   truth(func(a *Address, v bool) { a.options.PoolFIFO = v }),
		"skip_verify": truth(func(a *Address, v bool) { a.skipVerify = v }),
	}
}

// readsReplicas are options of go-redis that read from replicas, which may lag behind: a reader would
// see a head without its documents.
func readsReplicas() []string {
	return []string{
		"read_only", "replica_only", "route_by_latency", "route_by_latency_tolerance", "route_randomly",
		"use_disconnected_replicas",
	}
}

// apply sets what an address says, in the order of names, so that of several errors it is always the
// same that is told.
func (a *Address) apply(s settings) error {
	all := options()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if slices.Contains(readsReplicas(), name) {
			return fmt.Errorf("the option %s is not allowed: everything is read from the master, "+
				"because a replica may lag behind", name)
		}
		o, ok := all[name]
		if !ok {
			return fmt.Errorf("%s is not known; there are %s", plainName(name), strings.Join(a.known(), ", "))
		}
		if len(o.deployments) > 0 && !slices.Contains(o.deployments, a.deployment) {
			if name == "db" && s[name] == "0" {
				continue
			}
			return fmt.Errorf("the option %s is not for %s", name, a.deployment)
		}
		if err := o.set(a, s[name]); err != nil {
			return fmt.Errorf("the option %s %s", name, o.rule)
		}
	}
	if a.skipVerify && !a.tls {
		return fmt.Errorf("the option skip_verify is of use only with TLS: write rediss:// in place of redis://")
	}
	return nil
}

// known returns the names of the options that this kind of address may have.
func (a *Address) known() []string {
	var names []string
	for name, o := range options() {
		if len(o.deployments) == 0 || slices.Contains(o.deployments, a.deployment) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
