package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// testLeases tests a publisher that is a [snapshot.Leaser].
func testLeases(t testing.TB, h PublisherHarness) {
	one, ok := h.Publisher.(snapshot.Leaser)
	two, _ := h.Second.(snapshot.Leaser)
	if !ok {
		t.Log("this publisher offers no leases")
		return
	}
	take := func(l snapshot.Leaser, name, holder string, ttl time.Duration) bool {
		t.Helper()
		held, err := l.Lease(t.Context(), name, holder, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	if !take(one, "scrub", "a", time.Minute) {
		t.Error("a free lease is not given")
	}
	if take(two, "scrub", "b", time.Minute) {
		t.Error("two hold one lease")
	}
	if !take(two, "whole", "b", time.Minute) {
		t.Error("another lease is not free")
	}
	if !take(one, "scrub", "a", 300*time.Millisecond) {
		t.Error("a lease is not prolonged")
	}
	// It is the shorter one now, and ends.
	deadline := time.Now().Add(20 * time.Second)
	for !take(two, "scrub", "b", time.Minute) {
		if time.Now().After(deadline) {
			t.Fatal("a lease does not end")
		}
		time.Sleep(20 * time.Millisecond)
	}
	// One that is given up is free; that of somebody else cannot be given up.
	if take(one, "scrub", "a", 0) || take(one, "scrub", "a", time.Minute) {
		t.Error("somebody else's lease was given up")
	}
	if take(two, "whole", "b", 0) || !take(one, "whole", "a", time.Minute) {
		t.Error("a lease that was given up is not free")
	}
	// One that would go on for longer than anybody takes it for is nobody's.
	if !take(one, "odd", "a", time.Minute) || !take(two, "odd", "b", time.Second) {
		t.Error("a lease beyond what is asked for is respected")
	}
	for _, bad := range []struct {
		name, holder string
		ttl          time.Duration
	}{{"", "a", time.Second}, {"x", "", time.Second}, {"x", "a", -1}, {"x", "a", time.Hour}} {
		if _, err := one.Lease(t.Context(), bad.name, bad.holder, bad.ttl); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("Lease(%q, %q, %s): %v, want ErrInvalid", bad.name, bad.holder, bad.ttl, err)
		}
	}
}
