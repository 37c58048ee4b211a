package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/ez-api/ez-api/test/process"
)

// TestBalancerOutlivesEverything: a balancer that knows the control plane alone
// follows it, goes on when it is killed, and starts again from its file while nothing
// else is up.
func TestBalancerOutlivesEverything(t *testing.T) {
	dir := t.TempDir()
	server, plane, _ := embedded(t, filepath.Join(dir, "data"))
	upstream := process.Start(t, "upstream", nil, "-key", upstreamKey)
	plane.Call(t, "POST", "/providers", object{
		"name": "mock", "type": "compatible", "base_url": upstream.URL, "api_key": upstreamKey, "models": []string{"large"},
	}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/models", object{"name": "large"}, http.StatusCreated, nil)
	env := []string{
		"EZ_SNAPSHOT_URL=" + server.URL, "EZ_SNAPSHOT_FILE=" + filepath.Join(dir, "last-good"),
		"EZ_LOGS_URL=" + server.URL, "EZ_BALANCER_TOKEN=" + plane.Token,
	}
	balancer := process.StartBalancer(t, env...)
	var kept, revoked struct {
		ID    int64
		Token string
	}
	plane.Call(t, "POST", "/keys?wait=applied", object{"name": "kept"}, http.StatusCreated, &kept)
	plane.Call(t, "POST", "/keys?wait=applied", object{"name": "revoked"}, http.StatusCreated, &revoked)
	ask := func(token string, status int) {
		t.Helper()
		process.API{URL: balancer.URL, Token: token}.Call(t, "POST", "/v1/chat/completions",
			object{"model": "large", "messages": []object{}}, status, nil)
	}
	ask(revoked.Token, http.StatusOK)
	header := plane.Call(t, "DELETE", fmt.Sprintf("/keys/%d?wait=applied", revoked.ID), nil, http.StatusNoContent, nil)
	if got := header.Get("EZ-Sync"); got != "applied" {
		t.Errorf("EZ-Sync %q, %q", got, header.Get("EZ-Sync-Nodes"))
	}
	ask(revoked.Token, http.StatusUnauthorized)
	ask(kept.Token, http.StatusOK)

	for _, p := range []*process.Process{server, balancer} {
		if err := p.Cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.Done
		if p == server {
			ask(kept.Token, http.StatusOK)
		}
	}
	balancer = process.StartBalancer(t, env...)
	ask(kept.Token, http.StatusOK)
	ask(revoked.Token, http.StatusUnauthorized)
}
