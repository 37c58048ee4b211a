package console_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/console"
)

// TestChangesOfOthersStay: a form sends what was changed in it, and nothing else.
func TestChangesOfOthersStay(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	path := b.made("keys", url.Values{"name": {"first"}, "rpm_limit": {"5"}, "budgets[0].limit": {"5"},
		"budgets[0].window": {"day"}})
	mine, theirs := b.filled(path+"/edit"), b.filled(path+"/edit")
	theirs.Set("name", "renamed")
	theirs.Set("budgets[0].limit", "7")
	theirs.Set("rpm_limit", "6")
	b.post(path+"/edit", theirs)
	key := func() catalog.Key {
		t.Helper()
		return must[catalog.Key](t)(s.plane.Keys.Get(t.Context(), 1))
	}
	mine.Set("tpm_limit", "900")
	got := b.post(path+"/edit", mine)
	if got.status != http.StatusOK || !got.has("What somebody else has changed meanwhile stays") {
		t.Errorf("%d %s", got.status, got.text())
	}
	if k := key(); k.Name != "renamed" || k.TPMLimit != 900 || k.RPMLimit != 6 || k.Budgets[0].Limit.String() != "7" {
		t.Errorf("it is %+v", k)
	}
	// One field was changed by both, and asked about; of the others nothing is undone.
	mine.Set("rpm_limit", "8")
	got = b.post(path+"/edit", mine)
	if got.status != http.StatusPreconditionFailed || strings.Count(got.body, `<div class="pair">`) != 1 ||
		!got.has(`name="name" value="renamed"`) || !got.has(`name="rpm_limit" value="8"`) {
		t.Fatalf("%d %s", got.status, got.text())
	}
	if k := key(); k.RPMLimit != 6 {
		t.Errorf("it was written: %+v", k)
	}
	// The same value is no conflict.
	mine.Set("rpm_limit", "6")
	if got = b.post(path+"/edit", mine); got.status != http.StatusOK || !got.has("already as the form says") {
		t.Errorf("%d %s", got.status, got.text())
	}
	var long bytes.Buffer
	z := gzip.NewWriter(&long)
	_, _ = z.Write([]byte("name=" + strings.Repeat("x", 9<<20)))
	_ = z.Close()
	packed := base64.RawURLEncoding.EncodeToString(long.Bytes())
	if got = b.post(path+"/edit", url.Values{"shown": {packed}}); got.status != http.StatusBadRequest {
		t.Errorf("what is longer than a form: %d", got.status)
	}
	if got = b.post(path+"/edit", url.Values{"shown": {"not packed here"}}); got.status != http.StatusBadRequest {
		t.Errorf("what was not packed: %d", got.status)
	}
}

// TestLongFormsAreRead: a provider may have more prices than net/url reads fields at once.
func TestLongFormsAreRead(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	form := url.Values{"name": {"p"}, "type": {"openai"}, "models": {"*"}}
	const rows = 1450 // of seven fields
	for i := range rows {
		for _, column := range []string{"input_price", "output_price", "cache_read_price", "cache_write_price",
			"request_price", "price_tiers"} {
			form.Set(fmt.Sprintf("prices[%d].%s", i, column), "")
		}
		form.Set(fmt.Sprintf("prices[%d].model", i), fmt.Sprint("m", i))
		form.Set(fmt.Sprintf("prices[%d].input_price", i), "1")
	}
	path := b.made("providers", form)
	edit := b.filled(path + "/edit")
	edit.Set("prices[7].input_price", "2")
	if got := b.post(path+"/edit", edit); got.status != http.StatusOK || !got.has("The change is made") {
		t.Errorf("%d %.300s", got.status, got.text())
	}
	p := must[catalog.Provider](t)(s.plane.Providers.Get(t.Context(), 1))
	if len(p.Prices) != rows {
		t.Errorf("the provider has %d prices", len(p.Prices))
	}
}

