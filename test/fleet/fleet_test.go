package fleet_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

func TestMain(m *testing.M) {
	os.Exit(process.Main(m, process.Program{Module: "..", Package: "./cmd/fleet"}))
}

// fleet starts the command at the Redis of the environment.
func fleet(t *testing.T, args ...string) *process.Process {
	t.Helper()
	addr := os.Getenv("EZ_TEST_REDIS_ADDR")
	if addr == "" {
		t.Skip("EZ_TEST_REDIS_ADDR is not set: the measuring of a fleet is NOT TESTED")
	}
	return process.Run(t, "fleet", exec.Command("fleet", append([]string{"-redis", addr}, args...)...))
}

// TestAllParts runs all parts with small numbers.
func TestAllParts(t *testing.T) {
	for name, run := range map[string]struct {
		args []string
		want []string
	}{
		"one Redis": {
			[]string{"-watchers", "5", "-fleet-keys", "10", "-idle", "1s", "-publishes", "3", "-every", "0",
				"-keys", "1500", "-scrub", "1s", "-nodes", "50,700"},
			[]string{"5 balancers of 10 keys at 1 Redis", "commands/s a balancer", "3 times", "; Redis works",
				"1000 of 1500 keys change", "a minute's scrub", "700 nodes: reading all"},
		},
		"regions": { // in Redis of their own: in the origin's they would have the origin's prefix
			[]string{"-regions", region(t) + "," + region(t), "-watchers", "7", "-fleet-keys", "10", "-idle", "0",
				"-publishes", "2", "-every", "0", "-keys", "0", "-nodes", ""},
			[]string{"7 balancers of 10 keys at 2 Redis", "the origin's Redis works", "at least 7 balancers are known"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fleet(t, run.args...)
			if code := p.Wait(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			t.Log("\n" + p.Out.String())
			for _, want := range run.want {
				if !strings.Contains(p.Out.String(), want) {
					t.Errorf("the figures lack %q", want)
				}
			}
		})
	}
}

// TestRegionsEndWithTheCommand: not even a command that is killed leaves a region behind.
func TestRegionsEndWithTheCommand(t *testing.T) {
	p := fleet(t, "-regions", region(t)+","+region(t), "-watchers", "4", "-idle", "1h", "-keys", "0", "-nodes", "")
	process.Eventually(t, 30*time.Second, "the regions have loaded", func() bool {
		return strings.Contains(p.Out.String(), "have loaded")
	})
	regions := children(t, p.Cmd.Process.Pid)
	if len(regions) != 2 {
		t.Fatalf("%d regions run", len(regions))
	}
	if err := p.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range regions {
		process.Eventually(t, 10*time.Second, "a region has ended", func() bool {
			_, state := status(pid)
			return state == "" || state == "Z"
		})
	}
}

// children returns the processes that a process has started.
func children(t *testing.T, parent int) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(all) == 0 {
		t.Skip("without /proc the children of a process are not known: NOT TESTED")
	}
	for _, dir := range all {
		if of, state := status(filepath.Base(dir)); of == fmt.Sprint(parent) && state != "Z" {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

// status returns the parent and the state of a process; "" when there is none.
func status(pid string) (parent, state string) {
	text, _ := os.ReadFile("/proc/" + pid + "/stat")
	if _, after, found := strings.Cut(string(text), ") "); found {
		fields := strings.Fields(after)
		return fields[1], fields[0]
	}
	return "", ""
}

// region starts a Redis of its own, and returns its address.
func region(t *testing.T) string {
	t.Helper()
	address := fmt.Sprint("127.0.0.1:", process.FreePort(t))
	_, port, _ := strings.Cut(address, ":")
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "")
	process.Run(t, "redis-server", cmd)
	process.Eventually(t, 10*time.Second, "Redis listens", func() bool {
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	})
	return address
}
