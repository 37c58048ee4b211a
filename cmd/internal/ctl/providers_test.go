package ctl_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

func TestProviderCommands(t *testing.T) {
	b := newBench(t)
	var status atomic.Int64
	status.Store(200)
	var asked atomic.Value
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked.Store(r.URL.Path + string(body))
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, `{"data":[{"id":"m1"},{"id":"m2"}],"choices":[{}]}`)
	}))
	defer upstream.Close()
	p, err := b.plane.Providers.Create(t.Context(),
		catalog.Provider{Name: "one", Type: "compatible", BaseURL: upstream.URL,
			APIKey: catalog.NewSecret("sk-0123456789"), Models: []string{"m1"}})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, b.must("test", "one"), "works")
	if got := b.must("test", "one", "--models"); got != "m1\nm2\n" {
		t.Errorf("models %q", got)
	}
	contains(t, b.must("test", "one", "--chat", "--model", "m9", "-o", "json"), `"ok": true`)
	if got := fmt.Sprint(asked.Load()); !strings.Contains(got, "/chat/completions") || !strings.Contains(got, "m9") {
		t.Errorf("asked %s", got)
	}
	status.Store(401)
	b.fails(1, "it refuses its api_key (status 401)", "test", "one")
	b.fails(1, "--model is for --chat", "test", "one", "--model", "m")
	b.fails(1, "no provider has this", "test", "nothing")

	for i := range 10 {
		if err := b.plane.AppendLogs(t.Context(), logbuf.Entry{Time: time.Now(), Status: 503, Balancer: fmt.Sprint(i),
			Failures: []logbuf.Failure{{ProviderID: p.ID, UpstreamModel: "m1", Class: logbuf.FailedServer}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.plane.JudgeHealth(t.Context()); err != nil {
		t.Fatal(err)
	}
	contains(t, b.must("health"), "one", "m1", "server 10", "failures", "until ")
	contains(t, b.must("health", "one", "-o", "json"), `"attempts": 10`)
	b.fails(1, "no provider has this", "health", "nothing")
}
