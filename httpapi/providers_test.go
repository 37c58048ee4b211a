package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A provider is asked on demand; the answer has nothing of what it sent, nor the secret, and nor has
// the log.
func TestProviderTest(t *testing.T) {
	const secret, said = "sk-0123456789-of-the-provider", "what the upstream says"
	var status atomic.Int64
	status.Store(200)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, `{"data":[{"id":"m1"},{"id":"a\u0000b"}],"error":{"message":"`+said+r.Header.Get("Authorization")+`"}}`)
	}))
	defer upstream.Close()
	s := newService(t, ezapi.Config{AllowPrivateUpstreams: true}, nil)
	id := func(o object) string { return number(o["id"]) }
	make := func(name, typ string) string {
		return id(s.must(http.StatusCreated, admin, "POST", "/providers", object{"name": name, "type": typ,
			"base_url": upstream.URL, "api_key": secret, "models": []any{"m1"}}).object(t))
	}
	p := "/providers/" + make("p", "compatible")
	test := func(body any) object {
		got := s.must(http.StatusOK, admin, "POST", p+"/test", body).object(t)
		if got["latency_ms"] == nil {
			t.Errorf("no latency: %v", got)
		}
		delete(got, "latency_ms")
		return got
	}
	if diff := cmp.Diff(object{"ok": true, "status": 200.0}, test(nil)); diff != "" {
		t.Errorf("without a body (-want +got):\n%s", diff)
	}
	status.Store(401)
	if diff := cmp.Diff(object{"ok": false, "class": "auth", "status": 401.0},
		test(object{"kind": "chat", "model": "m1"})); diff != "" {
		t.Errorf("chat (-want +got):\n%s", diff)
	}
	refused := s.must(http.StatusOK, admin, "GET", p+"/upstream-models", nil).object(t)
	if diff := cmp.Diff([]any{}, refused["models"]); diff != "" || refused["ok"] != false {
		t.Errorf("models of one that refuses: %v", refused)
	}
	status.Store(200)
	listed := s.must(http.StatusOK, admin, "GET", p+"/upstream-models", nil).object(t)
	if diff := cmp.Diff([]any{"m1"}, listed["models"]); diff != "" || listed["truncated"] != true || listed["ok"] != true {
		t.Errorf("models: %v", listed)
	}
	s.must(http.StatusOK, admin, "POST", p+"/test", nil)
	soon := s.do(admin, "POST", p+"/test", nil)
	soon.problem(t, http.StatusTooManyRequests, "too-soon")
	if after := soon.Header.Get("Retry-After"); after == "" || after == "0" {
		t.Errorf("Retry-After %q", after)
	}

	other := "/providers/" + make("q", "custom")
	if got := s.do(admin, "POST", other+"/test", nil).problem(t, http.StatusConflict,
		"untestable"); !strings.Contains(got.Detail, "custom") {
		t.Errorf("%+v", got)
	}
	s.do(admin, "GET", other+"/upstream-models", nil).problem(t, http.StatusConflict, "untestable")
	s.do(admin, "POST", "/providers/999/test", nil).problem(t, http.StatusNotFound, "not-found")
	s.do(admin, "GET", "/providers/x/upstream-models", nil).problem(t, http.StatusNotFound, "not-found")
	for _, body := range []object{{"kind": "body"}, {"model": "m1"}, {"kind": "models", "model": "m1"}, {"more": 1}} {
		s.do(admin, "POST", p+"/test", body).problem(t, http.StatusUnprocessableEntity, "invalid")
	}
	if log := s.log.String(); strings.Contains(log, secret) || strings.Contains(log, said) {
		t.Errorf("the log has what it must not: %s", log)
	}
}

