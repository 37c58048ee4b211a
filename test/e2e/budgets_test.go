package e2e_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/test/process"
)

// A budget of a dollar a day, a project with two keys below it, and three balancers: requests flow, the
// budget is used up, and all refuse within the bound, having let through no more than the rate allows.
// What is said to be spent is the sum over the entries. A raised limit serves again, and so does midnight.
func TestBudgetHoldsEverywhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   []string
		bound time.Duration // from acceptance to refusal
	}{
		{"defaults", nil, 3 * time.Second},
		{"short intervals", []string{"EZ_LOG_FLUSH_INTERVAL=200ms", "EZ_BUDGET_INTERVAL=200ms"}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) { testBudget(t, c.env, c.bound) })
	}
}

const (
	priceOfRequest = 0.01            // USD
	shipping       = 2 * time.Second // until a balancer has sent an entry
)

func testBudget(t *testing.T, env []string, bound time.Duration) {
	balancerToken := process.NewToken()
	f := startFleet(t, 2, direct, append(env, "EZ_BALANCER_TOKEN="+balancerToken)...)
	plane := f.planes[0]
	upstream := process.Start(t, "upstream", nil, "-key", upstreamKey)
	plane.Call(t, "POST", "/providers", object{
		"name": "mock", "type": "compatible", "base_url": upstream.URL, "api_key": upstreamKey, "models": []string{"large"},
	}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/models", object{"name": "large", "request_price": fmt.Sprint(priceOfRequest), "input_price": 0,
		"output_price": 0}, http.StatusCreated, nil)
	budget := func(limit string) []object {
		return []object{{"limit": limit, "window": "day", "timezone": "Asia/Shanghai"}}
	}
	var project, one, two struct {
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	plane.Call(t, "POST", "/projects", object{"name": "acme", "budgets": budget("1")}, http.StatusCreated, &project)
	plane.Call(t, "POST", "/projects", object{"name": "acme/search"}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/keys", object{"name": "one", "project": "acme"}, http.StatusCreated, &one)
	var balancers []*process.Process
	for i := range 3 {
		balancers = append(balancers, process.StartBalancer(t, append(f.reading, "EZ_BALANCER_TOKEN="+balancerToken,
			"EZ_LOGS_URL="+f.servers[i%2].URL, "EZ_ALLOW_PRIVATE_UPSTREAMS=true")...))
	}
	plane.Call(t, "POST", "/keys?wait=applied", object{"name": "two", "project": "acme/search"}, http.StatusCreated, &two)

	ask := func(balancer *process.Process, token string) int {
		resp := process.API{URL: balancer.URL, Token: token}.Send(t, "POST", "/v1/chat/completions",
			object{"model": "large", "messages": []object{{"role": "user", "content": "Is all well?"}}})
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		return resp.StatusCode
	}
	everywhere := func(status int) bool {
		for _, b := range balancers {
			for _, token := range []string{one.Token, two.Token} {
				if ask(b, token) != status {
					return false
				}
			}
		}
		return true
	}

	// Requests flow at every balancer until it refuses.
	var served atomic.Int64
	var flowing sync.WaitGroup
	begun := time.Now()
	for i, b := range balancers {
		flowing.Go(func() {
			for n := 0; time.Since(begun) < time.Minute; n++ {
				switch status := ask(b, []string{one.Token, two.Token}[(n+i)%2]); status {
				case http.StatusOK:
					served.Add(1)
				case http.StatusTooManyRequests:
					return
				default:
					t.Errorf("status %d", status)
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Error("a balancer never refuses")
		})
	}
	flowing.Wait()
	took := time.Since(begun)
	if !everywhere(http.StatusTooManyRequests) {
		t.Error("a balancer serves a key of the project")
	}
	rate := float64(served.Load()) * priceOfRequest / took.Seconds()
	over := float64(served.Load())*priceOfRequest - 1
	most := rate*(bound+shipping).Seconds() + 3*priceOfRequest
	t.Logf("%.2f USD a second; %.2f USD beyond the limit, of %.2f that may be", rate, over, most)
	if over > most || over < 0 {
		t.Errorf("%.2f USD beyond the limit, at %.2f USD a second", over, rate)
	}

	// What is said to be spent is what the entries cost, to the last of them.
	type standing struct {
		Data []struct {
			Target, Spent string
			Ends          time.Time
			Holds         bool
		}
	}
	var now standing
	want := fmt.Sprintf("%.2f", float64(served.Load())*priceOfRequest)
	process.Eventually(t, 20*time.Second, "all that was served is in the budget: "+want, func() bool {
		plane.Call(t, "GET", "/budgets?project=acme&over=100", nil, http.StatusOK, &now)
		if len(now.Data) != 1 || !now.Data[0].Holds {
			return false
		}
		var spent float64
		_, err := fmt.Sscan(now.Data[0].Spent, &spent)
		return err == nil && math.Abs(spent-float64(served.Load())*priceOfRequest) < 1e-9
	})
	var nano int64
	if err := f.db.QueryRow(t.Context(),
		`select sum(cost_nano_usd)::bigint from access_logs where project like 'acme%'`).Scan(&nano); err != nil || nano != served.Load()*10_000_000 {
		t.Errorf("the entries cost %d nano-USD, %v; %d were served", nano, err, served.Load())
	}

	// Who reads the same documents refuses until midnight in Shanghai, and then serves, by the clock.
	atMidnight(t, f, one.Token, now.Data[0].Ends)

	// A raised limit serves again at once.
	limit := func(usd string) {
		plane.Call(t, "PATCH", fmt.Sprint("/projects/", project.ID), object{"budgets": budget(usd)}, http.StatusOK, nil)
	}
	limit("100")
	process.Eventually(t, 10*time.Second, "all serve again", func() bool { return everywhere(http.StatusOK) })

	// From the acceptance of the entry that uses it up until all refuse.
	process.API{URL: f.servers[1].URL, Token: balancerToken}.Call(t, "POST", "/logs",
		object{"key_id": two.ID, "status": 200,
			"ts": time.Now().UTC().Format(time.RFC3339Nano), "cost_nano_usd": int64(100_000_000_000)}, http.StatusAccepted, nil)
	accepted := time.Now()
	process.Eventually(t, 30*time.Second, "all refuse", func() bool { return everywhere(http.StatusTooManyRequests) })
	t.Logf("from acceptance to refusal: %s", time.Since(accepted))
	if time.Since(accepted) > bound {
		t.Errorf("from acceptance to refusal it took %s, more than %s", time.Since(accepted), bound)
	}

	// The kill switch: once the answer is there, no balancer serves the key.
	limit("2000")
	process.Eventually(t, 10*time.Second, "all serve again", func() bool { return everywhere(http.StatusOK) })
	header := plane.Call(t, "POST", "/holds?wait=applied", object{"target": fmt.Sprint("key/", one.ID)},
		http.StatusCreated, nil)
	for _, b := range balancers {
		if status := ask(b, one.Token); status != http.StatusTooManyRequests {
			t.Errorf("after %s a balancer answers %d to a key that is held", header.Get("EZ-Sync"), status)
		}
		if status := ask(b, two.Token); status != http.StatusOK {
			t.Errorf("a balancer answers %d to another key", status)
		}
	}
	if got := header.Get("EZ-Sync"); got != "applied" {
		t.Errorf("EZ-Sync: %s", got)
	}
}

// atMidnight reads what is published with a clock of its own.
func atMidnight(t *testing.T, f *fleet, token string, ends time.Time) {
	t.Helper()
	keys, err := snapshot.ParseKeys(f.syncKey)
	if err != nil {
		t.Fatal(err)
	}
	source := redisstore.New(f.rdb, &redisstore.Options{Prefix: f.prefix})
	w := snapshot.NewWatcher(source, &snapshot.WatcherOptions{Keys: keys, Name: "reader"})
	go func() { _ = w.Run(t.Context()) }()
	select {
	case <-w.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the reader has no snapshot")
	}
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	day, err := budgets.WindowOf(catalog.Budget{Window: "day", Timezone: shanghai.String()}, time.Now())
	if err != nil || !day.Ends.Equal(ends) || ends.In(shanghai).Format("15:04:05") != "00:00:00" {
		t.Errorf("the window ends at %s, and midnight is %s, %v", ends, day.Ends, err)
	}
	var held *snapshot.ErrHeld
	if _, err := w.View().Authenticate(token, netip.Addr{}, ends.Add(-time.Second)); !errors.As(err, &held) ||
		!held.Until.Equal(ends) || held.Reason != catalog.HoldBudget {
		t.Errorf("a second before midnight: %v", err)
	}
	if _, err := w.View().Authenticate(token, netip.Addr{}, ends); err != nil {
		t.Errorf("at midnight: %v", err)
	}
}
