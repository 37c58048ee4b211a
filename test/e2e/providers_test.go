package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/ez-api/ez-api/test/upstream"
)

// Two control planes, three balancers, and providers that fail as they do in life. Those that are
// judged by what all balancers report are held for longer and longer, and work again when they do. All
// times are about a tenth of the defaults.
func TestProvidersAreHeldAndRecover(t *testing.T) {
	c := startClinic(t)
	flaky, steady := c.provider(t, "flaky", "large", 10), c.provider(t, "steady", "large", 0)
	off, alone := c.provider(t, "off", "large", 20), c.provider(t, "alone", "small", 0)
	off.patch(t, object{"status": "disabled"})
	alone.patch(t, object{"auto_ban": false})
	alone.always(t, http.StatusInternalServerError)
	for _, name := range []string{"large", "small"} {
		c.plane.Call(t, "POST", "/models?wait=applied", object{"name": name, "input_price": 0, "output_price": 0},
			http.StatusCreated, nil)
	}

	// The bad requests of one user are nobody's failure but his.
	const bad = 30
	clumsy := c.key(t, "clumsy")
	for i := range bad {
		if status := c.ask(t, i%3, clumsy.Token, "large", -1); status != http.StatusBadRequest {
			t.Fatalf("a request for -1 tokens: %d", status)
		}
	}
	process.Eventually(t, 20*time.Second, "the bad requests are in the logs", func() bool {
		var logs struct{ Data []object }
		c.plane.Call(t, "GET", fmt.Sprint("/logs?key_id=", clumsy.ID), nil, http.StatusOK, &logs)
		return len(logs.Data) == bad
	})
	if holds := c.holds(t); len(holds) > 0 {
		t.Errorf("bad requests hold %+v", holds)
	}
	if got := c.health(t, flaky.ID, "large"); got.Attempts+got.Failures > 0 {
		t.Errorf("bad requests count: %+v", got)
	}

	// Failures of a disabled provider are reported all the while, as by a balancer that does not know yet.
	stop := c.report(t, off)
	serving := c.load(t, "large")
	failing := c.load(t, "small")

	// It answers 500, is held, fails again, and is held twice as long. Then it does not answer at all.
	flaky.always(t, http.StatusInternalServerError)
	model := fmt.Sprintf("provider/%d/large", flaky.ID)
	first := c.held(t, model, time.Time{})
	c.wantHold(t, first, 2*time.Second, "failures", "server")
	second := c.held(t, model, first.Until)
	c.wantHold(t, second, 4*time.Second, "failures", "server")
	flaky.always(t, upstream.Hang)
	third := c.held(t, model, second.Until)
	c.wantHold(t, third, 8*time.Second, "failures", "timeout")

	// While it is held no balancer asks it.
	time.Sleep(time.Second) // until all know, and have given up what they asked before
	asked := flaky.asked(t)
	time.Sleep(3 * time.Second)
	if again := flaky.asked(t); again != asked {
		t.Errorf("it was asked %d times while it was held", again-asked)
	}

	// It refuses its credential: the control plane asks it, and holds all of it until it accepts it again.
	flaky.always(t, http.StatusUnauthorized)
	whole := fmt.Sprint("provider/", flaky.ID)
	refused := c.held(t, whole, time.Time{})
	c.wantHold(t, refused, 2*time.Second, "auth", "auth")
	prolonged := c.held(t, whole, refused.Until)
	c.wantHold(t, prolonged, 4*time.Second, "auth", "auth")
	flaky.always(t, http.StatusOK)
	process.Eventually(t, 10*time.Second, "the provider is released", func() bool { return !c.lasts(t, whole) })
	if now := time.Now(); !now.Before(prolonged.Until) {
		t.Errorf("it was released at %s, when its hold had ended anyway", now)
	}

	// Three successes forget the past.
	process.Eventually(t, 30*time.Second, "what was before is forgotten",
		func() bool { return c.hold(t, model).Strikes == 0 })
	serving.end(t, http.StatusOK) // another served all the while

	// With every provider failing, requests still go out to all that are not disabled.
	flaky.always(t, http.StatusInternalServerError)
	steady.always(t, http.StatusInternalServerError)
	desperate := c.load(t, "large")
	process.Eventually(t, 20*time.Second, "both are held", func() bool {
		return c.lasts(t, model) && c.lasts(t, fmt.Sprintf("provider/%d/large", steady.ID))
	})
	before := []int{flaky.asked(t), steady.asked(t)}
	process.Eventually(t, 10*time.Second, "both are asked all the same", func() bool {
		return flaky.asked(t) > before[0]+5 && steady.asked(t) > before[1]+5
	})
	flaky.always(t, http.StatusOK)
	steady.always(t, http.StatusOK)
	process.Eventually(t, 10*time.Second, "requests are served", func() bool {
		return c.ask(t, 0, c.good, "large", 0) == http.StatusOK
	})
	desperate.end(t, http.StatusOK, http.StatusInternalServerError)

	// What may not be held is only reported, and what is disabled stays so.
	failing.end(t, http.StatusInternalServerError)
	stop()
	process.Eventually(t, 10*time.Second, "somebody is told", func() bool {
		return slices.Contains(c.alerts(t, fmt.Sprintf("provider/%d/small", alone.ID)), "provider_failing")
	})
	for _, p := range []*patient{off, alone} {
		for _, h := range c.holds(t) {
			if strings.HasPrefix(h.Target, fmt.Sprint("provider/", p.ID)) {
				t.Errorf("%s is held: %+v", p.name, h)
			}
		}
	}
	if n := off.asked(t); n > 0 {
		t.Errorf("the disabled provider was asked %d times", n)
	}
	var now struct {
		Status   string
		Revision int64
	}
	c.plane.Call(t, "GET", fmt.Sprint("/providers/", off.ID), nil, http.StatusOK, &now)
	if now.Status != "disabled" || now.Revision != off.Revision {
		t.Errorf("the disabled provider became %+v, from revision %d", now, off.Revision)
	}
	for target, want := range map[string][]string{
		model: {"provider_held", "provider_recovered", "provider_held"},
		whole: {"provider_held", "provider_recovered"},
	} {
		got := c.alerts(t, target) // one for each hold
		if once := slices.Compact(slices.Clone(got)); len(once) < len(want) || !slices.Equal(once[:len(want)], want) {
			t.Errorf("alerts of %s: %v, want %v first", target, got, want)
		}
	}
}

