package catalog_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// hostileURLs lead, or could lead, to this machine, to this network, or to who
// hands out credentials there; PORT is where the test listens.
func hostileURLs() []string {
	return []string{
		"http://api.openai.com/v1", "https://localhost", "https://LOCALHOST:PORT/v1", "https://localhost.:PORT",
		"https://a.b.localhost:PORT",
		"https://localhost.localdomain", "https://127.0.0.1:PORT", "https://127.1:PORT", "https://127.0.1:PORT",
		"https://2130706433:PORT",
		"https://0x7f000001:PORT", "https://0x7f.0.0.1:PORT", "https://0x7f.1:PORT", "https://0177.0.0.1:PORT",
		"https://017700000001:PORT",
		"https://127.0.0.01:PORT", "https://0:PORT", "https://0.0.0.0:PORT", "https://127.0.0.1.:PORT",
		"https://127.255.255.254:PORT",
		"https://１２７.0.0.１:PORT/", "https://127.0.0。1:PORT", "https://127。0。0。1:PORT", "https://127．0．0．1:PORT",
		"https://127｡0｡0｡1:PORT",
		"https://①②⑦.⓪.⓪.①:PORT", "https://ｌｏｃａｌｈｏｓｔ:PORT", "https://loc\u00adalhost:PORT",
		"https://local\u200dhost:PORT", "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT",
		"https://𝟏𝟐𝟕.0.0.1:PORT", "https://example.com。evil", "https://bücher.example", "https://еxample.com",
		"https://%31%32%37.0.0.1:PORT",
		"https://127.0.0.1%2eexample.com:PORT", "https://[::1]:PORT", "https://[::]:PORT",
		"https://[0:0:0:0:0:0:0:1]:PORT", "https://[::ffff:127.0.0.1]:PORT",
		"https://[::ffff:7f00:1]:PORT", "https://[::ffff:0:127.0.0.1]:PORT", "https://[::127.0.0.1]:PORT",
		"https://[64:ff9b::127.0.0.1]:PORT", "https://[64:ff9b:1::7f00:1]:PORT",
		"https://[2002:7f00:1::]:PORT", "https://[2001:0:7f00:1::]", "https://[2001:db8::1]", "https://[3fff::1]",
		"https://[100::1]",
		"https://[fe80::1]", "https://[fe80::1%25lo]:PORT", "https://[::1%25lo]:PORT", "https://[fc00::1]",
		"https://[fd00:ec2::254]",
		"https://[fec0::1]", "https://[ff02::1]", "https://[5f00::1]", "https://[4000::1]", "https://[::1",
		"https://::1:PORT",
		"https://10.0.0.1", "https://172.16.0.1", "https://172.31.255.255", "https://192.168.0.1",
		"https://169.254.169.254/latest/meta-data",
		"https://169.254.170.2", "https://100.64.0.1", "https://100.100.100.200", "https://168.63.129.16",
		"https://192.0.0.192",
		"https://192.0.2.1", "https://198.18.0.1", "https://198.51.100.7", "https://203.0.113.9",
		"https://224.0.0.1", "https://240.0.0.1", "https://255.255.255.255",
		"https://metadata.google.internal", "https://metadata.goog", "https://a.metadata.goog", "https://metadata",
		"https://instance-data.ec2.internal",
		"https://kubernetes.default.svc", "https://db.prod.svc", "https://db.prod.svc.cluster.local",
		"https://x.cluster", "https://printer.local",
		"https://router.lan", "https://nas.home.arpa", "https://x.intranet", "https://x.corp", "https://x.home",
		"https://x.private", "https://db.service.consul",
		"https://host.docker.internal", "https://x.test", "https://x.invalid", "https://abc.onion",
		"https://kubernetes.default", "https://db.prod", "https://redis.default.", "https://vault.staging",
		"https://nas.fritz",
		"https://1.0.0.127.in-addr.arpa", "https://1.0.ip6.arpa", "https://xn--a.com", "https://xn--.com",
		"https://XN--a.com",
		"https://xn--abc.com", "https://a.xn--zz.com", "https://postgres", "https://my_service.example.com",
		"https://user@example.com", "https://user:pw@example.com", "https://@example.com",
		"https://example.com@127.0.0.1:PORT", "https://127.0.0.1:PORT@example.com",
		"https://example.com/?key=1", "https://example.com/v1?", "https://example.com/#f",
		"https://example.com/v1#", "https://example.com/a b",
		"https://example.com/a\tb", "https://exa mple.com", "https://example.com\\@127.0.0.1:PORT",
		"https:\\\\127.0.0.1:PORT", "https:/127.0.0.1:PORT", "https:127.0.0.1:PORT",
		"https:///127.0.0.1:PORT", "//127.0.0.1:PORT", "127.0.0.1:PORT", "https://example.com:",
		"https://example.com:0", "https://example.com:99999", "https://example.com:+80",
		"https://example.com:80:PORT", "https://", "https://.", "https://..", "https://.example.com",
		"https://example..com", "https://-example.com", "https://example-.com",
		"ftp://example.com", "file:///etc/passwd", "gopher://127.0.0.1:PORT", "unix:///var/run/docker.sock",
		"javascript:alert(1)", "data:text/plain,x",
		"https://example.com/\u202e", "https://" + strings.Repeat("a", 64) + ".com",
		"https://" + strings.Repeat("a.", 140) + "com", "https://example.com/" + strings.Repeat("a", 2048),
	}
}

