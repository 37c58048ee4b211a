package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
)

const token = "0123456789abcdef0123456789abcdef"

func TestSignUpMakesAKey(t *testing.T) {
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close(context.Background()) })
	handler, _ := newHandler(plane, token)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)

	resp, err := http.PostForm(server.URL+"/signup", url.Values{"name": {"alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	made, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(made), "ez-") {
		t.Fatalf("sign-up: %d %s %v", resp.StatusCode, made, err)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/gateway/keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var list struct{ Data []struct{ Name string } }
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || len(list.Data) != 1 ||
		list.Data[0].Name != "alice" {
		t.Errorf("GET /gateway/keys: %d %+v %v", answer.StatusCode, list, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", token) }()
	time.AfterFunc(50*time.Millisecond, cancel)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("run does not end")
	}
}

func TestRunNeedsATokenAndAPort(t *testing.T) {
	if err := run(t.Context(), "127.0.0.1:0", ""); err == nil {
		t.Error("no error without a token")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := run(t.Context(), taken.Addr().String(), token); err == nil {
		t.Error("no error on a taken port")
	}
}
