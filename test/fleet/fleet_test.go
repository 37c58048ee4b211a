package fleet_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/fleet"
	"github.com/ez-api/ez-api/test/process"
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
	if err == nil {
		// A region in the same Redis would have the prefix of the origin.
		err = fleet.Run(t.Context(), fleet.Options{
			Redis: addr, Regions: []string{region(t), region(t)}, Watchers: 6, FleetKeys: 10, Publishes: 3,
		}, &out)
	}
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"5 balancers of 10 keys, in 1 regions", "6 balancers of 10 keys, in 2 regions", "commands/s a balancer",
		"all have applied it", "1000 of 1500 keys change",
		"a minute's scrub", "700 nodes: reading all",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the figures lack %q", want)
		}
	}
}

// region starts a Redis of its own, and returns its address.
func region(t *testing.T) string {
	t.Helper()
	address := fmt.Sprint("127.0.0.1:", process.FreePort(t))
	_, port, _ := strings.Cut(address, ":")
	process.Run(t, "redis-server", exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", ""))
	process.Eventually(t, 10*time.Second, "Redis listens", func() bool {
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	})
	return address
}