// A clinic is a fleet whose providers fail.
type clinic struct {
	*fleet
	plane     process.API
	balancer  process.API // the control plane, as a balancer
	balancers []*process.Process
	good      string // a token
}

func startClinic(t *testing.T) *clinic {
	t.Helper()
	token := process.NewToken()
	f := startFleet(t, 2, direct, "EZ_BALANCER_TOKEN="+token,
		"EZ_HEALTH=attempts=6,window=10s,slot=1s,first_hold=2s,longest_hold=8s,probe_every=1s,interval=200ms")
	c := &clinic{fleet: f, plane: f.planes[0], balancer: process.API{URL: f.servers[1].URL, Token: token}}
	for i := range 3 {
		c.balancers = append(c.balancers, process.StartBalancer(t, append(f.reading, "EZ_BALANCER_TOKEN="+token,
			"EZ_LOGS_URL="+f.servers[i%2].URL, "EZ_ALLOW_PRIVATE_UPSTREAMS=true", "EZ_UPSTREAM_TIMEOUT=500ms")...))
	}
	c.good = c.key(t, "good").Token
	return c
}

type clientKey struct {
	ID    int64
	Token string
}

func (c *clinic) key(t *testing.T, name string) (k clientKey) {
	t.Helper()
	c.plane.Call(t, "POST", "/keys?wait=applied", object{"name": name}, http.StatusCreated, &k)
	return k
}

// A patient is a provider whose upstream answers as the test says.
type patient struct {
	c        *clinic
	name     string
	mock     process.API
	ID       int64
	Revision int64
}

func (c *clinic) provider(t *testing.T, name, model string, priority int) *patient {
	t.Helper()
	mock := process.Start(t, "upstream", nil, "-key", upstreamKey)
	p := &patient{c: c, name: name, mock: process.API{URL: mock.URL}}
	c.plane.Call(t, "POST", "/providers", object{"name": name, "type": "compatible", "base_url": mock.URL,
		"api_key": upstreamKey, "models": []string{model}, "priority": priority}, http.StatusCreated, p)
	return p
}

func (p *patient) patch(t *testing.T, with object) {
	t.Helper()
	p.c.plane.Call(t, "PATCH", fmt.Sprint("/providers/", p.ID), with, http.StatusOK, p)
}

func (p *patient) always(t *testing.T, status int) {
	t.Helper()
	p.mock.Call(t, "POST", "/always", status, http.StatusNoContent, nil)
}

// asked returns how many chats the upstream was asked for.
func (p *patient) asked(t *testing.T) (n int) {
	t.Helper()
	var requests []upstream.Request
	p.mock.Call(t, "GET", "/requests", nil, http.StatusOK, &requests)
	for _, r := range requests {
		if r.Path == "/v1/chat/completions" {
			n++
		}
	}
	return n
}

func (c *clinic) ask(t *testing.T, balancer int, token, model string, tokens int) int {
	resp := process.API{URL: c.balancers[balancer].URL, Token: token}.Send(t, "POST", "/v1/chat/completions",
		object{"model": model,
			"max_tokens": tokens, "messages": []object{{"role": "user", "content": "Is all well?"}}})
	defer resp.Body.Close()
	return resp.StatusCode
}

// report logs failures of a provider at a control plane, until the function that it returns is called.
func (c *clinic) report(t *testing.T, p *patient) (stop func()) {
	var ended atomic.Bool
	var reporting sync.WaitGroup
	reporting.Go(func() {
		for !ended.Load() {
			entries := make([]object, 10)
			for i := range entries {
				entries[i] = object{"status": 502, "balancer": "late", "failures": []object{
					{"provider_id": p.ID, "upstream_model": "large", "class": []string{"server", "auth"}[i%2]}}}
			}
			c.balancer.Call(t, "POST", "/logs", entries, http.StatusAccepted, nil)
			time.Sleep(500 * time.Millisecond)
		}
	})
	return func() { ended.Store(true); reporting.Wait() }
}