// What balancers report is shown, and what is held because of it.
func TestProvidersHealth(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	p := s.must(http.StatusCreated, admin, "POST", "/providers",
		object{"name": "p", "type": "openai", "models": []any{"m", "n"}}).object(t)
	get := func(query string) object {
		return s.must(http.StatusOK, viewer, "GET", "/health/providers"+query, nil).object(t)
	}
	if got := get(""); got["judged_at"] != nil || got["window_seconds"] != 60.0 || len(got["data"].([]any)) != 0 {
		t.Errorf("at first: %v", got)
	}
	for i := range 12 {
		s.must(http.StatusAccepted, balancer, "POST", "/logs", fmt.Sprintf(`{"ts":%q,"balancer":"b%d","status":503,"failures":[`+
			`{"provider_id":%s,"upstream_model":"m","class":"server"},{"provider_id":%s,"upstream_model":"m","class":"client"}]}`,
			time.Now().UTC().Format(time.RFC3339), i, number(p["id"]), number(p["id"])))
	}
	s.must(http.StatusCreated, admin, "POST", "/holds", object{"target": "provider/" + number(p["id"]), "message": "mine"})
	if err := s.plane.JudgeHealth(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := get("?provider_id=" + number(p["id"]))
	rows, _ := got["data"].([]any)
	if len(rows) != 2 || got["judged_at"] == nil {
		t.Fatalf("%v", got)
	}
	whole, model := rows[0].(object), rows[1].(object)
	if diff := cmp.Diff(object{"until": nil, "reason": "admin", "message": "mine"}, whole["held"]); diff != "" ||
		whole["provider"] != "p" {
		t.Errorf("of the provider (-want +got):\n%s", diff)
	}
	held, _ := model["held"].(object)
	if model["upstream_model"] != "m" || model["attempts"] != 12.0 || model["failures"] != 12.0 ||
		model["strikes"] != 1.0 ||
		held["reason"] != "health" || held["cause"] != "failures" || held["until"] == nil ||
		!cmp.Equal(model["failures_by_class"], object{"server": 12.0}) {
		t.Errorf("of the model: %v", model)
	}
	first := get("?limit=1")
	next, _ := first["next_cursor"].(string)
	second := get("?limit=1&cursor=" + next)
	if diff := cmp.Diff(rows, append(first["data"].([]any), second["data"].([]any)...)); diff != "" || next == "" ||
		second["next_cursor"] != nil || got["next_cursor"] != nil {
		t.Errorf("in pages of one (-want +got):\n%s\n%v\n%v", diff, first, second)
	}
	for _, query := range []string{"?limit=0", "?limit=10001", "?cursor=x", "?cursor="} {
		s.must(http.StatusUnprocessableEntity, viewer, "GET", "/health/providers"+query, nil)
	}
	if got := get("?provider_id=999"); len(got["data"].([]any)) != 0 {
		t.Errorf("of another: %v", got)
	}
	holds := s.must(http.StatusOK, viewer, "GET", "/holds?name=provider/"+number(p["id"])+"/m",
		nil).object(t)["data"].([]any)
	if len(holds) != 1 || holds[0].(object)["cause"] != "failures" || holds[0].(object)["strikes"] != 1.0 {
		t.Errorf("holds %v", holds)
	}
	id := number(holds[0].(object)["id"])
	patched := s.must(http.StatusOK, admin, "PATCH", "/holds/"+id, object{"status": "disabled", "strikes": 0,
		"cause": "x"}).object(t)
	if patched["strikes"] != 1.0 || patched["cause"] != "failures" || patched["status"] != "disabled" {
		t.Errorf("after a patch: %v", patched)
	}
}

// While nothing is judged anew, readiness says so.
func TestReadinessOfJudging(t *testing.T) {
	sink := &forgetful{Sink: memstore.NewSink(nil)}
	now := time.Now()
	s := newService(t, ezapi.Config{LogSink: sink, Clock: func() time.Time { return now }}, nil)
	if status, note, _ := s.state("providers"); status != "ok" || note != "" {
		t.Errorf("before the first round: %s (%s)", status, note)
	}
	judge := func() { _ = s.plane.JudgeHealth(t.Context()) }
	judge()
	if status, _, _ := s.state("providers"); status != "ok" {
		t.Errorf("after a round: %s", status)
	}
	sink.away.Store(true)
	judge()
	if status, note, whole := s.state("providers"); status != "failed" || whole != "degraded" ||
		!strings.Contains(note, "judged anew") {
		t.Errorf("while the store is away: %s (%s), the server %s", status, note, whole)
	}
	sink.away.Store(false)
	judge()
	if status, _, _ := s.state("providers"); status != "ok" {
		t.Errorf("when it is back: %s", status)
	}
	now = now.Add(2 * time.Minute)
	if status, _, _ := s.state("providers"); status != "failed" {
		t.Errorf("when nobody judged for two minutes: %s", status)
	}
}

type forgetful struct {
	*memstore.Sink
	away atomic.Bool
}

func (f *forgetful) HealthNotes(ctx context.Context, since time.Time) ([]logbuf.HealthNote, error) {
	if f.away.Load() {
		return nil, errors.New("away")
	}
	return f.Sink.HealthNotes(ctx, since)
}
