package catalog_test

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// A time is what RFC 3339 calls one, and nothing that looks like it.
func TestDecodeTimes(t *testing.T) {
	for text, want := range map[string]string{
		"2030-01-31T12:00:00Z": "2030-01-31T12:00:00Z", "2030-01-31t12:00:00.5z": "2030-01-31T12:00:00.5Z",
		"2030-01-31T12:00:00+05:30": "2030-01-31T06:30:00Z",
		"2030-01-31T9:00:00Z":       "", "2030-01-31T12:00:00,5Z": "", "2030-01-31T12:00:00+24:00": "",
		"2030-01-31T12:00:00+00:60": "", "2030-01-31T12:00:60Z": "", "2030-02-30T12:00:00Z": "", "2030-01-31": "",
	} {
		key, err := catalog.Decode[catalog.Key]([]byte(`{"name":"k","expires_at":"` + text + `"}`))
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", text, err)
		} else if err == nil && key.ExpiresAt.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s is %v, want %s", text, key.ExpiresAt, want)
		}
	}
}
