package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

// TestRevocation: a deletion that waits answers only when every live balancer
// refuses the key, though no server is notified of the others' commits; and it says when one
// balancer is silent.
func TestRevocation(t *testing.T) {
	f := startFleet(t, 2, direct, "EZ_PG_LISTEN_DSN=none")
	upstream := process.Start(t, "upstream", nil, "-key", upstreamKey)
	plane := f.planes[0]
	plane.Call(t, "POST", "/providers", object{
		"name": "mock", "type": "compatible", "base_url": upstream.URL, "api_key": upstreamKey, "models": []string{"large"},
	}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/models", object{"name": "large"}, http.StatusCreated, nil)

	reading := slices.Concat(f.reading, []string{"EZ_LOGS_URL=" + plane.URL, "EZ_BALANCER_TOKEN=" + plane.Token})
	balancers := []*process.Process{process.StartBalancer(t, reading...), process.StartBalancer(t, reading...),
		process.StartBalancer(t, reading...)}
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
	create := func(via process.API) (k key) {
		t.Helper()
		header := via.Call(t, "POST", "/keys?wait=applied", object{"name": "alice"}, http.StatusCreated, &k)
		if got := header.Get("EZ-Sync"); got != "applied" {
			t.Fatalf("EZ-Sync %q, %s", got, header.Get("EZ-Sync-Nodes"))
		}
		return k
	}

	for i := range 4 {
		k := create(f.planes[i%2])
		for b, balancer := range balancers {
			if status := ask(balancer, k.Token); status != http.StatusOK {
				t.Fatalf("balancer %d answers %d to a key that was applied", b, status)
			}
		}
		begin := time.Now()
		header := f.planes[(i+1)%2].Call(t, "DELETE", fmt.Sprintf("/keys/%d?wait=applied", k.ID), nil,
			http.StatusNoContent, nil)
		took := time.Since(begin)
		for b, balancer := range balancers {
			if status := ask(balancer, k.Token); status != http.StatusUnauthorized {
				t.Errorf("balancer %d answers %d to a revoked key", b, status)
			}
		}
		if header.Get("EZ-Sync") != "applied" || header.Get("EZ-Sync-Nodes") != "applied=3 lagging=0 lost=0" {
			t.Errorf("EZ-Sync %q, %q", header.Get("EZ-Sync"), header.Get("EZ-Sync-Nodes"))
		}
		if took > 3*time.Second {
			t.Errorf("the revocation took %s", took)
		}
		t.Logf("revoked everywhere after %s", took)
	}

	k := create(plane)
	if err := balancers[2].Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-balancers[2].Done
	header := plane.Call(t, "DELETE", fmt.Sprintf("/keys/%d?wait=applied&timeout=1s", k.ID), nil,
		http.StatusNoContent, nil)
	if header.Get("EZ-Sync") != "pending" || header.Get("EZ-Sync-Nodes") != "applied=2 lagging=1 lost=0" {
		t.Errorf("with a balancer just killed: EZ-Sync %q, %q", header.Get("EZ-Sync"), header.Get("EZ-Sync-Nodes"))
	}
}
