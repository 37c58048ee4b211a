package browser_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A tab is a page of the browser that somebody looks at.
type tab struct {
	ctx  context.Context //nolint:containedctx // chromedp's contexts are its tabs
	base string          // of the console

	mu    sync.Mutex
	noise []string // what the browser's console says, errors and violations of policies among it
}

// open starts a browser and opens a page.
func open(t *testing.T, base string) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing, in which the console is looked at; test/integration.sh installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.ExecPath(path), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{ctx: ctx, base: base}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800)); err != nil { // it starts the browser
		t.Fatal(err)
	}
	go func() {
		for message, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			if message.Type == "debug" || message.Type == "info" { // hints
				continue
			}
			b.mu.Lock()
			b.noise = append(b.noise, fmt.Sprintf("%s: %s (%s)", message.Type, message.Text, message.URL))
			b.mu.Unlock()
		}
	}()
	return b
}

// patience is how long a page may take on a machine that has much to do.
const patience = time.Minute

func (b *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// evaluate runs JavaScript in the page.
func evaluate[T any](t *testing.T, b *tab, script string, options ...chromedp.EvaluateOption) T {
	t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, options...))
	if err != nil {
		t.Fatalf("%.80s: %v", script, err)
	}
	return v
}

// visit opens a page of the console.
func (b *tab) visit(t *testing.T, path string) {
	t.Helper()
	b.do(t, chromedp.Navigate(b.base+path))
}

// fill types into the field of a name.
func (b *tab) fill(t *testing.T, name, text string) {
	t.Helper()
	b.do(t, chromedp.SendKeys(fmt.Sprintf(`main [name=%q]`, name), text))
}

// press presses the button or follows the link that says something, in the main part of the page.
func (b *tab) press(t *testing.T, label string) {
	t.Helper()
	found := evaluate[bool](t, b, fmt.Sprintf(`(() => {
		const all = [...document.querySelectorAll("main button, main a")];
		const one = all.find((e) => e.textContent.trim() === %q);
		if (one) one.click();
		return !!one;
	})()`, label))
	if !found {
		t.Fatalf("nothing says %q: %s", label, b.text(t))
	}
}

func (b *tab) text(t *testing.T) string {
	t.Helper()
	return evaluate[string](t, b, `location.pathname + "\n" + (document.body ? document.body.innerText : "")`)
}

// sees waits until the page says something, by itself or after it was loaded again.
func (b *tab) sees(t *testing.T, text string, reload bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		script := `document.body ? document.body.innerText : ""`
		says, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](script)) // it fails while a page gives way to another
		if err == nil && strings.Contains(says, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the page does not say %q: %s", text, b.text(t))
		}
		if reload {
			time.Sleep(time.Second)
			b.do(t, chromedp.Reload())
		}
	}
}

// quiet fails if the browser has complained about a page.
func (b *tab) quiet(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, message := range b.noise {
		t.Errorf("the browser says %s", message)
	}
	b.noise = nil
}

// signIn signs in by the page.
func (b *tab) signIn(t *testing.T, token string) {
	t.Helper()
	b.visit(t, "")
	b.fill(t, "token", token)
	b.press(t, "Sign in")
	b.do(t, chromedp.WaitVisible("body.app"))
}

// wear chooses a language and a theme, as the buttons of the page do.
func (b *tab) wear(t *testing.T, language, theme string) {
	t.Helper()
	evaluate[string](t, b, fmt.Sprintf(`document.cookie = "ezapi-language=%s;path=/",
		document.cookie = "ezapi-theme=%s;path=/"`, language, theme))
}

// axe returns the source of axe-core, which npm gets.
func axe(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("npm is missing, which gets axe-core; test/integration.sh installs it")
	}
	dir := t.TempDir()
	install := exec.Command("npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts",
		"--prefer-offline", "axe-core@4.14.1")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm: %v\n%s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// audit returns what axe-core finds serious on the page. The source is evaluated, because the page's
// policy takes no foreign script.
func (b *tab) audit(t *testing.T, source string) []string {
	t.Helper()
	evaluate[bool](t, b, source+";true")
	return evaluate[[]string](t, b, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations
		.filter((v) => v.impact === "serious" || v.impact === "critical")
		.map((v) => v.id + ": " + v.nodes.map((n) => n.html.slice(0, 160) + " " + n.failureSummary).join("; ")))`,
		chromedp.EvalAwaitPromise)
}
