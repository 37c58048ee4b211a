package httpapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// A FailureLimit says how often an address may fail to authenticate. If one of the fields is not
// positive, both have their defaults: 20 failures, and 3 seconds.
type FailureLimit struct {
	Burst  int           // as many failures may follow each other at once
	Refill time.Duration // after so long there is room for one more
}

// The default FailureLimit. docs/limits.md says it to people.
const (
	failuresBurst  = 20
	failuresRefill = 3 * time.Second

	maxAddresses = 10_000    // that are counted
	maxGood      = 4_096     // credentials that are remembered as valid
	goodFor      = time.Hour // after they were last used
)

// throttle limits failed authentications by address. While an address is over its
// limit, its requests are refused without a look at their credentials, so that guessing
// does not go on. Credentials that were valid within the last hour are let through all
// the same: whoever shares an address with a client that has gone wild, as all do behind
// a proxy, is not shut out. That needs an Auth that says where the credentials are: others
// could not be told from a guess. It is safe for concurrent use.
type throttle struct {
	scheme Scheme // says where credentials are
	limit  FailureLimit
	key    []byte // of the hashes of credentials

	mu        sync.Mutex
	addresses map[string]bucket
	good      map[credentialsHash]time.Time // when they were last valid
}

// bucket is how much room an address had at a time.
type bucket struct {
	room float64
	at   time.Time
}

// room returns how much of it there is now.
func (t *throttle) room(b bucket, now time.Time) float64 {
	return min(float64(t.limit.Burst), b.room+now.Sub(b.at).Seconds()/t.limit.Refill.Seconds())
}

func newThrottle(scheme Scheme, limit FailureLimit) *throttle {
	if limit.Burst <= 0 || limit.Refill <= 0 {
		limit = FailureLimit{failuresBurst, failuresRefill}
	}
	key := make([]byte, sha256.Size)
	rand.Read(key) //nolint:errcheck // it never fails
	return &throttle{
		scheme: scheme, limit: limit, key: key,
		addresses: map[string]bucket{}, good: map[credentialsHash]time.Time{},
	}
}

// ThrottledError refuses a request of an address that has failed to authenticate too often.
type ThrottledError struct {
	After time.Duration // when there is room again
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%v, for %s", errThrottled, e.After.Round(time.Second))
}

// Unwrap returns the error by which the table of problems knows it.
func (e *ThrottledError) Unwrap() error { return errThrottled }

// retryAfter returns the whole seconds after which there is room.
func (e *ThrottledError) retryAfter() string {
	return strconv.Itoa(max(1, int(math.Ceil(e.After.Seconds()))))
}

// credentialsHash is of what a request proves itself with; the zero one is nothing that
// can be recognised.
type credentialsHash [sha256.Size]byte

// check refuses a request when its address has no room left and its credentials were
// not valid before.
func (t *throttle) check(address string, credentials credentialsHash) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, counted := t.addresses[address]
	if !counted {
		return nil
	}
	now := time.Now()
	room := t.room(b, now)
	if last, ok := t.good[credentials]; room >= 1 || ok && now.Sub(last) < goodFor {
		return nil
	}
	return &ThrottledError{time.Duration((1 - room) * float64(t.limit.Refill))}
}

// failed counts a failed authentication, and reports whether it was the one that used
// up the room of its address.
func (t *throttle) failed(address string) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	b, counted := t.addresses[address]
	if !counted {
		t.makeRoom(now)
		b = bucket{float64(t.limit.Burst), now}
	}
	before := t.room(b, now)
	after := max(0, before-1)
	t.addresses[address] = bucket{after, now}
	return before >= 1 && after < 1
}

// makeRoom forgets addresses when there are too many: those that have all their room
// back, else any.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.addresses) < maxAddresses {
		return
	}
	for address, b := range t.addresses {
		if t.room(b, now) >= float64(t.limit.Burst) {
			delete(t.addresses, address)
		}
	}
	for address := range t.addresses {
		if len(t.addresses) < maxAddresses {
			return
		}
		delete(t.addresses, address)
	}
}

// succeeded remembers credentials as valid.
func (t *throttle) succeeded(credentials credentialsHash) {
	if credentials == (credentialsHash{}) {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.good[credentials]; !known && len(t.good) >= maxGood {
		for c, last := range t.good {
			if now.Sub(last) >= goodFor || len(t.good) >= maxGood {
				delete(t.good, c)
			}
		}
	}
	t.good[credentials] = now
}

// credentials returns a hash of what a request proves itself with. The key is random
// and ends with the process, so that the hashes are of no use to anybody.
func (t *throttle) credentials(r *http.Request) (sum credentialsHash) {
	sent := t.scheme.credentials(r)
	if sent == "" {
		return sum
	}
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(sent)) //nolint:errcheck // it never fails
	mac.Sum(sum[:0])
	return sum
}

// credentials returns the part of a request that proves who makes it, where the scheme says
// which that is.
func (s Scheme) credentials(r *http.Request) string {
	switch s.Type {
	case "http", "openIdConnect":
		return r.Header.Get("Authorization")
	case "apiKey":
		return s.apiKey(r)
	case "mutualTLS":
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			return string(r.TLS.PeerCertificates[0].Raw)
		}
	}
	return ""
}

// apiKey returns the key of a request, where the scheme is one of keys.
func (s Scheme) apiKey(r *http.Request) string {
	switch s.In {
	case "header":
		return r.Header.Get(s.Parameter)
	case "query":
		return r.URL.Query().Get(s.Parameter)
	case "cookie":
		if c, err := r.Cookie(s.Parameter); err == nil {
			return c.Value
		}
	}
	return ""
}

// remoteAddress returns the address that a request comes from. Headers that a proxy
// sets are not believed: a client can set them too.
func remoteAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// throttledBy returns what of an address is counted: an IPv6 client has a whole /64.
func throttledBy(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().Is4() {
		return address
	}
	p, _ := a.WithZone("").Prefix(64) // it has that many bits
	return p.String()
}
