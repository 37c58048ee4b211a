package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// sync publishes what there is.
func (s *service) sync() {
	s.t.Helper()
	if _, err := s.plane.Sync(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func TestExplain(t *testing.T) {
	const secret = "sk-explained-0123456789"
	s := newService(t, ezapi.Config{}, nil)
	s.do(viewer, "GET", "/explain?key_id=1&model=m", nil).problem(t, http.StatusNotFound, "not-found")
	key := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "alice"}).object(t)
	path := "/explain?key_id=" + number(key["id"]) + "&model="
	s.do(viewer, "GET", path+"m", nil).problem(t, http.StatusServiceUnavailable, "nothing-published")
	s.sync()

	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m"})
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "off", "status": "disabled"})
	for _, p := range []object{
		{"name": "light", "type": "openai", "api_key": secret, "models": []string{"m"}},
		{"name": "heavy", "type": "openai", "api_key": secret, "models": []string{"m"}, "weight": 3},
		{"name": "first", "type": "openai", "api_key": secret, "models": []string{"m"}, "priority": 1},
		{"name": "down", "type": "openai", "api_key": secret, "models": []string{"m"}, "status": "disabled"},
	} {
		s.must(http.StatusCreated, admin, "POST", "/providers", p)
	}
	// What is not published is not there.
	got := s.must(http.StatusOK, viewer, "GET", path+"m", nil).object(t)
	shows(t, got, object{"reachable": false, "reason": snapshot.ErrUnknownModel.Error(), "targets": []any{}})
	s.sync()

	for _, tc := range []struct {
		model, reason, targets, fails string
	}{
		{"m", "", "first heavy light", "provider"},
		{"default.m", "", "first heavy light", "model name, provider"},
		{"none", snapshot.ErrUnknownModel.Error(), "", "model name, model name"},
		{"off", snapshot.ErrModelDisabled.Error(), "", "model status"},
	} {
		t.Run(tc.model, func(t *testing.T) {
			s.t = t
			a := s.must(http.StatusOK, viewer, "GET", path+tc.model, nil)
			got := a.object(t)
			var fails, targets []string
			for _, v := range got["steps"].([]any) {
				if v := v.(object); v["ok"] == false {
					fails = append(fails, v["check"].(string))
				}
			}
			for _, v := range got["targets"].([]any) {
				targets = append(targets, v.(object)["provider"].(string))
			}
			reason, _ := got["reason"].(string)
			type want struct{ reason, targets, fails string }
			if diff := cmp.Diff(want{tc.reason, tc.targets, tc.fails}, want{reason, strings.Join(targets, " "),
				strings.Join(fails, ", ")}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("explanation (-want +got):\n%s\n%s", diff, a.body)
			}
			if got["reachable"] != (tc.reason == "") || !strings.Contains(got["position"].(string), "-") {
				t.Errorf("explanation %s", a.body)
			}
			if strings.Contains(a.body, secret) || strings.Contains(a.body, key["token"].(string)) {
				t.Error("the explanation holds a secret")
			}
		})
	}
	s.t = t

	// A rotated key is explained by its new token, which is not published yet.
	s.must(http.StatusOK, admin, "POST", "/keys/"+number(key["id"])+"/rotate", nil)
	shows(t, s.must(http.StatusOK, viewer, "GET", path+"m", nil).object(t),
		object{"reachable": false, "reason": snapshot.ErrUnknownToken.Error()})

	for query, field := range map[string]string{
		"model=m": "key_id", "key_id=1": "model", "key_id=1&model=": "model", "key_id=x&model=m": "key_id",
		"key_id=0&model=m": "key_id",
	} {
		p := s.do(viewer, "GET", "/explain?"+query, nil).problem(t, http.StatusUnprocessableEntity, "invalid")
		if len(p.Errors) != 1 || p.Errors[0].Field != field {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

// When what is published cannot be read, the log says why.
func TestExplainWithoutPublisher(t *testing.T) {
	pub := &deafPublisher{Publisher: memstore.NewPublisher()}
	s := newService(t, ezapi.Config{Publisher: pub}, nil)
	key := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "alice"}).object(t)
	s.sync()
	pub.deaf = true
	p := s.do(viewer, "GET", "/explain?model=m&key_id="+number(key["id"]), nil).problem(t,
		http.StatusServiceUnavailable, "unavailable")
	if strings.Contains(p.Detail, "10.0.0.7") || !strings.Contains(s.log.String(), "10.0.0.7") {
		t.Errorf("detail %q, log %s", p.Detail, s.log)
	}
}

// That somebody leaves before the answer is no fault, and not logged as one.
func TestWhoLeavesIsNoFault(t *testing.T) {
	pub := &deafPublisher{Publisher: memstore.NewPublisher()}
	s := newService(t, ezapi.Config{Publisher: pub}, nil)
	s.sync()
	ctx, leave := context.WithCancel(t.Context())
	pub.asked = func() { leave(); pub.deaf = true }
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/sync/status", nil)
	r.Header.Set("Authorization", "Bearer "+viewer)
	s.api.ServeHTTP(httptest.NewRecorder(), r)
	if !pub.deaf || strings.Contains(s.log.String(), "cannot be asked") {
		t.Errorf("asked %t, and the log says %s", pub.deaf, s.log)
	}
}

// Who asks how far everybody is gets an answer soon, also from a publisher that has frozen: what is known
// without it.
func TestSyncStatusOfFrozenPublisher(t *testing.T) {
	pub := &deafPublisher{Publisher: memstore.NewPublisher()}
	s := newService(t, ezapi.Config{Publisher: pub}, nil)
	s.sync()
	pub.frozen = true
	begun := time.Now()
	got := s.must(http.StatusOK, viewer, "GET", "/sync/status", nil).object(t)
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
	if got["error"] != "what is published cannot be read" || got["store"] == "" {
		t.Errorf("%v", got)
	}
}

// A deafPublisher does not answer lookups.
type deafPublisher struct {
	snapshot.Publisher
	deaf   bool
	frozen bool   // it gives up no sooner than who asks
	asked  func() // is told of a question before it is answered
}

func (p *deafPublisher) Head(ctx context.Context) (snapshot.Head, error) {
	if p.asked != nil {
		p.asked()
	}
	if p.frozen {
		select {
		case <-ctx.Done():
			return snapshot.Head{}, ctx.Err()
		case <-time.After(30 * time.Second):
		}
	}
	if p.deaf {
		return snapshot.Head{}, errors.New("dial tcp 10.0.0.7:6379")
	}
	return p.Publisher.Head(ctx)
}
