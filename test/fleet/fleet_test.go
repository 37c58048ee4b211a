package fleet_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/fleet"
)

// TestRun runs all parts with small numbers.
func TestRun(t *testing.T) {
	addr := os.Getenv("EZ_TEST_REDIS_ADDR")
	if addr == "" {
		t.Skip("EZ_TEST_REDIS_ADDR is not set: the measuring of a fleet is NOT TESTED")
	}
	var out strings.Builder
	err := fleet.Run(t.Context(), fleet.Options{
		Redis: addr, Watchers: 5, FleetKeys: 10, Idle: time.Second, Publishes: 3, Keys: 1_500, Scrub: time.Second,
		Nodes: []int{50, 700},
	}, &out)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"5 balancers of 10 keys", "commands/s a balancer", "all have applied it", "1000 of 1500 keys change",
		"a minute's scrub", "700 nodes: reading all",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the figures lack %q", want)
		}
	}
}
