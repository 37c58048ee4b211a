package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

// region is another Redis' part, to which a mirror carries what the fleet publishes: here another prefix.
func region(t *testing.T, f *fleet) (mirror *process.Process, reading []string) {
	t.Helper()
	addr, _, client := process.Redis(t)
	prefix := "region-" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		keys, err := client.Keys(context.Background(), "{"+prefix+"}:*").Result()
		if err == nil {
			client.Unlink(context.Background(), keys...)
		}
	})
	mirror = process.Launch(t, "mirror", slices.Concat(f.reading,
		[]string{"EZ_REGION_REDIS_ADDR=" + addr, "EZ_REGION_REDIS_PREFIX=" + prefix}))
	reading = slices.DeleteFunc(slices.Clone(f.reading), func(v string) bool {
		return strings.HasPrefix(v, "EZ_REDIS_ADDR=") || strings.HasPrefix(v, "EZ_REDIS_PREFIX=")
	})
	return mirror, append(reading, "EZ_REDIS_ADDR="+addr, "EZ_REDIS_PREFIX="+prefix)
}

// TestRevocationOverAMirror: a deletion that waits answers only when the balancers of both regions refuse the
// key; and when every control plane is dead and Redis is well, balancers with MaxStale refuse in both.
func TestRevocationOverAMirror(t *testing.T) {
	f := startFleet(t, 1, direct)
	upstream := process.Start(t, "upstream", nil, "-key", upstreamKey)
	plane := f.planes[0]
	plane.Call(t, "POST", "/providers", object{
		"name": "mock", "type": "compatible", "base_url": upstream.URL, "api_key": upstreamKey, "models": []string{"large"},
	}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/models", object{"name": "large"}, http.StatusCreated, nil)
	_, there := region(t, f)
	common := []string{"EZ_LOGS_URL=" + plane.URL, "EZ_BALANCER_TOKEN=" + plane.Token, "EZ_MAX_STALE=15s"}
	balancers := []*process.Process{
		process.StartBalancer(t, slices.Concat(f.reading, common)...),
		process.StartBalancer(t, slices.Concat(there, common)...),
		process.StartBalancer(t, slices.Concat(there, common)...),
	}
	ask := func(balancer *process.Process, token string) int {
		t.Helper()
		resp := process.API{URL: balancer.URL, Token: token}.Send(t, "POST", "/v1/chat/completions",
			object{"model": "large", "messages": []object{}})
		defer resp.Body.Close()
		return resp.StatusCode
	}
	type key struct {
		ID    int64
		Token string
	}
	// The origin has heard of all three once the mirror has passed their reports on.
	process.Eventually(t, 30*time.Second, "three nodes are known", func() bool {
		var status struct {
			Nodes []object `json:"nodes"`
		}
		plane.Call(t, "GET", "/sync/status", nil, http.StatusOK, &status)
		return len(status.Nodes) == 3
	})
	for range 4 {
		var k key
		header := plane.Call(t, "POST", "/keys?wait=applied", object{"name": "alice"}, http.StatusCreated, &k)
		if header.Get("EZ-Sync") != "applied" {
			t.Fatalf("EZ-Sync %q, %s", header.Get("EZ-Sync"), header.Get("EZ-Sync-Nodes"))
		}
		for b, balancer := range balancers {
			if status := ask(balancer, k.Token); status != http.StatusOK {
				t.Fatalf("balancer %d answers %d to a key that was applied", b, status)
			}
		}
		begin := time.Now()
		header = plane.Call(t, "DELETE", fmt.Sprintf("/keys/%d?wait=applied", k.ID), nil, http.StatusNoContent, nil)
		took := time.Since(begin)
		for b, balancer := range balancers {
			if status := ask(balancer, k.Token); status != http.StatusUnauthorized {
				t.Errorf("balancer %d answers %d to a revoked key", b, status)
			}
		}
		if got := header.Get("EZ-Sync-Nodes"); header.Get("EZ-Sync") != "applied" ||
			!strings.HasPrefix(got, "applied=3 lagging=0 lost=0") {
			t.Errorf("EZ-Sync %q, %q", header.Get("EZ-Sync"), got)
		}
		t.Logf("revoked on both sides after %s", took)
	}

	var k key
	plane.Call(t, "POST", "/keys?wait=applied", object{"name": "bob"}, http.StatusCreated, &k)
	for _, s := range f.servers {
		if err := s.Cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-s.Done
	}
	died := time.Now()
	for b, balancer := range balancers {
		process.Eventually(t, 25*time.Second, "a balancer refuses",
			func() bool { return ask(balancer, k.Token) == http.StatusServiceUnavailable })
		took := time.Since(died)
		t.Logf("balancer %d refuses %s after the last control plane died", b, took)
		if took > 20*time.Second {
			t.Errorf("balancer %d refuses after %s, want 20s", b, took)
		}
	}
}
