//go:build !ezapi_testclock

package server

import "time"

// clock tells the server's time.
func clock() time.Time { return time.Now() }
