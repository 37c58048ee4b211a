package upstream_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/test/upstream"
)

func ask(t *testing.T, url, key, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestAnswers(t *testing.T) {
	server := httptest.NewServer(upstream.New("sk-1", 0))
	t.Cleanup(server.Close)
	for _, tc := range []struct {
		name, key, body string
		status          int
		has, hasNot     string
	}{
		{"plain", "sk-1", `{"model":"m"}`, 200, `"content":"All is well."`, "data:"},
		{"stream", "sk-1", `{"model":"m","stream":true}`, 200, "data: [DONE]\n\n", `"usage"`},
		{"stream with usage", "sk-1", `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, 200, `"prompt_tokens":12`, "All is well."},
		{"wrong key", "sk-2", `{"model":"m"}`, 401, `"error"`, "usage"},
		{"less than no tokens", "sk-1", `{"model":"m","max_tokens":-1}`, 400, `"error"`, "usage"},
		{"no model", "sk-1", `{}`, 400, `"error"`, "usage"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, text, err := ask(t, server.URL, tc.key, tc.body)
			if err != nil || status != tc.status || !strings.Contains(text, tc.has) || strings.Contains(text, tc.hasNot) {
				t.Errorf("%d %v\n%s", status, err, text)
			}
		})
	}
}

func TestScript(t *testing.T) {
	handler := upstream.New("sk-1", 0)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	resp, err := http.Post(server.URL+"/script", "application/json",
		strings.NewReader(fmt.Sprintf("[429, %d]", upstream.Drop)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("POST /script: %d", resp.StatusCode)
	}
	if status, _, err := ask(t, server.URL, "sk-1", `{"model":"a"}`); err != nil || status != 429 {
		t.Errorf("the first: %d %v, want 429", status, err)
	}
	if status, _, err := ask(t, server.URL, "sk-1", `{"model":"b"}`); err == nil {
		t.Errorf("the second: %d, want a broken connection", status)
	}
	if status, _, err := ask(t, server.URL, "sk-1", `{"model":"c"}`); err != nil || status != 200 {
		t.Errorf("the third: %d %v, want 200", status, err)
	}
	var got []string
	for _, r := range handler.Requests() {
		got = append(got, fmt.Sprint(r.Model, " ", r.Status))
	}
	if diff := cmp.Diff([]string{"a 429", "b -1", "c 200"}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// What all requests get holds until it is changed, for the list of models, too.
func TestAlways(t *testing.T) {
	handler := upstream.New("sk-1", 0)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	models := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/models", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer sk-1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, want := range []int{401, 200} {
		resp, err := http.Post(server.URL+"/always", "application/json", strings.NewReader(fmt.Sprint(want)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for range 2 {
			status, _, err := ask(t, server.URL, "sk-1", `{"model":"a"}`)
			if listed := models(); err != nil || status != want || listed != want {
				t.Errorf("chat %d, models %d, %v; want %d", status, listed, err, want)
			}
		}
	}
	handler.Always(upstream.Hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("it answers %d", resp.StatusCode)
	}
}