func goodURLs() []string {
	return []string{
		"https://api.openai.com/v1", "https://api.openai.com", "https://api.openai.com/",
		"https://api.openai.com:8443/v1", "HTTPS://API.OPENAI.COM/v1",
		"https://api.anthropic.com", "https://generativelanguage.googleapis.com/v1beta",
		"https://europe-west4-aiplatform.googleapis.com", "https://bedrock-runtime.eu-central-1.amazonaws.com",
		"https://my-resource.openai.azure.com", "https://my-resource.openai.azure.com/openai/deployments/gpt-4o",
		"https://api.deepseek.com/v1", "https://dashscope.aliyuncs.com/compatible-mode/v1",
		"https://open.bigmodel.cn/api/paas/v4", "https://api.moonshot.cn/v1", "https://xn--bcher-kva.ch/v1",
		"https://xn--fsqu00a.xn--fiqs8s", "https://example.com./v1",
		"https://a.b.c.d.e.example.com", "https://1.example.com", "https://127.0.0.1.nip.io", "https://8.8.8.8/",
		"https://1.1.1.1:443", "https://[2606:4700::1111]/", "https://[2001:4860:4860::8888]:443/v1",
		"https://example.com/v1/%7Euser", "https://example.com/a,b;c=d:e", "https://example.com//v1",
		"https://test.example.com", "https://local.example.com", "https://localhost.example.com",
		"https://internal-api.example.com", "https://example.services", "https://x.ai", "https://fal.run/v1",
		"https://gateway.app", "https://api.dev", "https://my-app.fly.dev", "https://x.github.io", "https://a--b.example.com",
		"https://r3---sn-4g5e.googlevideo.com", "https://xn--mnchen-3ya.de/v1", "https://XN--MNCHEN-3YA.de",
	}
}

// A provider takes a base_url only where what is dialled is what was checked.
func TestUpstreamCorpus(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	hostile, good := hostileURLs(), goodURLs()
	if len(hostile) < 90 || len(good) < 30 {
		t.Fatalf("%d hostile and %d good forms", len(hostile), len(good))
	}
	for _, u := range hostile {
		_, err := tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai", BaseURL: u})
		var field *catalog.FieldError
		if !errors.As(err, &field) || field.Field != "base_url" {
			t.Errorf("%q: %v; want an error about base_url", u, err)
		}
		if err := catalog.CheckUpstreamURL(u, catalog.PublicOnly); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%q by the exported rule: %v", u, err)
		}
	}
	for _, u := range good {
		p, err := tables.Providers.Create(ctx, catalog.Provider{Name: u, Type: "openai", BaseURL: u})
		if err != nil || p.BaseURL != u {
			t.Errorf("%q: %v; want it as it is", u, err)
		}
	}
}

