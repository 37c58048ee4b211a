package console

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	keySize = 32

	idleTime    = 30 * time.Minute // without a request, after which a session ends
	longestTime = 12 * time.Hour   // of a session
	renewAfter  = time.Minute      // since the cookie was sent last

	// A browser takes a cookie whose name begins with __Host- only over https, for one host and all
	// its paths. Over plain http, which is for one's own machine, another name is used.
	secureCookie   = "__Host-ezapi"
	loopbackCookie = "ezapi-loopback"
)

// sealer seals what a browser keeps for the console. What it opens, it has sealed, for the same use.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (sealer, error) {
	if len(key) != keySize {
		return sealer{}, fmt.Errorf("console: Options.Key must be %d bytes", keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("console: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("console: %w", err)
	}
	return sealer{aead}, nil
}

// seal returns a value as text that nobody else can read or make.
func (s sealer) seal(use string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte("ezapi console "+use))), nil
}

var errNotSealed = errors.New("this was not sealed here")

// open reads into v what seal has made for the same use.
func (s sealer) open(use, text string, v any) error {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return errNotSealed
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte("ezapi console "+use))
	if err != nil {
		return errNotSealed
	}
	return json.Unmarshal(plain, v)
}

// A session is what the cookie of somebody who is signed in holds.
type session struct {
	Token  string    `json:"token,omitempty"`
	Person *person   `json:"person,omitempty"` // instead of a token
	Issued time.Time `json:"issued"`
	Seen   time.Time `json:"seen"` // when the cookie was sent last
}

// sessions reads and writes sessions.
type sessions struct{ sealer }

// of returns the session of a request, if it has one that is not over.
func (s sessions) of(r *http.Request, now time.Time) (session, bool) {
	var found session
	cookie, err := r.Cookie(cookieName(r))
	if err != nil || s.open("session", cookie.Value, &found) != nil {
		return session{}, false
	}
	over := now.Sub(found.Seen) > idleTime || now.Sub(found.Issued) > longestTime
	return found, !over
}

// send gives the browser a session.
func (s sessions) send(w http.ResponseWriter, r *http.Request, v session) error {
	text, err := s.seal("session", v)
	if err == nil {
		http.SetCookie(w, newCookie(r, cookieName(r), text))
	}
	return err
}

// end takes the session away from the browser.
func (s sessions) end(w http.ResponseWriter, r *http.Request) {
	cookie := newCookie(r, cookieName(r), "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

// newCookie returns a cookie that ends with the browser.
func newCookie(r *http.Request, name, value string) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", HttpOnly: true, Secure: !isPlainLoopback(r),
		SameSite: http.SameSiteStrictMode,
	}
}

func cookieName(r *http.Request) string {
	if isPlainLoopback(r) {
		return loopbackCookie
	}
	return secureCookie
}

// isPlainLoopback reports whether the browser asks its own machine over plain http.
func isPlainLoopback(r *http.Request) bool {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return false
	}
	return isLoopback(r.Host)
}