// TestFormsAreBounded: who is not signed in sends no form with more fields than any has, neither as it is nor packed.
func TestFormsAreBounded(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser(t)
	many := strings.Repeat("a&", 200_000)
	form := "application/x-www-form-urlencoded"
	resp := must[*http.Response](t)(http.Post(s.url+"signin", form, strings.NewReader(many)))
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("many fields: %d", resp.StatusCode)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(many))
	_ = z.Close()
	for _, path := range []string{"signin", "settings"} {
		got := b.post(path, url.Values{"typed": {base64.RawURLEncoding.EncodeToString(packed.Bytes())}})
		if got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("many fields that are packed, to %s: %d", path, got.status)
		}
	}
}

// TestFormsAreCarriedOutOnce: a second click makes nothing, and shows what the first has made.
func TestFormsAreCarriedOutOnce(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	form := b.filled("keys/new")
	form.Set("name", "k")
	form.Set("rpm_limit", "many")
	if got := b.post("keys/new", form); got.status != http.StatusUnprocessableEntity {
		t.Fatalf("what is wrong: %d", got.status)
	}
	form.Set("rpm_limit", "9") // what was refused may be sent again, under the same number
	answers := make([]answer, 4)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = b.post("keys/new", form) })
	}
	wg.Wait()
	tokens := map[string]bool{}
	for _, got := range answers {
		if found := shownKey.FindStringSubmatch(got.body); found != nil {
			tokens[found[1]] = true
		} else if !got.has("was sent twice") {
			t.Errorf("%d %s", got.status, got.text())
		}
	}
	if n := must[int64](t)(s.plane.Keys.Count(t.Context(), catalog.Query{})); n != 1 || len(tokens) != 1 {
		t.Errorf("%d keys and %d tokens were made", n, len(tokens))
	}
	late := b.post("keys/new", form)
	if shownKey.MatchString(late.body) || !late.has("was sent twice") || late.url != s.url+"keys/1" {
		t.Errorf("later: at %s: %s", late.url, late.text())
	}
	// The number is that of one person.
	other := s.signedIn(t, s.token(t, catalog.Operator{Name: "dana", Role: catalog.RoleAdmin}))
	if got := other.post("keys/new", form); !shownKey.MatchString(got.body) {
		t.Errorf("somebody else: %d %s", got.status, got.text())
	}
	rotate := b.get("keys/1/rotate").hidden()
	rotate.Set("grace", "0")
	first, second := b.post("keys/1/rotate", rotate), b.post("keys/1/rotate", rotate)
	if !shownKey.MatchString(first.body) || shownKey.MatchString(second.body) || !second.has("was sent twice") {
		t.Errorf("rotated twice: %s", second.text())
	}
}

// TestSwitchesKeepWhatIsTyped: another language or theme shows the same form, with what was typed.
func TestSwitchesKeepWhatIsTyped(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	if page := b.get("models/new"); !page.has(`form="typed" name="language" value="zh"`) || !page.has(`id="typed"`) {
		t.Error("the buttons do not send the form")
	}
	form := b.filled("models/new")
	form.Set("name", "half typed")
	form.Set("language", "zh")
	got := b.post("models/new", form)
	if got.status != http.StatusOK || !got.has(`value="half typed"`) || !got.has(`<html lang="zh"`) {
		t.Errorf("%d %s", got.status, got.text())
	}
	if n := must[int64](t)(s.plane.Models.Count(t.Context(), catalog.Query{})); n != 0 {
		t.Error("a switch has carried out the form")
	}
	form.Set("language", "en")
	b.post("models/new", form)
	path := b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	form = b.filled(path + "/edit")
	form.Set("price_source", "by-hand")
	form.Set("theme", "dark")
	got = b.post(path+"/edit", form)
	if got.status != http.StatusOK || !got.has(`value="by-hand"`) || !got.has(`data-theme="dark"`) {
		t.Errorf("%d %s", got.status, got.text())
	}
	form.Del("theme")
	form.Set("shown", got.hidden().Get("shown"))
	if got = b.post(path+"/edit", form); !got.has("The change is made") || !got.has("by-hand") {
		t.Errorf("after the switch: %s", got.text())
	}
	// A plan is made again in the other language, and not carried out.
	plan := b.get("revert?revision=3")
	agreed := plan.hidden()
	agreed.Set("language", "zh")
	got = b.post("revert?revision=3", agreed)
	if got.status != http.StatusOK || !got.has(`<html lang="zh"`) || got.hidden().Get("expect") == "" {
		t.Errorf("%d %s", got.status, got.text())
	}
	if m := must[catalog.Model](t)(s.plane.Models.Get(t.Context(), 1)); m.PriceSource != "by-hand" {
		t.Error("the switch has carried out the plan")
	}
	// A token that is shown once has no switch beside it.
	form = b.filled("keys/new")
	form.Set("name", "k")
	if got := b.post("keys/new", form); !shownKey.MatchString(got.body) ||
		got.has(`name="language"`) || got.has(`name="theme"`) {
		t.Errorf("the page of a token: %s", got.text())
	}
}

