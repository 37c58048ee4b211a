package browser_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestForms types in forms with the keyboard alone, switches the language in the middle, and comes too late.
func TestForms(t *testing.T) {
	dir := t.TempDir()
	server := run(t, build(t, dir, "./cmd/server"), "EZ_API_PORT=0", "EZ_DATA_DIR="+dir+"/data",
		"EZ_REDIS_ADDR=embedded://127.0.0.1:0")
	token, err := os.ReadFile(dir + "/data/admin-token")
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, server+"/console/")
	source := axe(t)
	audit := func(page string) {
		t.Helper()
		for _, fault := range b.audit(t, source) {
			t.Errorf("%s: %s", page, fault)
		}
	}
	b.signIn(t, strings.TrimSpace(string(token)))

	b.visit(t, "models/new")
	b.fill(t, "name", "half typed")
	b.do(t, chromedp.Click(`#top button[value="zh"]`), chromedp.WaitVisible(`html[lang="zh"]`))
	if typed := evaluate[string](t, b, `document.querySelector('[name="name"]').value`); typed != "half typed" {
		t.Errorf("the other language has %q", typed)
	}
	b.do(t, chromedp.Click(`#top button[value="dark"]`), chromedp.WaitVisible(`html[data-theme="dark"]`))
	audit("a form in another language")
	b.fill(t, "name", "\r") // the Enter key sends the form, and switches nothing
	b.sees(t, "已创建。", false)
	b.do(t, chromedp.Click(`#top button[value="en"]`), chromedp.WaitVisible(`html[lang="en"]`))

	b.visit(t, "models/1/edit")
	patch, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server+"/models/1",
		strings.NewReader(`{"price_source": "theirs", "kind": "image"}`))
	if err != nil {
		t.Fatal(err)
	}
	patch.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	patch.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := http.DefaultClient.Do(patch)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatalf("somebody else is answered with %d", resp.StatusCode)
	}
	b.do(t, chromedp.SetValue(`[name="price_source"]`, "mine"))
	b.press(t, "Save")
	b.sees(t, "Somebody else has changed the same meanwhile", false)
	audit("a conflict")
	if kind := evaluate[string](t, b, `document.querySelector('[name="kind"]').value`); kind != "image" {
		t.Errorf("what the other has changed is %q in the form", kind)
	}
	b.press(t, "Write mine over it")
	b.sees(t, "The change is made.", false)
	b.sees(t, "mine", false)

	b.visit(t, "keys/new")
	b.fill(t, "name", "alice\r")
	b.sees(t, "This is the only time that it is shown", false)
	if n := evaluate[int](t, b, `document.querySelectorAll('#top [name="language"], #top [name="theme"]').length`); n != 0 {
		t.Errorf("%d buttons beside the token would lose it", n)
	}
	audit("a token")
	b.mu.Lock()
	b.noise = without(b.noise, "412") // the conflict
	b.mu.Unlock()
	b.quiet(t)
}
