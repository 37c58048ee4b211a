package logbuf_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

var healthNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// tally counts entries and returns what the notes say of them.
func tally(t rapid.TB, entries ...logbuf.Entry) map[logbuf.Upstream][]logbuf.SlotTally {
	t.Helper()
	var c logbuf.HealthCounter
	c.Count(healthNow, entries...)
	notes, err := c.Notes(uuid.New(), healthNow)
	if err != nil {
		t.Fatal(err)
	}
	tallies, bad := logbuf.ReadHealthNotes(notes)
	if bad != 0 {
		t.Fatalf("%d bad notes", bad)
	}
	return tallies
}

func failure(class logbuf.FailureClass) logbuf.Failure {
	return logbuf.Failure{ProviderID: 1, UpstreamModel: "m", Class: class}
}

// What the attempts of one entry come to, at provider 1.
func TestAttempts(t *testing.T) {
	listed := func(status int, failures ...logbuf.Failure) logbuf.Entry {
		return logbuf.Entry{ProviderID: 1, UpstreamModel: "m", Status: status, Failures: failures}
	}
	for name, c := range map[string]struct {
		entry    logbuf.Entry
		attempts int64
		failures int64
	}{
		"success":                             {listed(200), 1, 0},
		"refused before a provider was tried": {logbuf.Entry{Status: 503}, 0, 0},
		"an answer that broke off": {logbuf.Entry{ProviderID: 1, UpstreamModel: "m", Status: 200,
			Error: "broke off"}, 0, 0},
		"the client's fault":               {listed(400), 0, 0},
		"too many requests, of the client": {listed(429), 0, 0},
		"an error that was passed on":      {listed(500), 1, 1},
		"an error that is listed, too":     {listed(500, failure(logbuf.FailedServer)), 1, 1},
		"one that failed, then one that works": {listed(200,
			logbuf.Failure{ProviderID: 2, UpstreamModel: "m", Class: "server"}), 1, 0},
		"failed, then tried again": {listed(500, failure("server"),
			logbuf.Failure{ProviderID: 2, Class: "server"}), 2, 2},
		"client and canceled":      {listed(499, failure("client"), failure("canceled")), 0, 0},
		"network at one balancer":  {listed(502, failure("network"), failure("timeout")), 1, 1},
		"network, not listed":      {listed(502), 0, 0},
		"a failure of no provider": {listed(400, logbuf.Failure{Class: "server"}), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.entry.Time = healthNow
			var sum logbuf.Tally
			for _, s := range tally(t, c.entry)[logbuf.Upstream{ProviderID: 1, Model: "m"}] {
				sum.Add(&s.Tally)
			}
			if sum.Attempts() != c.attempts || sum.Failures() != c.failures {
				t.Errorf("%d attempts, %d failed; want %d, %d", sum.Attempts(), sum.Failures(), c.attempts, c.failures)
			}
		})
	}
}

// The time of the entry says which slot an attempt is of, and whether it still counts.
func TestAttemptsCountByTheirTime(t *testing.T) {
	entry := func(age time.Duration) logbuf.Entry {
		return logbuf.Entry{ProviderID: 1, UpstreamModel: "m", Status: 200, Time: healthNow.Add(-age)}
	}
	got := tally(t, entry(0), entry(9*time.Second), entry(11*time.Second), entry(2*time.Minute),
		entry(2*time.Minute+time.Second), entry(time.Hour), entry(-9*time.Second), entry(-11*time.Second))
	want := map[time.Duration]int64{0: 2, 10: 1, 20: 1, 120: 1}
	slots := map[time.Duration]int64{}
	for _, s := range got[logbuf.Upstream{ProviderID: 1, Model: "m"}] {
		slots[healthNow.Sub(s.Slot)/time.Second] = s.Succeeded
	}
	if diff := cmp.Diff(want, slots); diff != "" {
		t.Errorf("slots by age (-want +got):\n%s", diff)
	}
}

func TestResetIsThatOfTheProvider(t *testing.T) {
	e := logbuf.Entry{Time: healthNow, Failures: []logbuf.Failure{
		{ProviderID: 1, UpstreamModel: "m", Class: "rate", LatencyMS: 1000, RetryAfterMS: 30_000},
		{ProviderID: 1, UpstreamModel: "m", Class: "rate", RetryAfterMS: 1000},
		{ProviderID: 1, UpstreamModel: "m", Class: "server", RetryAfterMS: 90_000},
		{ProviderID: 2, UpstreamModel: "m", Class: "rate", RetryAfterMS: logbuf.MaxMillis},
	}}
	got := tally(t, e)
	for id, want := range map[int64]time.Duration{1: 31 * time.Second, 2: 24 * time.Hour} {
		if at := got[logbuf.Upstream{ProviderID: id, Model: "m"}][0].Reset; !at.Equal(healthNow.Add(want)) {
			t.Errorf("provider %d: %s, want %s later", id, at, want)
		}
	}
}

