package browser_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/ez-api/ez-api/test/upstream"
)

const upstreamKey = "sk-upstream-0123456789abcdef"

// gateway is a server with nothing but a data directory, a balancer and a provider.
type gateway struct {
	console, balancer, provider, token string
}

// start builds and runs them.
func start(t *testing.T) gateway {
	t.Helper()
	dir := t.TempDir()
	provider := httptest.NewServer(upstream.New(upstreamKey, 0))
	t.Cleanup(provider.Close)
	data := filepath.Join(dir, "data")
	server := run(t, build(t, dir, "./cmd/server"), "EZ_API_PORT=0", "EZ_DATA_DIR="+data,
		"EZ_REDIS_ADDR=embedded://127.0.0.1:0")
	secret := func(name string) string {
		content, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(content))
	}
	token := secret("admin-token")
	balancer := run(t, build(t, dir, "./examples/balancer"), "EZ_REDIS_ADDR="+secret("redis-url"), "EZ_LOGS_URL="+server,
		"EZ_BALANCER_TOKEN="+token, "LISTEN=127.0.0.1:0")
	return gateway{server + "/console/", balancer, provider.URL, token}
}

// build builds a program into a directory.
func build(t *testing.T, dir, program string) string {
	t.Helper()
	command := exec.Command("go", "build", "-C", "../..", "-o", dir, program)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", program, err, out)
	}
	return filepath.Join(dir, filepath.Base(program))
}

var (
	address    = regexp.MustCompile(`"?url"?[=:]"?(http://[^\s"]+)`)
	anyAddress = regexp.MustCompile(`http://[^\s"]+`)
)

// run runs a program until the test ends, and returns the URL that it says it listens at.
func run(t *testing.T, program string, env ...string) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(env, "HOME="+t.TempDir()), file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output := func() string { text, _ := os.ReadFile(log); return string(text) }
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = file.Close()
		if t.Failed() {
			t.Logf("%s:\n%s", program, output())
		}
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text := output()
		if found := address.FindStringSubmatch(text); found != nil && strings.Contains(text, "ready") {
			return found[1]
		}
		if found := anyAddress.FindString(text); found != "" && strings.HasSuffix(program, "balancer") {
			return found
		}
	}
	t.Fatalf("%s does not say that it is ready: %s", program, output())
	return ""
}

