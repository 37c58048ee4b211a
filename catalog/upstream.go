package catalog

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// specialNets are the ranges that netip's own predicates do not name and that
// no public service lives in (IANA special-purpose address registries), along with
// the IPv6 forms in which an IPv4 address can hide.
func specialNets() []netip.Prefix {
	texts := []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	}
	nets := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		nets[i] = netip.MustParsePrefix(t)
	}
	return nets
}

// isPublic reports whether an address is one that the Internet routes.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, n := range specialNets() {
		if n.Contains(a) {
			return false
		}
	}
	return true
}

// checkUpstreamURL accepts an address that requests, and with them a secret,
// may be sent to. Private upstreams have to be allowed. What a public name
// resolves to is only known to the balancer that connects.
func checkUpstreamURL(errs *FieldErrors, field, text string, private bool) {
	u, err := url.Parse(text)
	if err != nil || len(text) > 2048 || u.Opaque != "" || u.Hostname() == "" || !printable(text) || (u.Scheme != "https" && u.Scheme != "http") {
		errs.add(field, "must be a URL such as https://api.example.com/v1")
		return
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		errs.add(field, "must have no user, password, query or fragment; the credential belongs into api_key")
		return
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			errs.add(field, "must have a port from 1 to 65535, or none")
			return
		}
	}
	if private {
		return
	}
	if u.Scheme != "https" {
		errs.add(field, "must be an https URL; plain http only where private upstreams are allowed")
		return
	}
	if !publicHost(u.Hostname()) {
		errs.add(field, "must name a public host; loopback, private, link-local and other special addresses only where private upstreams are allowed")
	}
}

// publicHost reports whether a host of a URL can be a public one.
func publicHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return isPublic(a)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	labels := strings.Split(host, ".")
	top := labels[len(labels)-1]
	switch {
	case len(labels) < 2:
		return false // a name of this network
	case top == "localhost", top == "local", top == "internal", top == "lan", top == "test", top == "invalid", strings.HasSuffix(host, ".home.arpa"):
		return false
	case strings.Trim(top, "0123456789") == "", strings.HasPrefix(top, "0x"):
		return false // an IPv4 address in one of the forms that only inet_aton reads
	}
	return true
}