// load asks all balancers for a model, each a few times at once, until it is ended.
type load struct {
	ended   atomic.Bool
	running sync.WaitGroup
	mu      sync.Mutex
	seen    map[int]int // answers by status
}

func (c *clinic) load(t *testing.T, model string) *load {
	l := &load{seen: map[int]int{}}
	for i := range c.balancers {
		for range 6 {
			l.running.Go(func() {
				for !l.ended.Load() {
					status := c.ask(t, i, c.good, model, 0)
					l.mu.Lock()
					l.seen[status]++
					l.mu.Unlock()
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
	}
	return l
}

// end ends the load, all of whose answers must be one of some.
func (l *load) end(t *testing.T, want ...int) {
	t.Helper()
	l.ended.Store(true)
	l.running.Wait()
	for status, n := range l.seen {
		if !slices.Contains(want, status) {
			t.Errorf("%d requests were answered with %d", n, status)
		}
	}
	t.Logf("answers by status: %v", l.seen)
}

type hold struct {
	Target  string    `json:"target"`
	Until   time.Time `json:"until"`
	Updated time.Time `json:"updated_at"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Strikes int       `json:"strikes"`
}

// holds returns the holds for health, those that have ended too, as the second control plane lists them.
func (c *clinic) holds(t *testing.T) (found []hold) {
	t.Helper()
	var list struct{ Data []hold }
	c.planes[1].Call(t, "GET", "/holds?limit=1000", nil, http.StatusOK, &list)
	for _, h := range list.Data {
		if h.Reason == "health" {
			found = append(found, h)
		}
	}
	return found
}

func (c *clinic) hold(t *testing.T, target string) *hold {
	t.Helper()
	holds := c.holds(t)
	if i := slices.IndexFunc(holds, func(h hold) bool { return h.Target == target }); i >= 0 {
		return &holds[i]
	}
	return nil
}

func (c *clinic) lasts(t *testing.T, target string) bool {
	h := c.hold(t, target)
	return h != nil && h.Until.After(time.Now())
}

// held waits for a hold that ends after a time.
func (c *clinic) held(t *testing.T, target string, after time.Time) (h hold) {
	t.Helper()
	took := process.Eventually(t, 30*time.Second, "a hold of "+target, func() bool {
		found := c.hold(t, target)
		if found == nil || !found.Until.After(after) {
			return false
		}
		h = *found
		return true
	})
	t.Logf("after %s: %s is held for %s: %s", took.Round(time.Millisecond), target,
		h.Until.Sub(h.Updated).Round(time.Millisecond), h.Message)
	return h
}

type providerHealth struct {
	ProviderID    int64  `json:"provider_id"`
	UpstreamModel string `json:"upstream_model"`
	Attempts      int64
	Failures      int64
	Held          *struct {
		Until  time.Time
		Reason string
		Cause  string
	}
}

func (c *clinic) health(t *testing.T, id int64, model string) (found providerHealth) {
	t.Helper()
	var list struct{ Data []providerHealth }
	c.plane.Call(t, "GET", fmt.Sprint("/health/providers?provider_id=", id), nil, http.StatusOK, &list)
	for _, h := range list.Data {
		if h.UpstreamModel == model {
			found = h
		}
	}
	return found
}

// wantHold expects that a hold was made for so long, and that health and alerts tell of it.
func (c *clinic) wantHold(t *testing.T, h hold, lasts time.Duration, cause, class string) {
	t.Helper()
	if got := h.Until.Sub(h.Updated); (got - lasts).Abs() > lasts/4 {
		t.Errorf("%s is held for %s, want %s", h.Target, got, lasts)
	}
	if !strings.Contains(h.Message, class) {
		t.Errorf("%s is held because %s; want %s", h.Target, h.Message, class)
	}
	var id int64
	_, _ = fmt.Sscanf(h.Target, "provider/%d", &id)
	_, model, _ := strings.Cut(strings.TrimPrefix(h.Target, "provider/"), "/")
	if got := c.health(t, id, model).Held; got == nil || got.Reason != "health" || got.Cause != cause ||
		got.Until.Before(h.Until) {
		t.Errorf("health shows %+v of %s, which is held until %s for %s", got, h.Target, h.Until, cause)
	}
	process.Eventually(t, 5*time.Second, "an alert tells of "+h.Target, func() bool {
		return slices.Contains(c.alerts(t, h.Target), "provider_held")
	})
}

// alerts returns the kinds of those about a subject, oldest first.
func (c *clinic) alerts(t *testing.T, subject string) (kinds []string) {
	t.Helper()
	var list struct {
		Data []struct{ Kind, Subject string }
	}
	c.plane.Call(t, "GET", "/alerts?limit=1000", nil, http.StatusOK, &list)
	for _, a := range slices.Backward(list.Data) {
		if a.Subject == subject {
			kinds = append(kinds, a.Kind)
		}
	}
	return kinds
}