// Whatever process takes an entry, and in whatever order the notes are read, the sums are the same;
// client and canceled are in none of them, and network is in none while only one balancer reports it.
func TestHealthIsTheSameEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) logbuf.Entry {
			e := logbuf.Entry{
				Time:       healthNow.Add(-time.Duration(rapid.IntRange(0, 119).Draw(t, "age")) * time.Second),
				ProviderID: int64(rapid.IntRange(0, 2).Draw(t, "provider")), UpstreamModel: rapid.SampledFrom([]string{"a",
					"b"}).Draw(t, "model"),
				Status:   rapid.SampledFrom([]int{0, 200, 400, 429, 500, 502}).Draw(t, "status"),
				Balancer: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "balancer"),
			}
			for range rapid.IntRange(0, 3).Draw(t, "failures") {
				e.Failures = append(e.Failures, logbuf.Failure{
					ProviderID: int64(rapid.IntRange(0, 2).Draw(t, "failed")), UpstreamModel: "a",
					Class:        rapid.SampledFrom(logbuf.FailureClasses()).Draw(t, "class"),
					RetryAfterMS: int64(rapid.IntRange(0, 60_000).Draw(t, "wait")),
				})
			}
			return e
		})
		entries := rapid.SliceOfN(draw, 0, 30).Draw(t, "entries")
		counters := make([]logbuf.HealthCounter, 3)
		var notes []logbuf.HealthNote
		for i := range entries {
			counters[rapid.IntRange(0, 2).Draw(t, "process")].Count(healthNow, entries[i])
		}
		for i := range counters {
			some, err := counters[i].Notes(uuid.New(), healthNow)
			if err != nil {
				t.Fatal(err)
			}
			notes = append(notes, some...)
		}
		shuffled := rapid.Permutation(notes).Draw(t, "order")
		got, _ := logbuf.ReadHealthNotes(shuffled)
		want := tally(t, entries...)
		for u, slots := range want {
			networkers := map[string]bool{}
			for i := range entries {
				for _, f := range entries[i].Failures {
					if f.Class == logbuf.FailedNetwork && f.ProviderID == u.ProviderID && f.UpstreamModel == u.Model {
						networkers[entries[i].Balancer] = true
					}
				}
				if entries[i].Status == 502 && entries[i].ProviderID == u.ProviderID && entries[i].UpstreamModel == u.Model {
					networkers[entries[i].Balancer] = true
				}
			}
			var a, b logbuf.Tally
			for i := range slots {
				a.Add(&slots[i].Tally)
			}
			for i := range got[u] {
				b.Add(&got[u][i].Tally)
			}
			if len(slots) != len(got[u]) || a.Attempts() != b.Attempts() || a.Failures() != b.Failures() ||
				!a.Reset.Equal(b.Reset) || a.Widely("rate") != b.Widely("rate") || a.Widely("network") != b.Widely("network") {
				t.Fatalf("%v: one process says %+v, several %+v", u, a, b)
			}
			if a.Failed["client"]+a.Failed["canceled"] > 0 || len(networkers) < 2 && a.Widely("network") {
				t.Fatalf("%v: %+v counts what says nothing", u, a)
			}
		}
	})
}

// Notes are of what has changed, and again of what could not be kept; slots end.
func TestNotesOfWhatChanged(t *testing.T) {
	var c logbuf.HealthCounter
	writer := uuid.New()
	entry := logbuf.Entry{ProviderID: 1, UpstreamModel: "m", Status: 200, Time: healthNow}
	note := func(now time.Time) []logbuf.HealthNote {
		t.Helper()
		notes, err := c.Notes(writer, now)
		if err != nil {
			t.Fatal(err)
		}
		return notes
	}
	c.Count(healthNow, entry)
	first := note(healthNow)
	if len(first) != 1 || !first[0].Slot.Equal(healthNow) || first[0].Writer != writer || len(note(healthNow)) != 0 {
		t.Fatalf("%+v", first)
	}
	c.Again(first)
	if again := note(healthNow); len(again) != 1 || string(again[0].Body) != string(first[0].Body) {
		t.Errorf("again: %+v", again)
	}
	c.Count(healthNow, entry)
	c.Count(healthNow.Add(logbuf.HealthSpan + 2*logbuf.HealthSlot))
	if late := note(healthNow.Add(logbuf.HealthSpan + 2*logbuf.HealthSlot)); len(late) != 0 {
		t.Errorf("of a slot that is over: %+v", late)
	}
}

