package httpapi_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
)

// from tells a service from which address a request of a test comes.
func from(r *http.Request) string { return r.Header.Get("X-Test-Address") }

// An address that fails to authenticate again and again is refused for a while, and
// nobody else is.
func TestFailedAuthenticationsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, ezapi.Config{}, &httpapi.Options{ClientAddress: from})
		const mallory, alice = "192.0.2.66", "192.0.2.1"
		s.must(http.StatusOK, viewer, "GET", "/keys", nil, "X-Test-Address", mallory) // known as valid
		for i := range 20 {
			s.do("guess-"+strconv.Itoa(i), "GET", "/keys", nil, "X-Test-Address", mallory).
				problem(t, http.StatusUnauthorized, "unauthenticated")
		}
		refused := s.do("guess-20", "GET", "/keys", nil, "X-Test-Address", mallory)
		refused.problem(t, http.StatusTooManyRequests, "throttled")
		if after := refused.Header.Get("Retry-After"); after != "3" {
			t.Errorf("Retry-After %q, want 3", after)
		}
		// A guess that is right is no use now, so that guessing does not go on.
		s.do(admin, "GET", "/keys", nil, "X-Test-Address", mallory).problem(t, http.StatusTooManyRequests, "throttled")
		// Who was known before shares the address, and is not shut out.
		s.must(http.StatusOK, viewer, "GET", "/keys", nil, "X-Test-Address", mallory)
		s.must(http.StatusOK, admin, "GET", "/keys", nil, "X-Test-Address", alice)
		s.must(http.StatusOK, nobody, "GET", "/healthz", nil, "X-Test-Address", mallory)

		time.Sleep(3 * time.Second)
		s.do("guess-21", "GET", "/keys", nil, "X-Test-Address", mallory).problem(t, http.StatusUnauthorized,
			"unauthenticated")
		s.do("guess-22", "GET", "/keys", nil, "X-Test-Address", mallory).problem(t, http.StatusTooManyRequests, "throttled")
		time.Sleep(time.Minute)
		s.must(http.StatusOK, admin, "GET", "/keys", nil, "X-Test-Address", mallory)
	})
}

// cookies is an Auth that knows callers by a cookie, as docs/embedding.md shows one.
func cookies(describe bool) httpapi.Auth {
	auth := httpapi.AuthFunc(func(r *http.Request) (httpapi.Caller, error) {
		if c, err := r.Cookie("SESSION"); err != nil || c.Value != "good" {
			return httpapi.Caller{}, httpapi.ErrUnauthenticated
		}
		return httpapi.Caller{Role: httpapi.Admin}, nil
	})
	if !describe {
		return auth
	}
	return httpapi.WithScheme(auth, httpapi.Scheme{Type: "apiKey", In: "cookie", Parameter: "SESSION"})
}

// Guesses are limited whatever proves who a caller is, also after somebody was let in. Who was known
// before is told from a guess where the Auth says what is guessed.
func TestFailedAuthenticationsByAnOwnAuth(t *testing.T) {
	for _, tc := range []struct {
		name      string
		described bool
		known     int // what the good one is answered while its address is limited
	}{{"described", true, http.StatusOK}, {"not described", false, http.StatusTooManyRequests}} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t, ezapi.Config{}, nil)
			s.api = httpapi.New(s.plane, cookies(tc.described), nil)
			s.must(http.StatusOK, nobody, "GET", "/keys", nil, "Cookie", "SESSION=good")
			refused := 0
			for i := range 100 {
				a := s.do(nobody, "GET", "/keys", nil, "Cookie", "SESSION=guess-"+strconv.Itoa(i), "Authorization", "Basic x")
				if a.StatusCode == http.StatusTooManyRequests {
					refused++
				}
			}
			if refused < 75 {
				t.Errorf("%d of 100 guesses were refused unseen", refused)
			}
			s.must(tc.known, nobody, "GET", "/keys", nil, "Cookie", "SESSION=good")
		})
	}
}

// An IPv6 client has many addresses, and they count as one.
func TestFailedAuthenticationsOfANetwork(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{ClientAddress: from})
	for i := range 20 {
		s.do("guess", "GET", "/keys", nil, "X-Test-Address", "2001:db8:1:2::"+strconv.Itoa(i))
	}
	s.do("guess", "GET", "/keys", nil, "X-Test-Address", "2001:db8:1:2:ffff::1").problem(t,
		http.StatusTooManyRequests, "throttled")
	s.do("guess", "GET", "/keys", nil, "X-Test-Address", "2001:db8:1:3::1").problem(t, http.StatusUnauthorized,
		"unauthenticated")
}

// What a client says of its address in a header is not believed.
func TestForwardedAddressesAreNotBelieved(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for i := range 20 {
		s.do("guess", "GET", "/keys", nil, "X-Forwarded-For", "192.0.2."+strconv.Itoa(i))
	}
	s.do("guess", "GET", "/keys", nil, "X-Forwarded-For", "192.0.2.99").problem(t, http.StatusTooManyRequests, "throttled")
}

