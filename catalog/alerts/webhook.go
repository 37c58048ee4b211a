package alerts

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Format is the shape of the body that a webhook takes.
type Format string

// The formats. All but JSON are those of chat programs' incoming webhooks.
const (
	JSON     Format = "json"
	Slack    Format = "slack"
	Feishu   Format = "feishu"
	DingTalk Format = "dingtalk"
	WeCom    Format = "wecom"
)

// Formats lists all formats.
func Formats() []Format { return []Format{JSON, Slack, Feishu, DingTalk, WeCom} }

// The headers of the format json. The signature is v1= and the HMAC-SHA-256, in hex, with the secret as the
// key, of the timestamp (unix seconds), a dot, and the body.
const (
	HeaderTimestamp = "EZ-Timestamp"
	HeaderSignature = "EZ-Signature"
)

const (
	sendTimeout = 10 * time.Second
	maxAnswer   = 64 << 10
)

// Webhook delivers alerts to a URL. It is safe for concurrent use.
type Webhook struct {
	target *url.URL
	format Format
	secret catalog.Secret
	client *http.Client
	clock  func() time.Time
}

// WebhookOptions are the settings of a [Webhook]. The zero value is fine, and so is nil.
type WebhookOptions struct {
	// Secret signs what is sent: see [HeaderSignature]. Feishu and DingTalk have signatures of their own, which
	// are made of it. Slack and WeCom have none, their URLs are secret. Defaults to none: nothing is signed.
	Secret catalog.Secret

	// Private allows plain http, and addresses that are not public. Defaults to catalog.PublicOnly.
	Private catalog.Privacy

	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

// NewWebhook returns a Webhook that posts to a URL. Its query may say ?format=slack, feishu, dingtalk or wecom;
// that parameter is not sent. The error wraps catalog.ErrInvalid and does not repeat the URL, which may be secret.
func NewWebhook(text string, opts *WebhookOptions) (*Webhook, error) {
	if opts == nil {
		opts = &WebhookOptions{}
	}
	address, query, _ := strings.Cut(text, "?")
	if err := catalog.CheckUpstreamURL(address, opts.Private); err != nil {
		return nil, asURLError(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, asURLError(err)
	}
	values, err := url.ParseQuery(query)
	if err != nil || strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
		return nil, asURLError(errors.New("its query cannot be read"))
	}
	w := &Webhook{target: u, format: JSON, secret: opts.Secret, clock: opts.Clock}
	if values.Has("format") {
		w.format = Format(values.Get("format"))
		values.Del("format")
	}
	if !slices.Contains(Formats(), w.format) {
		return nil, asURLError(errors.New("its format must be json, slack, feishu, dingtalk or wecom"))
	}
	u.RawQuery = values.Encode()
	if w.clock == nil {
		w.clock = time.Now
	}
	dialer := &net.Dialer{Timeout: sendTimeout}
	if opts.Private == catalog.PublicOnly {
		dialer.Control = catalog.DialControl
	}
	w.client = &http.Client{
		Timeout: sendTimeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: sendTimeout, ForceAttemptHTTP2: true,
			MaxIdleConns: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

func asURLError(err error) error {
	message := err.Error()
	var fields catalog.FieldErrors
	if errors.As(err, &fields) && len(fields) > 0 {
		message = fields[0].Message
	}
	return &catalog.FieldError{Field: "url", Message: message}
}

// Send delivers an alert once, in at most 10 s. Its error says in its own words what went wrong,
// and holds neither the URL, which may be a secret, nor anything of the answer.
func (w *Webhook) Send(ctx context.Context, a *Alert) error {
	r, err := w.request(ctx, a)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return plainly(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("the address answered status %d; redirects are not followed", resp.StatusCode)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("the address answered status %d", resp.StatusCode)
	case err != nil:
		return plainly(err)
	}
	return w.format.judge(body)
}

// plainly says what went wrong without the URL that errors of net/http repeat.
func plainly(err error) error {
	var e net.Error
	switch {
	case errors.Is(err, catalog.ErrPrivateAddress):
		return fmt.Errorf("the address is not public: %w", catalog.ErrPrivateAddress)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &e) && e.Timeout():
		return errors.New("the address did not answer in time")
	}
	return errors.New("the address cannot be reached")
}

// request makes the request for an alert.
func (w *Webhook) request(ctx context.Context, a *Alert) (*http.Request, error) {
	now := w.clock()
	target := *w.target
	message := w.format.message(a)
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"ez-api"}}
	signed := !w.secret.IsZero()
	if signed {
		w.format.sign(message, &target, w.secret, now)
	}
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	if signed && w.format == JSON {
		stamp := strconv.FormatInt(now.Unix(), 10)
		header.Set(HeaderTimestamp, stamp)
		header.Set(HeaderSignature, "v1="+hex.EncodeToString(mac(w.secret.Reveal(), stamp+"."+string(body))))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address cannot be asked")
	}
	r.Header = header
	return r, nil
}

func mac(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

// object is a JSON object of a format.
type object = map[string]any

// message returns the body for an alert.
func (f Format) message(a *Alert) object {
	text := fmt.Sprintf("[%s] %s", a.Severity, a.Message)
	switch f {
	case Slack:
		return object{"text": slackText(text)}
	case Feishu:
		return object{"msg_type": "text", "content": object{"text": feishuText(text)}}
	case DingTalk, WeCom:
		return object{"msgtype": "text", "text": object{"content": text}}
	case JSON:
	}
	m := object{
		"id": a.ID, "kind": a.Kind, "severity": a.Severity, "subject": a.Subject, "message": a.Message, "at": a.At.UTC(),
	}
	if a.Project != "" {
		m["project"] = a.Project
	}
	return m
}

// slackText escapes what Slack gives a meaning to: names could mention a whole channel otherwise.
func slackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// feishuText takes away what makes Feishu mention people: a name that holds <at user_id="all"> would call
// everybody. Feishu has no escape for it in plain texts, so that the wide forms of the signs stand there.
func feishuText(text string) string {
	return strings.NewReplacer("<", "\uff1c", ">", "\uff1e").Replace(text)
}

// sign adds the signature that a format has in its body or its query.
func (f Format) sign(message object, target *url.URL, secret catalog.Secret, now time.Time) {
	switch f {
	case Feishu:
		// The text to sign is the key, and nothing is signed with it.
		stamp := strconv.FormatInt(now.Unix(), 10)
		message["timestamp"] = stamp
		message["sign"] = base64.StdEncoding.EncodeToString(mac(stamp+"\n"+secret.Reveal(), ""))
	case DingTalk:
		stamp := strconv.FormatInt(now.UnixMilli(), 10)
		q := target.Query()
		q.Set("timestamp", stamp)
		q.Set("sign", base64.StdEncoding.EncodeToString(mac(secret.Reveal(), stamp+"\n"+secret.Reveal())))
		target.RawQuery = q.Encode()
	case JSON, Slack, WeCom:
	}
}

// judge returns an error where an answer with a good status says that the alert was not taken.
func (f Format) judge(body []byte) error {
	var answer struct {
		Code    int `json:"code"`    // Feishu
		ErrCode int `json:"errcode"` // DingTalk, WeCom
	}
	switch f {
	case Feishu, DingTalk, WeCom:
		if err := json.Unmarshal(body, &answer); err != nil {
			return errors.New("the address did not answer as its format does")
		}
		if code := answer.Code + answer.ErrCode; code != 0 {
			return fmt.Errorf("the address refused the alert with code %d", code)
		}
	case JSON, Slack:
	}
	return nil
}