// The dialer refuses what a name leads to, whatever the URL looked like: nothing
// that listens on loopback sees a connection, not even when the rule for the URL is
// left out.
func TestDialerReachesNothingPrivate(t *testing.T) {
	var seen atomic.Int64
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	server.Listener.Close()
	server.Listener = countingListener{listener, &seen}
	server.StartTLS()
	defer server.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())

	// Every name leads to loopback here, as after a rebinding.
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn,
		error) {
		return nil, errors.New("no DNS in tests")
	}}
	dialer := &net.Dialer{Timeout: time.Second, Control: catalog.DialControl, Resolver: resolver}
	client := &http.Client{Timeout: 2 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if _, err := netip.ParseAddr(host); err != nil {
				host = "127.0.0.1"
			}
			return dialer.DialContext(ctx, network, net.JoinHostPort(host, port))
		}}}
	dialled := 0
	for _, u := range append(hostileURLs(), "https://rebound.example.com:PORT/v1") {
		u = strings.ReplaceAll(u, "PORT", port)
		parsed, err := url.Parse(u)
		if err != nil || parsed.Host == "" || !strings.HasPrefix(parsed.Scheme, "http") {
			continue // not even a request can be made
		}
		if a, err := netip.ParseAddr(parsed.Hostname()); err == nil && catalog.PublicAddress(a) {
			t.Errorf("%s has a public address", u)
			continue
		}
		dialled++
		resp, err := client.Get(u)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s was reached", u)
		}
	}
	if n := seen.Load(); n != 0 || dialled < 60 {
		t.Errorf("%d connections of %d attempts reached loopback", n, dialled)
	}
}

type countingListener struct {
	net.Listener
	seen *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.seen.Add(1)
	}
	return c, err
}

func TestDialControl(t *testing.T) {
	for address, public := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true, "[::ffff:8.8.8.8]:443": true,
		"127.0.0.1:443": false, "[::1]:443": false, "[::ffff:127.0.0.1]:443": false, "[fe80::1%lo]:443": false,
		"10.0.0.1:80": false, "x:80": false, "8.8.8.8": false, "": false,
	} {
		if err := catalog.DialControl("tcp", address, nil); (err == nil) != public || err != nil && !errors.Is(err,
			catalog.ErrPrivateAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := catalog.DialControl("unix", "/var/run/docker.sock", nil); !errors.Is(err, catalog.ErrPrivateAddress) {
		t.Errorf("a socket of this machine: %v", err)
	}
}

// google_location, google_project and the options that are part of a host are
// words: nothing in them can end the host and begin another.
func TestHostParts(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	evil := []string{
		"evil.example/#", "evil.example", "a/b", "a@b", "a:b", "a b", "a?b", "a#b", "a%2eb", "a\\b", "a\tb", "..",
		"ａ", "é", "us-central1.", "A", "_", strings.Repeat("a", 64), "a\x00b", "us.evil.com/",
	}
	for _, v := range evil {
		for field, p := range map[string]catalog.Provider{
			"google_location": {Name: "p", Type: "vertex", GoogleLocation: v},
			"options.region":  {Name: "p", Type: "bedrock", Options: map[string]any{"region": v}},
		} {
			var got *catalog.FieldError
			if _, err := tables.Providers.Create(ctx, p); !errors.As(err, &got) || got.Field != field {
				t.Errorf("%s %q: %v", field, v, err)
			}
		}
		if v == "a:b" || v == "evil.example" || v == ".." || v == "us-central1." {
			continue // a project may be domain-scoped: example.com:project
		}
		var got *catalog.FieldError
		if _, err := tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "vertex",
			GoogleProject: v}); !errors.As(err, &got) || got.Field != "google_project" {
			t.Errorf("google_project %q: %v", v, err)
		}
	}
	for i, p := range []catalog.Provider{
		{Type: "vertex", GoogleLocation: "us-central1", GoogleProject: "my-project-1"},
		{Type: "vertex", GoogleLocation: "europe-west4", GoogleProject: "example.com:my-project"},
		{Type: "bedrock", Options: map[string]any{"region": "eu-central-1", "anything": "evil.example/#"}},
		{Type: "openai", Options: map[string]any{"region": 5}},
	} {
		p.Name = string(rune('a' + i))
		if _, err := tables.Providers.Create(ctx, p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