// Who is refused leaves a line in the log: from where, at what, and never the token.
func TestRefusalsAreLogged(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{ClientAddress: from})
	const guess = "a-token-that-nobody-may-read-in-a-log"
	for _, tc := range []struct {
		token, method, path string
		status              int
		words               []string
	}{
		{guess, "GET", "/keys", http.StatusUnauthorized, []string{"level=WARN", "not authenticated", `route="GET /keys"`, "192.0.2.7"}},
		{nobody, "POST", "/models", http.StatusUnauthorized, []string{"level=WARN", "not authenticated", `route="POST /models"`, "192.0.2.7"}},
		{
			viewer, "DELETE", "/keys/1", http.StatusForbidden,
			[]string{"level=WARN", "refused by its role", `route="DELETE /keys/{id}"`, "actor=viewer:", "needs=admin", "192.0.2.7"},
		},
		{balancer, "GET", "/logs", http.StatusForbidden, []string{"level=WARN", "actor=balancer:", "needs=viewer"}},
	} {
		before := len(s.log.String())
		a := s.must(tc.status, tc.token, tc.method, tc.path, nil, "X-Test-Address", "192.0.2.7")
		line := s.log.String()[before:]
		for _, word := range append(tc.words, "request_id="+a.Header.Get("X-Request-ID")) {
			if !strings.Contains(line, word) {
				t.Errorf("%s %s: no %s in the log: %q", tc.method, tc.path, word, line)
			}
		}
		if strings.Count(line, "\n") != 1 || tc.token != nobody && strings.Contains(line, tc.token) {
			t.Errorf("%s %s: logged %q", tc.method, tc.path, line)
		}
	}
	for range 18 {
		s.do(guess, "GET", "/keys", nil, "X-Test-Address", "192.0.2.7")
	}
	before := len(s.log.String())
	for range 50 {
		s.must(http.StatusTooManyRequests, guess, "GET", "/keys", nil, "X-Test-Address", "192.0.2.7")
	}
	if more := s.log.String()[before:]; more != "" {
		t.Errorf("who is limited still fills the log: %q", more)
	}
	if !strings.Contains(s.log.String(), "too often") || strings.Contains(s.log.String(), guess) {
		t.Error("the log does not say that the address is refused, or holds a token")
	}
}

// An own Auth says in its own words how to authenticate, or nothing.
func TestSchemes(t *testing.T) {
	refuse := httpapi.AuthFunc(func(*http.Request) (httpapi.Caller, error) {
		return httpapi.Caller{},
			httpapi.ErrUnauthenticated
	})
	for _, tc := range []struct {
		name              string
		auth              httpapi.Auth
		challenge, remedy string
		scheme            object // in the OpenAPI document
		schemeName        string
	}{
		{
			"tokens", httpapi.Tokens(httpapi.TokenList{}), `Bearer realm="ezapi"`, "Authorization: Bearer TOKEN",
			object{"type": "http", "scheme": "bearer"}, "bearer",
		},
		{"an own one that says nothing", refuse, "", "documentation of this server", nil, ""},
		{
			"an own one", httpapi.WithScheme(refuse, httpapi.Scheme{
				Name: "session", Type: "apiKey", In: "cookie", Parameter: "SESSION", Challenge: "Session",
				Remedy: "sign in at /login",
			}), "Session", "sign in at /login", object{"type": "apiKey", "in": "cookie", "name": "SESSION"}, "session",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t, ezapi.Config{}, nil)
			s.api = httpapi.New(s.plane, tc.auth, nil)
			a := s.do(nobody, "GET", "/keys", nil)
			p := a.problem(t, http.StatusUnauthorized, "unauthenticated")
			if got := a.Header.Get("WWW-Authenticate"); got != tc.challenge || !strings.Contains(p.Detail, tc.remedy) {
				t.Errorf("challenge %q, detail %q", got, p.Detail)
			}
			if said := p.Title + p.Detail; tc.schemeName != "bearer" && strings.Contains(strings.ToLower(said), "token") {
				t.Errorf("it speaks of tokens: %s", said)
			}
			doc := s.document()
			schemes, _ := doc["components"].(object)["securitySchemes"].(object)
			security, _ := doc["paths"].(object)["/keys"].(object)["get"].(object)["security"].([]any)
			if tc.scheme == nil {
				if schemes != nil || security != nil {
					t.Errorf("documented are %v and %v", schemes, security)
				}
				return
			}
			shows(t, schemes[tc.schemeName].(object), tc.scheme)
			if len(security) != 1 || security[0].(object)[tc.schemeName] == nil {
				t.Errorf("security %v", security)
			}
		})
	}
}