// TestPlansCanBeLoadedAgain: the address of a plan's page has the revision that it is about.
func TestPlansCanBeLoadedAgain(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	plan := b.get("revert?to=0")
	if !plan.has(`action="revert?to=0"`) {
		t.Fatalf("the form leads elsewhere: %s", plan.body)
	}
	agreed := plan.hidden()
	agreed.Set("expect", strings.Repeat("0", 64))
	got := b.post("revert?to=0", agreed)
	if got.status != http.StatusPreconditionFailed || !got.has(`name="back" value="revert?to=0"`) {
		t.Errorf("%d %s", got.status, got.text())
	}
	if again := b.get("revert?to=0"); again.status != http.StatusOK {
		t.Errorf("loaded again: %d", again.status)
	}
}

// TestFormsComeBackAfterTheSession: what was typed is carried through the sign-in, but for secrets.
func TestFormsComeBackAfterTheSession(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	s := newSite(t, &console.Options{Clock: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	b := s.signedIn(t, adminToken)
	form := b.filled("providers/new")
	form.Set("name", "long <typed>")
	form.Set("type", "openai")
	form.Set("models", "a\r\nb")
	form.Set("api_key", "sk-must-not-be-carried")
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	got := b.post("providers/new", form)
	if got.status != http.StatusUnauthorized || !got.has("What you typed is kept") {
		t.Fatalf("%d %s", got.status, got.text())
	}
	signIn := got.hidden()
	carried := must[[]byte](t)(base64.RawURLEncoding.DecodeString(signIn.Get("carried")))
	unzip := must[*gzip.Reader](t)(gzip.NewReader(bytes.NewReader(carried)))
	if plain := must[[]byte](t)(io.ReadAll(unzip)); !bytes.Contains(plain, []byte("long")) ||
		bytes.Contains(plain, []byte("must-not-be-carried")) {
		t.Errorf("the page to sign in carries %s", plain)
	}
	signIn.Del("typed") // that is of the form beside it
	signIn.Set("token", "wrong-token-0123456789abcdef")
	signIn.Set("next", "providers/new")
	if got = b.post("signin", signIn); got.status != http.StatusUnauthorized ||
		got.hidden().Get("carried") != signIn.Get("carried") {
		t.Errorf("a wrong token loses the form: %d", got.status)
	}
	signIn.Set("token", adminToken)
	resume := b.post("signin", signIn)
	if !resume.has(`action="providers/new"`) {
		t.Fatalf("%d %s", resume.status, resume.text())
	}
	got = b.post("providers/new", resume.hidden())
	if got.status != http.StatusOK || !got.has(`value="long &lt;typed&gt;"`) || got.has("must-not-be-carried") ||
		!got.has("Type secrets again") {
		t.Errorf("%d %s", got.status, got.text())
	}
	if n := must[int64](t)(s.plane.Providers.Count(t.Context(), catalog.Query{})); n != 0 {
		t.Error("it was carried out")
	}
	if got = b.post("providers/new", form); got.status != http.StatusOK || !got.has("It was created") {
		t.Errorf("%d %s", got.status, got.text())
	}
}
