package e2e_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

// TestRedisGoesAway: while Redis is away the server takes changes and balancers
// serve what they have; when it is back they agree, and nobody was restarted.
func TestRedisGoesAway(t *testing.T) {
	var proxy *outage
	f := startFleet(t, 2, func(addr string) string {
		proxy = newOutage(t, "tcp", addr)
		return proxy.addr
	})
	upstream := process.Start(t, "upstream", nil, "-key", upstreamKey)
	plane := f.planes[0]
	plane.Call(t, "POST", "/providers", object{
		"name": "mock", "type": "compatible", "base_url": upstream.URL, "api_key": upstreamKey, "models": []string{"large"},
	}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/models", object{"name": "large"}, http.StatusCreated, nil)
	var before, during struct{ Token string }
	plane.Call(t, "POST", "/keys", object{"name": "before"}, http.StatusCreated, &before)

	reading := slices.Concat(f.reading, []string{"EZ_REDIS_ADDR=" + proxy.addr, "EZ_LOGS_URL=" + plane.URL,
		"EZ_BALANCER_TOKEN=" + plane.Token})
	balancers := []*process.Process{process.StartBalancer(t, reading...), process.StartBalancer(t, reading...)}
	ask := func(balancer *process.Process, token string) int {
		t.Helper()
		resp := process.API{URL: balancer.URL, Token: token}.Send(t, "POST", "/v1/chat/completions",
			object{"model": "large", "messages": []object{}})
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, b := range balancers {
		process.Eventually(t, 10*time.Second, "the balancer knows the key",
			func() bool { return ask(b, before.Token) == http.StatusOK })
	}

	proxy.begin()
	header := plane.Call(t, "POST", "/keys?wait=published&timeout=500ms", object{"name": "during"},
		http.StatusCreated, &during)
	if got := header.Get("EZ-Sync"); got != "pending" {
		t.Errorf("EZ-Sync %q while Redis is away", got)
	}
	for range scaled(3, 60) {
		time.Sleep(time.Second)
		for i, b := range balancers {
			if status := ask(b, before.Token); status != http.StatusOK {
				t.Errorf("balancer %d answers %d while Redis is away", i, status)
			}
		}
	}
	proxy.end()
	for _, b := range balancers {
		took := process.Eventually(t, 20*time.Second, "the balancer knows what was made meanwhile",
			func() bool { return ask(b, during.Token) == http.StatusOK })
		t.Logf("known %s after Redis came back", took)
	}
	f.published(t)
}
