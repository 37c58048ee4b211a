package httpapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
)

// Whatever is sent, and wherever it is put, no answer repeats it, and no line
// of the log.
func TestSecretsAreNeverRepeated(t *testing.T) {
	const mark = "hunter2" // is in every secret, but not among the 4 characters of a hint
	const apiKey, token, next = "sk-" + mark + "-0123456789-tail", "ez-" + mark + "-0123456789-tail",
		"ez-" + mark + "-another-token"
	s := newService(t, ezapi.Config{}, nil)
	asked := map[int]int{}
	ask := func(status int, method, path string, body any, headers ...string) answer {
		t.Helper()
		a := s.do(admin, method, path, body, headers...)
		asked[a.StatusCode]++
		if status != 0 && a.StatusCode != status {
			t.Errorf("%s %s %v: %d, want %d: %s", method, path, body, a.StatusCode, status, a.body)
		}
		all := a.body + fmt.Sprint(a.Header)
		for _, secret := range []string{mark, url.QueryEscape(mark), catalog.HashToken(token),
			catalog.HashToken(next), admin, viewer, balancer} {
			if strings.Contains(strings.ToLower(all), secret) {
				t.Errorf("%s %s %v: the answer holds a secret: %s", method, path, body, all)
			}
		}
		return a
	}

	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k", "token": token}) // the one answer that holds it
	ask(http.StatusCreated, "POST", "/keys", object{"name": "h", "token_hashes": []string{catalog.HashToken(next)}})
	ask(http.StatusCreated, "POST", "/providers", object{"name": "p", "type": "openai", "api_key": apiKey,
		"models": []string{"m"}})
	ask(http.StatusCreated, "POST", "/models", object{"name": "m"})
	ask(http.StatusCreated, "POST", "/bindings", object{"model": "m"})
	ask(http.StatusOK, "PATCH", "/providers/3", object{"api_key": apiKey + "-new"})
	ask(http.StatusOK, "PATCH", "/providers/3?wait=applied", object{"weight": 2})
	ask(http.StatusOK, "POST", "/sync/snapshot", nil)
	for _, path := range []string{
		"/providers", "/providers/3", "/keys", "/keys/1", "/keys/2", "/changes", "/sync/status",
		"/explain?key_id=1&model=m", "/openapi.json",
		"/healthz", "/readyz", "/logs", "/usage", "/models", "/bindings",
	} {
		ask(http.StatusOK, "GET", path, nil)
	}

	for _, path := range []string{"/keys", "/providers", "/models", "/bindings"} {
		first := map[string]string{"/keys": "/1", "/providers": "/3", "/models": "/4", "/bindings": "/5"}[path]
		for _, w := range []struct{ method, path string }{{"POST", path}, {"PATCH", path + first}} {
			for _, body := range []any{
				object{"name": object{mark: mark}}, object{apiKey: 1}, object{"labels": mark},
				object{"labels": object{mark + " " + mark: mark}}, object{"status": mark},
				object{"weight": mark}, object{"external_id": strings.Repeat(mark, 1000)}, object{"options": mark},
				object{"models": []any{object{mark: mark}}},
				object{"type": mark, "name": "x", "api_key": apiKey},
				object{"base_url": "https://u:" + mark + "@example.com", "api_key": apiKey, "type": "custom", "name": "x"},
				object{"base_url": "http://" + mark + ".internal", "api_key": apiKey, "type": "custom", "name": "x"},
				object{"base_url": ":" + mark, "api_key": apiKey},
				object{"api_key": object{mark: mark}}, object{"api_key": strings.Repeat(mark, 4000)}, object{"token": mark},
				object{"token": token, "name": "x"}, object{"token": token + "é", "name": "x"},
				object{"token_hashes": []string{mark}}, object{"token_hashes": []string{catalog.HashToken(token)}, "name": "x"},
				object{"kind": mark, "name": "x"}, object{"input_price": mark, "name": "x"},
				object{"namespace": mark + "."}, object{"allow_ips": []string{mark}},
				object{"expires_at": mark}, object{"budgets": mark}, object{"budgets": []any{object{"window": mark}}},
				object{"selector_type": mark, "model": "m"},
				object{"selector_type": "regex", "selector_value": "(" + mark, "model": "m"}, object{"model": mark},
				object{"rpm_limit": mark},
				object{"base_url": "https://other.example.com"},
				mark, `"` + mark, `{"` + mark, `{"name":"` + mark, `{"name":` + mark + `}`, `{"name":"x","name":"` + mark + `"}`, `[` + mark, "\xff" + mark, `{"api_key":"` + apiKey + `"} ` + mark,
			} {
				a := ask(0, w.method, w.path, body)
				if a.StatusCode == http.StatusCreated || a.StatusCode == http.StatusOK || a.StatusCode >= 500 {
					t.Errorf("%s %s %v: %d", w.method, w.path, body, a.StatusCode)
				}
			}
			ask(http.StatusUnsupportedMediaType, w.method, w.path, "{}", "Content-Type", "application/"+mark)
			ask(http.StatusUnsupportedMediaType, w.method, w.path, "{}", "Content-Encoding", mark)
			ask(http.StatusUnprocessableEntity, w.method, w.path+"?wait="+mark, "{}")
			ask(http.StatusUnprocessableEntity, w.method, w.path+"?timeout="+mark, "{}")
		}
		ask(http.StatusNotFound, "GET", path+"/"+mark, nil)
		ask(http.StatusNotFound, "PATCH", path+"/"+mark, "{}")
		ask(http.StatusBadRequest, "DELETE", path+first, nil, "If-Match", mark)
		ask(http.StatusPreconditionFailed, "DELETE", path+first, nil, "If-Match", `"`+mark+`"`)
		for _, query := range []string{"cursor=" + mark, "limit=" + mark, "status=" + mark, "label=" + mark,
			mark + "-x=1", "name=" + strings.Repeat(mark, 100)} {
			ask(http.StatusUnprocessableEntity, "GET", path+"?"+query, nil)
		}
		ask(http.StatusBadRequest, "GET", path+"?"+mark, nil)
		ask(http.StatusBadRequest, "GET", path+"?name=%zz"+mark, nil)
		ask(http.StatusMethodNotAllowed, "PUT", path+"/"+mark, mark)
	}
	for _, path := range []string{
		"/changes?after=", "/logs?key_id=", "/logs?since=", "/logs?cursor=", "/logs?status=", "/usage?group_by=",
		"/usage?interval=", "/usage?until=",
		"/explain?model=m&key_id=",
	} {
		ask(http.StatusUnprocessableEntity, "GET", path+mark, nil)
	}
	ask(http.StatusUnprocessableEntity, "POST", "/sync/snapshot?force="+mark, nil)
	ask(http.StatusNotFound, "GET", "/"+mark, nil)
	for _, body := range []any{object{"grace_seconds": mark}, object{apiKey: 1}, mark, `{"grace_seconds":` + mark} {
		ask(0, "POST", "/keys/1/rotate", body)
	}
	for _, body := range []any{
		mark, `"` + mark + `"`, `{"` + mark, object{"ts": mark}, object{"id": mark}, object{"status": mark}, object{"stream": object{mark: mark}}, object{"client_ip": []string{mark}},
		[]object{{"key_id": mark}, {"latency_ms": mark}, {"model": object{mark: mark}}}, `{"model":` + mark + `}`,
	} {
		for _, media := range []string{"application/json", "application/x-ndjson"} {
			ask(0, "POST", "/logs", body, "Content-Type", media)
		}
	}
	ask(http.StatusUnsupportedMediaType, "POST", "/logs", "{}", "Content-Type", "text/"+mark)
	ask(http.StatusUnsupportedMediaType, "POST", "/logs", "{}", "Content-Encoding", mark)
	ask(http.StatusBadRequest, "POST", "/logs", mark, "Content-Encoding", "gzip")
	ask(http.StatusBadRequest, "POST", "/logs", mark, "Content-Encoding", "zstd")
	for _, header := range []string{"Bearer " + mark, "Basic " + mark, mark} {
		ask(http.StatusUnauthorized, "GET", "/keys", nil, "Authorization", header)
	}
	ask(http.StatusForbidden, "GET", "/keys", nil, "Authorization", "Bearer "+balancer)

	for _, status := range []int{200, 201, 400, 401, 403, 404, 405, 409, 412, 415, 422} {
		if asked[status] == 0 {
			t.Errorf("no answer was %d", status)
		}
	}
	if log := s.log.String(); log == "" {
		t.Error("nothing was logged at all")
	} else {
		for _, secret := range []string{mark, catalog.HashToken(token), admin, viewer, balancer} {
			if at := strings.Index(log, secret); at >= 0 {
				t.Errorf("the log holds a secret: …%s", log[max(0, at-300):min(len(log), at+50)])
			}
		}
	}
}
