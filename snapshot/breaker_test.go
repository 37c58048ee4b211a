package snapshot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/snapshot"
)

func targetOf(provider int64, model string) snapshot.Target {
	return snapshot.Target{Provider: &snapshot.Provider{ProviderDoc: snapshot.ProviderDoc{ID: provider}},
		UpstreamModel: model}
}

// What has failed comes last for a second, longer each time, and as long as the provider asked.
func TestBreaker(t *testing.T) {
	now := time.Now()
	b := snapshot.NewBreaker(&snapshot.BreakerOptions{Clock: func() time.Time { return now }})
	order := func() string {
		targets := []snapshot.Target{targetOf(1, "m"), targetOf(2, "m"), targetOf(1, "n")}
		b.Order(targets)
		var all []string
		for _, t := range targets {
			all = append(all, fmt.Sprintf("%d%s", t.Provider.ID, t.UpstreamModel))
		}
		return strings.Join(all, " ")
	}
	want := func(what, want string) {
		t.Helper()
		if got := order(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	// closes returns after how long the target is tried first again.
	closes := func() time.Duration {
		began := now
		for order() != "1m 2m 1n" {
			now = now.Add(100 * time.Millisecond)
		}
		return now.Sub(began)
	}
	want("at first", "1m 2m 1n")
	for i, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		b.Failed(targetOf(1, "m"), 0)
		b.Failed(targetOf(1, "m"), 0) // another request, that was on its way
		want("failed", "2m 1n 1m")
		if got := closes(); got != wait*time.Second {
			t.Errorf("failure %d: closes after %s, want %s", i+1, got, wait*time.Second)
		}
	}
	b.Succeeded(targetOf(1, "m"))
	b.Failed(targetOf(1, "m"), 0)
	if got := closes(); got != time.Second {
		t.Errorf("after a success: %s", got)
	}
	b.Succeeded(targetOf(1, "m"))
	b.Failed(targetOf(1, "m"), 12*time.Second)
	b.Failed(targetOf(1, "m"), 0) // does not shorten it
	if got := closes(); got != 12*time.Second {
		t.Errorf("asked to wait: %s", got)
	}
	b.Failed(targetOf(1, "m"), time.Hour)
	if got := closes(); got != 30*time.Second {
		t.Errorf("asked to wait for an hour: %s", got)
	}
	b.Failed(targetOf(1, "m"), 20*time.Second)
	b.Failed(targetOf(2, "m"), 10*time.Second)
	b.Failed(targetOf(1, "n"), 15*time.Second)
	want("all failed", "2m 1n 1m")
	b.Succeeded(targetOf(1, "m"))
	want("works again", "1m 2m 1n")
}

// Whatever failed: no target is lost, those that work keep their order before the others, and the breaker
// knows no more than it may.
func TestBreakerLosesNoTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		b := snapshot.NewBreaker(&snapshot.BreakerOptions{Clock: func() time.Time { return now }})
		failed := map[int64]bool{}
		for range rapid.IntRange(0, 5).Draw(t, "failures") {
			id := rapid.Int64Range(0, 5).Draw(t, "failed")
			b.Failed(targetOf(id, "m"), time.Duration(rapid.IntRange(0, 60).Draw(t, "wait"))*time.Second)
			failed[id] = true
		}
		ids := rapid.SliceOfNDistinct(rapid.Int64Range(0, 9), 0, 8, rapid.ID).Draw(t, "targets")
		var targets []snapshot.Target
		for _, id := range ids {
			targets = append(targets, targetOf(id, "m"))
		}
		b.Order(targets)
		var got, want []int64
		for _, t := range targets {
			got = append(got, t.Provider.ID)
		}
		for _, id := range ids {
			if !failed[id] {
				want = append(want, id)
			}
		}
		if !slices.Equal(got[:len(want)], want) {
			t.Fatalf("%v of %v, where %v failed", got, ids, failed)
		}
		slices.Sort(got)
		slices.Sort(ids)
		if !slices.Equal(got, ids) {
			t.Fatalf("lost a target: %v of %v", got, ids)
		}
	})
}

func TestBreakerIsBounded(t *testing.T) {
	now := time.Now()
	b := snapshot.NewBreaker(&snapshot.BreakerOptions{Clock: func() time.Time { return now }})
	comesLast := func(id int64) bool {
		targets := []snapshot.Target{targetOf(id, "m"), targetOf(-1, "m")}
		b.Order(targets)
		return targets[1].Provider.ID == id
	}
	for id := range int64(10_001) {
		b.Failed(targetOf(id, "m"), 0)
	}
	if !comesLast(9_999) || comesLast(10_000) {
		t.Error("knows more than 10,000, or fewer")
	}
	now = now.Add(time.Minute)
	if b.Failed(targetOf(10_000, "m"), 0); !comesLast(10_000) {
		t.Error("does not forget what is over")
	}
}
