package server

import (
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog/health"
)

// healthRules are the thresholds by which providers are judged: off, or a list such as
// first_hold=1m,attempts=20 of those that differ from the defaults.
type healthRules health.Options

func (r *healthRules) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		r.Disabled = true
		return nil
	}
	times := map[string]*time.Duration{
		"window": &r.Window, "slot": &r.Slot, "first_hold": &r.FirstHold, "longest_hold": &r.LongestHold,
		"longest_rate": &r.LongestRate, "probe_every": &r.ProbeEvery, "interval": &r.Interval,
	}
	counts := map[string]*int64{
		"attempts": &r.Attempts, "percent": &r.Percent, "successes": &r.Successes, "probe": &r.Probe,
	}
	for item := range strings.SplitSeq(string(text), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		if at := times[name]; at != nil {
			d, err := time.ParseDuration(value)
			if err != nil || d < 100*time.Millisecond || d > 24*time.Hour {
				return expectation("must have durations from 100ms to 24h, such as first_hold=30s; " + name + " is none")
			}
			*at = d
			continue
		}
		at := counts[name]
		if at == nil {
			return expectation("must be off, or a list such as first_hold=30s,attempts=10 of: window, slot, " +
				"first_hold, longest_hold, longest_rate, probe_every, interval, attempts, percent, successes, probe")
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 || n > 1_000_000 || name == "percent" && n > 100 {
			return expectation("must have whole numbers from 1, such as attempts=10, and at most percent=100; " +
				name + " is none")
		}
		*at = n
	}
	return nil
}