// ask sends a request through the balancer, and returns its status.
func (g gateway) ask(t *testing.T, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.balancer+"/v1/chat/completions",
		bytes.NewReader([]byte(`{"model":"large","messages":[{"role":"user","content":"Is all well?"}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestConsole does what somebody does who begins: provider, model, key, a request, its log and its
// cost; the key is disabled, as planned, and that is taken back.
func TestConsole(t *testing.T) {
	g := start(t)
	b := open(t, g.console)
	b.signIn(t, g.token)

	b.visit(t, "providers/new")
	b.fill(t, "name", "mock")
	b.fill(t, "type", "compatible")
	b.fill(t, "base_url", g.provider)
	b.fill(t, "api_key", upstreamKey)
	b.press(t, "New provider")
	b.sees(t, "It was created.", false)
	b.press(t, "Test: list models")
	b.sees(t, "It answered as it should", false)
	b.press(t, "Back to the provider")
	b.sees(t, "Fetch its models", false)
	b.press(t, "Fetch its models")
	b.sees(t, "large", false)
	b.do(t, chromedp.Click(`[value="large"]`))
	b.press(t, "Add what is ticked")
	b.sees(t, "The change is made.", false)
	b.visit(t, "models/new")
	b.fill(t, "name", "large")
	b.fill(t, "input_price", "2.5")
	b.fill(t, "output_price", "10")
	b.press(t, "New model")
	b.sees(t, "It was created.", false)
	b.visit(t, "bindings/new")
	b.fill(t, "model", "large")
	b.fill(t, "selector_value", "large")
	b.press(t, "New binding")
	b.sees(t, "It was created.", false)

	b.visit(t, "keys/new")
	b.fill(t, "rpm_limit", "many")
	b.press(t, "New key") // what is wrong is said without leaving the page
	b.sees(t, "must be a whole number", false)
	b.do(t, chromedp.Clear(`[name="rpm_limit"]`))
	b.fill(t, "name", "alice")
	b.press(t, "New key")
	b.sees(t, "This is the only time that it is shown", false)
	token := evaluate[string](t, b, `document.getElementById("token").textContent`)
	b.sees(t, "applied everywhere", false)
	if status := g.ask(t, token); status != http.StatusOK {
		t.Fatalf("the request is answered with %d", status)
	}
	b.visit(t, "logs")
	b.sees(t, "$0.0000", true)
	b.sees(t, "alice", false)
	b.visit(t, "explain?model=large&key_id="+lastID(t, b, "keys"))
	b.sees(t, "The key reaches the model.", false)

	b.visit(t, "keys")
	b.press(t, "alice")
	b.sees(t, "Rotate token", false)
	b.press(t, "Disable")
	b.sees(t, "Requests with the key are refused while it is disabled", false)
	b.press(t, "Disable")
	b.sees(t, "applied everywhere", false)
	if status := g.ask(t, token); status == http.StatusOK {
		t.Error("the disabled key is served")
	}
	b.visit(t, "changes")
	b.press(t, "Take this revision back")
	b.sees(t, "Carry it out", false)
	b.press(t, "Carry it out")
	b.sees(t, "It is carried out.", false)
	b.sees(t, "applied", false)
	deadline := time.Now().Add(patience)
	for ; g.ask(t, token) != http.StatusOK; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the key that came back is not served")
		}
	}
	b.mu.Lock() // the form that was not acceptable was answered with 422, which the browser notes
	b.noise = without(b.noise, "422")
	b.mu.Unlock()
	b.quiet(t)
	t.Run("pages", func(t *testing.T) { lookAround(t, b) })
}

func without(noise []string, text string) (rest []string) {
	for _, n := range noise {
		if !strings.Contains(n, text) {
			rest = append(rest, n)
		}
	}
	return rest
}

// lastID returns the id of what a list shows last.
func lastID(t *testing.T, b *tab, noun string) string {
	t.Helper()
	b.visit(t, noun)
	return evaluate[string](t, b,
		`[...document.querySelectorAll("tbody th a")].pop().getAttribute("href").split("/")[1]`)
}

// keys are how texts are called in the catalogues.
var keys = regexp.MustCompile(`\b(nav|field|help|section|value|ask|about)\.[a-z_]+`)

// lookAround opens every page in both languages and both themes, wide and narrow.
func lookAround(t *testing.T, b *tab) {
	pages := []string{"", "logs", "unpriced", "providers/" + lastID(t, b, "providers") + "/upstream-models",
		"usage?group_by=model&group_by=key", "changes", "budgets", "alerts",
		"system", "apply", "lookup",
		"explain?model=large&key_id=" + lastID(t, b, "keys"), "explain?model=none&key_id=" + lastID(t, b, "keys"),
		"bindings/selector?model=large"}
	for _, noun := range []string{"providers", "models", "bindings", "keys"} {
		path := noun + "/" + lastID(t, b, noun)
		pages = append(pages, noun, noun+"/new", path, path+"/edit", path+"/status", path+"/delete")
	}
	for _, noun := range []string{"projects", "holds", "operators"} {
		pages = append(pages, noun, noun+"/new")
	}
	b.visit(t, "logs")
	pages = append(pages, evaluate[string](t, b, `document.querySelector("tbody a").getAttribute("href")`))
	source := axe(t)
	for _, look := range []struct {
		language, theme string
		width           int64
	}{{"en", "light", 1280}, {"zh", "dark", 390}} {
		b.wear(t, look.language, look.theme)
		b.do(t, chromedp.EmulateViewport(look.width, 800))
		for _, page := range pages {
			b.visit(t, page)
			for _, fault := range b.audit(t, source) {
				t.Errorf("%s, %s, %s: %s", page, look.language, look.theme, fault)
			}
			if over := evaluate[int](t, b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s is %d pixels wider than %d", page, over, look.width)
			}
			if keys.MatchString(b.text(t)) {
				t.Errorf("%s shows names of texts", page)
			}
		}
		b.quiet(t)
	}
	if dir := os.Getenv("EZ_TEST_SCREENSHOTS"); dir != "" {
		b.do(t, chromedp.EmulateViewport(1280, 800))
		photograph(t, b, dir)
	}
}

// photograph makes the pictures of docs/console.md.
func photograph(t *testing.T, b *tab, dir string) {
	for _, theme := range []string{"light", "dark"} {
		b.wear(t, "en", theme)
		for name, page := range map[string]string{
			"overview": "", "keys": "keys", "provider": "providers/" + lastID(t, b, "providers"), "logs": "logs",
			"explain": "explain?model=large&key_id=" + lastID(t, b, "keys"), "changes": "changes",
		} {
			b.visit(t, page)
			png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.png", name, theme)), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