// What comes from outside is bounded, and a note that cannot be read holds up no other.
func TestHealthIsBounded(t *testing.T) {
	var c logbuf.HealthCounter
	for i := range 5005 {
		c.Count(healthNow, logbuf.Entry{ProviderID: 1, UpstreamModel: fmt.Sprint("m", i), Status: 200, Time: healthNow})
	}
	c.Count(healthNow, logbuf.Entry{ProviderID: 1, UpstreamModel: strings.Repeat("x", 257), Status: 200, Time: healthNow})
	notes, err := c.Notes(uuid.New(), healthNow)
	if err != nil || c.Dropped() != 6 {
		t.Fatalf("%d dropped; %v", c.Dropped(), err)
	}
	spoilt := logbuf.HealthNote{Slot: healthNow, Body: []byte(`[{"provider_id":"x"}]`)}
	odd := logbuf.HealthNote{Slot: healthNow,
		Body: []byte(`[{"provider_id":9,"upstream_model":"m","ok":-5,"failed":{"server":-1,"new":7,"client":7}}]`)}
	huge := logbuf.HealthNote{Slot: healthNow, Body: fmt.Appendf(nil,
		`[{"provider_id":8,"upstream_model":"m","ok":9223372036854775807,"failed":{"server":9223372036854775807}}]`)}
	tallies, bad := logbuf.ReadHealthNotes(slices.Concat([]logbuf.HealthNote{spoilt, odd, huge, huge}, notes))
	if bad != 1 || len(tallies) != 5002 {
		t.Errorf("%d bad, %d upstreams", bad, len(tallies))
	}
	if of := tallies[logbuf.Upstream{ProviderID: 9, Model: "m"}][0]; of.Attempts() != 0 {
		t.Errorf("counts that make no sense: %+v", of)
	}
	if of := tallies[logbuf.Upstream{ProviderID: 8, Model: "m"}][0]; of.Attempts() < of.Failures() || of.Failures() <= 0 {
		t.Errorf("counts that are too large: %d attempts, %d failed", of.Attempts(), of.Failures())
	}
}

// What users make up behind a pattern displaces nothing that is listed by name; what is not listed is not
// counted.
func TestListedUpstreamsHaveRoom(t *testing.T) {
	c := logbuf.HealthCounter{Lists: func(u logbuf.Upstream) (listed, byName bool) {
		return u.ProviderID == 1, u.ProviderID == 1 && strings.HasPrefix(u.Model, "real")
	}}
	for i := range 6000 {
		for id, model := range map[int64]string{1: "made-up-", 2: "unknown-"} {
			c.Count(healthNow, logbuf.Entry{ProviderID: id, UpstreamModel: fmt.Sprint(model, i), Status: 200, Time: healthNow})
		}
	}
	for i := range 5000 {
		c.Count(healthNow, logbuf.Entry{ProviderID: 1, UpstreamModel: fmt.Sprint("real-", i), Status: 200, Time: healthNow})
	}
	notes, err := c.Notes(uuid.New(), healthNow)
	if err != nil || c.Dropped() != 5000+1000 {
		t.Fatalf("%d dropped; %v", c.Dropped(), err)
	}
	tallies, _ := logbuf.ReadHealthNotes(notes)
	listed := 0
	for u := range tallies {
		if strings.HasPrefix(u.Model, "real-") {
			listed++
		}
	}
	if len(tallies) != 5000 || listed != 4000 {
		t.Errorf("%d upstreams, %d of them listed by name", len(tallies), listed)
	}
}

func TestClassOfStatus(t *testing.T) {
	for status, want := range map[int]logbuf.FailureClass{
		400: "client", 401: "auth", 402: "billing", 403: "auth", 404: "client", 408: "timeout", 422: "client", 429: "rate",
		499: "canceled", 500: "server", 502: "server", 503: "overload", 504: "timeout", 529: "overload", 599: "server",
	} {
		if got := logbuf.ClassOfStatus(status); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}
