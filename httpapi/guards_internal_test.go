package httpapi

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

// However many addresses fail, and however many credentials are good, what is remembered of them is
// bounded, and an address that has used up its room stays limited.
func TestThrottleIsBounded(t *testing.T) {
	limit := FailureLimit{Burst: 2, Refill: time.Hour}
	th := newThrottle(Scheme{}, limit)
	for i := range maxAddresses + 500 {
		th.failed(fmt.Sprint("address ", i))
		th.succeeded(sha256.Sum256([]byte(fmt.Sprint("credentials ", i))))
	}
	if len(th.addresses) > maxAddresses || len(th.good) > maxGood {
		t.Errorf("%d addresses and %d credentials are remembered, want at most %d and %d", len(th.addresses),
			len(th.good), maxAddresses, maxGood)
	}
	const last = "the last address"
	for range 2 {
		th.failed(last)
	}
	if err := th.check(last, credentialsHash{}); err == nil {
		t.Error("the address that failed last is not limited")
	}
	if err := th.check("another address", credentialsHash{}); err != nil {
		t.Errorf("an address that never failed: %v", err)
	}
}

// A warning goes into a header whatever it holds: nothing in it ends the header.
func TestHeaderText(t *testing.T) {
	for text, want := range map[string]string{
		"plain text ~":               "plain text ~",
		"a\r\nSet-Cookie: b\x00\x7f": "a??Set-Cookie: b??",
		"模型 é":                       "?? ?",
		strings.Repeat("é", 5000):    strings.Repeat("?", maxWarningLen),
	} {
		if got := headerText(text); got != want {
			t.Errorf("%.40q becomes %.40q, want %.40q", text, got, want)
		}
	}
}
