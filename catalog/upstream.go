package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// ErrPrivateAddress says that an address is none of the public Internet:
// loopback, private, link-local, or special in another way.
var ErrPrivateAddress = errors.New("address is not public")

// PublicAddress reports whether an address is one of the public Internet: not
// loopback, private, link-local, multicast, documentation, translated to or tunnelled
// from IPv4, nor one at which clouds answer with credentials.
func PublicAddress(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	nets := specialIPv4()
	if a.Is6() {
		if !netip.MustParsePrefix("2000::/3").Contains(a) { // all that is handed out for global use
			return false
		}
		nets = specialIPv6()
	}
	for _, n := range nets {
		if netip.MustParsePrefix(n).Contains(a) {
			return false
		}
	}
	return true
}

// specialIPv4 lists the networks that no public service lives in and that
// netip's own predicates do not name (IANA IPv4 special-purpose registry).
func specialIPv4() []string {
	return []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"168.63.129.16/32", // Azure's wire server, which hands out certificates to machines
	}
}

// specialIPv6 lists those within 2000::/3, along with the forms in which an
// IPv4 address can hide.
func specialIPv6() []string {
	return []string{
		"2001::/23",     // Teredo, ORCHID and other protocol assignments
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4
		"3fff::/20",     // documentation
	}
}

// DialControl refuses to connect to an address that is not public. It is for
// net.Dialer.Control, which is called with what a name was resolved to, so that a
// name that passed the rule for base_url cannot lead to a private address
// afterwards. The error wraps [ErrPrivateAddress]. Where private upstreams are
// allowed, leave Control nil. A transport with this dialer must not use a proxy,
// whose address would be checked in place of the upstream's.
func DialControl(network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return fmt.Errorf("dial %s: only TCP and UDP are allowed: %w", network, ErrPrivateAddress)
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil || !PublicAddress(a.Addr()) {
		return fmt.Errorf("dial an upstream: %w; the server's setting for private upstreams allows it", ErrPrivateAddress)
	}
	return nil
}

// CheckUpstreamURL checks an address that requests, and with them a secret, are
// to be sent to, by the rule for Provider.BaseURL. private allows plain http and
// hosts that are not public. What a name resolves to is known only to who
// connects: see [DialControl]. The error wraps [ErrInvalid].
func CheckUpstreamURL(text string, private Privacy) error {
	var errs FieldErrors
	checkUpstreamURL(&errs, "base_url", text, private == AllowPrivate)
	return errs.err()
}

// Privacy says whether upstreams may be private.
type Privacy int

// The values of Privacy.
const (
	PublicOnly   Privacy = iota
	AllowPrivate         // also plain http, and addresses of this machine and this network
)

const maxURL = 2048

// checkUpstreamURL is written so that what is checked is what is dialled: a URL
// is refused where parsers disagree, and a host where a mapping (IDNA) or a
// resolver (inet_aton) could make something else of it.
func checkUpstreamURL(errs *FieldErrors, field, text string, private bool) {
	if len(text) > maxURL {
		errs.add(field, "must have at most %d characters", maxURL)
		return
	}
	for i, r := range text {
		if r <= ' ' || r == 0x7F || strings.ContainsRune("\"<>\\^`{|}", r) {
			errs.add(field, "must not hold spaces, control characters or any of \" < > \\ ^ ` { | }, as byte %d is", i+1)
			return
		}
		if r > 0x7F {
			errs.add(field, "must hold ASCII only; write a host of another alphabet in punycode (xn--…), and "+
				"percent-encode its path")
			return
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Host == "" || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") {
		errs.add(field, "must be a URL such as https://api.example.com/v1")
		return
	}
	if u.User != nil || strings.ContainsAny(text, "?#") {
		errs.add(field, "must have no user, password, query or fragment; the credential belongs into api_key")
		return
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); strings.HasSuffix(u.Host, ":") ||
		u.Port() != "" && (err != nil || n == 0) {
		errs.add(field, "must have a port from 1 to 65535, or none")
		return
	}
	if !hostForm(u.Hostname()) {
		errs.add(field, "must have a host name of letters, digits, dots and hyphens, or an address in its usual form")
		return
	}
	if private {
		return
	}
	if u.Scheme != "https" {
		errs.add(field, "must be an https URL; plain http only where private upstreams are allowed")
		return
	}
	if strings.Contains(u.Hostname(), "_") {
		errs.add(field, "must name a public host, whose name holds no underscore; those of containers only where "+
			"private upstreams are allowed")
		return
	}
	if !publicHost(u.Hostname()) {
		errs.add(field, "must name a public host; loopback, private, link-local and other special addresses only "+
			"where private upstreams are allowed")
	}
}

// hostForm reports whether a host is an IP address, or a name that every
// resolver reads alike. Underscores are for the names of containers.
func hostForm(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Zone() == ""
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !isLabel(label) {
			return false
		}
	}
	return !numeric(host[strings.LastIndexByte(host, '.')+1:])
}

// isLabel reports whether a label in punycode is the form of a label in another alphabet:
// browsers and some HTTP clients convert it back and forth, and must come to the same label.
func isLabel(label string) bool {
	label = strings.ToLower(label)
	if !strings.HasPrefix(label, "xn--") {
		return true
	}
	text, err := idna.Lookup.ToUnicode(label)
	if err != nil || text == label {
		return false
	}
	back, err := idna.Lookup.ToASCII(text)
	return err == nil && back == label
}

// numeric reports whether the last label of a host makes it an IPv4 address in
// one of the forms that only inet_aton reads: 127.1, 0x7f.1, 017700000001.
func numeric(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	hex := strings.ToLower(label)
	return strings.HasPrefix(hex, "0x") && strings.Trim(hex[2:], "0123456789abcdef") == ""
}

// publicHost reports whether a host of a URL can be a public one.
func publicHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return PublicAddress(a)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !strings.Contains(host, ".") {
		return false // a name of this network
	}
	for _, private := range privateSuffixes() {
		if host == private || strings.HasSuffix(host, "."+private) {
			return false
		}
	}
	// A last label that is not delegated is that of a private zone: kubernetes.default, nas.fritz. The
	// dialer is what keeps a name from leading to a private address; here it is told early.
	suffix, delegated := publicsuffix.PublicSuffix(host)
	return delegated || strings.Contains(suffix, ".")
}

// privateSuffixes lists the domains that are not of the public Internet (RFC
// 6761, 6762, 9476), those that networks use as if they were, the names of addresses, and the
// names under which clouds answer with credentials. prod is delegated and not in use: it is
// where service.namespace of a cluster ends.
func privateSuffixes() []string {
	return []string{
		"localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "arpa",
		"test", "invalid", "onion", "alt", "svc", "cluster", "consul", "docker", "prod", "metadata.goog",
	}
}
