package alerts_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
)

var now = time.Unix(1_800_000_000, 123_000_000).UTC()

func clock() time.Time { return now }

// received is what a receiver of alerts was sent.
type received struct {
	query  url.Values
	header http.Header
	body   string
}

// receiver answers every request, and keeps the last.
func receiver(t *testing.T, status int, answer string) (address string, last *received) {
	t.Helper()
	last = &received{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*last = received{r.URL.Query(), r.Header.Clone(), string(body)}
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL, last
}

func newWebhook(t *testing.T, address, secret string) *alerts.Webhook {
	t.Helper()
	w, err := alerts.NewWebhook(address, &alerts.WebhookOptions{
		Secret: catalog.NewSecret(secret), Private: catalog.AllowPrivate, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func anAlert() *alerts.Alert {
	return &alerts.Alert{
		ID: 7, Kind: alerts.BudgetExhausted, Severity: alerts.Critical, Subject: "key/12", Project: "acme",
		Message: `The budget of <!channel> & "co" is used up.`, At: now,
	}
}

// The signatures and bodies were computed with the openssl program, by the rules of each receiver.
func TestWebhookFormats(t *testing.T) {
	for _, c := range []struct {
		format, secret, answer string
		body, query            string
		header                 map[string]string
	}{
		{
			format: "", secret: "s3cret",
			body: `{"at":"2027-01-15T08:00:00.123Z","id":7,"kind":"budget_exhausted",` +
				`"message":"The budget of \u003c!channel\u003e \u0026 \"co\" is used up.","project":"acme","severity":"critical","subject":"key/12"}`,
			query:  "to=me",
			header: map[string]string{"EZ-Timestamp": "1800000000", "EZ-Signature": jsonSignature},
		},
		{
			format: "slack", secret: "s3cret", answer: "ok",
			body:   `{"text":"[critical] The budget of \u0026lt;!channel\u0026gt; \u0026amp; \"co\" is used up."}`,
			query:  "to=me",
			header: map[string]string{"EZ-Signature": ""},
		},
		{
			format: "feishu", secret: "s3cret", answer: `{"code":0,"msg":"success"}`,
			body: `{"content":{"text":"[critical] The budget of ＜!channel＞ \u0026 \"co\" is used up."},` +
				`"msg_type":"text","sign":"` + feishuSignature + `","timestamp":"1800000000"}`,
			query: "to=me",
		},
		{
			format: "dingtalk", secret: "s3cret", answer: `{"errcode":0,"errmsg":"ok"}`,
			body: `{"msgtype":"text","text":{"content":"[critical] The budget of ` +
				`\u003c!channel\u003e \u0026 \"co\" is used up."}}`,
			query: "sign=" + url.QueryEscape(dingtalkSignature) + "&timestamp=1800000000123&to=me",
		},
		{
			format: "wecom", answer: `{"errcode":0,"errmsg":"ok"}`,
			body: `{"msgtype":"text","text":{"content":"[critical] The budget of ` +
				`\u003c!channel\u003e \u0026 \"co\" is used up."}}`,
			query: "to=me",
		},
	} {
		t.Run("format "+c.format, func(t *testing.T) {
			address, last := receiver(t, http.StatusOK, c.answer)
			address += "/hook?to=me"
			if c.format != "" {
				address += "&format=" + c.format
			}
			if err := newWebhook(t, address, c.secret).Send(t.Context(), anAlert()); err != nil {
				t.Fatal(err)
			}
			if last.body != c.body {
				t.Errorf("the body is\n%s\nwant\n%s", last.body, c.body)
			}
			if got := last.query.Encode(); got != c.query {
				t.Errorf("the query is %s, want %s", got, c.query)
			}
			for name, want := range c.header {
				if got := last.header.Get(name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
			if !json.Valid([]byte(last.body)) || last.header.Get("Content-Type") != "application/json" {
				t.Errorf("the body is no JSON, or does not say that it is: %v", last.header)
			}
		})
	}
}

func TestWebhookFailures(t *testing.T) {
	const secret = "topsecret"
	for _, c := range []struct {
		name, format, answer string
		status               int
		want                 string
	}{
		{"an error", "json", "body with " + secret, 500, "the address answered status 500"},
		{"a redirect", "json", "", http.StatusFound, "the address answered status 302; redirects are not followed"},
		{"refused by Feishu", "feishu", `{"code":19021,"msg":"` + secret + `"}`, 200, "refused the alert with code 19021"},
		{"refused by DingTalk", "dingtalk", `{"errcode":310000,"errmsg":"` + secret + `"}`, 200, "code 310000"},
		{"refused by WeCom", "wecom", `{"errcode":93000}`, 200, "code 93000"},
		{"a page", "wecom", "<html>" + secret, 200, "did not answer as its format does"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, _ := receiver(t, c.status, c.answer)
			err := newWebhook(t, address+"/"+secret+"?format="+c.format+"&key="+secret, secret).Send(t.Context(), anAlert())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}

	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(nil)
		address := s.URL
		s.Close()
		err := newWebhook(t, address+"/"+secret, "").Send(t.Context(), anAlert())
		if err == nil || err.Error() != "the address cannot be reached" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too late", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server hears that a client has gone only after its body
			<-r.Context().Done()
		}))
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := newWebhook(t, s.URL+"/"+secret, "").Send(ctx, anAlert())
		if err == nil || err.Error() != "the address did not answer in time" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a private address behind a public name", func(t *testing.T) {
		w, err := alerts.NewWebhook("https://hooks.example.com/hook", nil)
		if err != nil {
			t.Fatal(err)
		}
		alerts.ResolveTo(w, "127.0.0.1:1")
		if err := w.Send(t.Context(), anAlert()); !errors.Is(err, catalog.ErrPrivateAddress) {
			t.Errorf("got %v, want ErrPrivateAddress", err)
		}
	})
}

func TestWebhookAddresses(t *testing.T) {
	for _, c := range []struct {
		address string
		private catalog.Privacy
		want    string // in the error; "" is none
	}{
		{"https://hooks.example.com/services/a?b=c", catalog.PublicOnly, ""},
		{"http://10.0.0.1:8080/x", catalog.AllowPrivate, ""},
		{"http://hooks.example.com/", catalog.PublicOnly, "https"},
		{"https://10.0.0.1/", catalog.PublicOnly, "public"},
		{"https://user:topsecret@hooks.example.com/", catalog.PublicOnly, "user"},
		{"https://hooks.example.com/?format=teams&token=topsecret", catalog.PublicOnly, "format"},
		{"https://hooks.example.com/?a=%zz", catalog.PublicOnly, "query"},
		{"https://hooks.example.com/?a=b c", catalog.PublicOnly, "query"},
		{"https://hooks.example.com/?a=b#topsecret", catalog.PublicOnly, "query"},
		{"", catalog.PublicOnly, "URL"},
	} {
		_, err := alerts.NewWebhook(c.address, &alerts.WebhookOptions{Private: c.private})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.address, err)
		case c.want != "" && (err == nil || !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v; want an error that names %s", c.address, err, c.want)
		case err != nil && strings.Contains(err.Error(), "topsecret"):
			t.Errorf("%s: the error shows a secret: %v", c.address, err)
		}
	}
}

const (
	jsonSignature     = "v1=aae64389dea3d1a4991ef89ddc82b9fe3636c90d23bc3e2a1877c4685ded20cb"
	feishuSignature   = "BkUoIxkwhhcDRxia8PM6tr4uQ1ZKSPnbx1VyMFFVJgw="
	dingtalkSignature = "p2NqhDyyOXabNAYULQUUq8yD6biIpx/wZg4oQhvEEKU="
)
