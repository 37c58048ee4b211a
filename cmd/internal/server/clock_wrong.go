//go:build ezapi_testclock

package server

import (
	"os"
	"strings"
	"time"
)

// clock tells the time of a server whose clock is wrong, and may step: by the duration in the file
// that EZ_TEST_CLOCK names.
func clock() time.Time {
	text, _ := os.ReadFile(os.Getenv("EZ_TEST_CLOCK"))
	offset, _ := time.ParseDuration(strings.TrimSpace(string(text)))
	return time.Now().Add(offset).Round(0) // a wall clock steps; the monotonic reading would not
}
