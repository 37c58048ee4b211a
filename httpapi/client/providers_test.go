package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// The health of providers is read, and what cannot be tested says so. The answers of providers are
// tested with the command line, which goes through this client.
func TestProvidersHealthAndTests(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	p := must[catalog.Provider](t)(c.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "bedrock", Models: []string{"m"}}))
	if h := must[client.ProvidersHealth](t)(c.ProvidersHealth(ctx, 0, "")); h.JudgedAt != nil || h.WindowSeconds != 60 ||
		len(h.Data) != 0 {
		t.Errorf("at first %+v", h)
	}
	for i := range 10 {
		if err := s.plane.AppendLogs(ctx, logbuf.Entry{Time: time.Now(), Status: 503, Balancer: fmt.Sprint(i),
			Failures: []logbuf.Failure{{ProviderID: p.ID, UpstreamModel: "m", Class: logbuf.FailedTimeout}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.plane.JudgeHealth(ctx); err != nil {
		t.Fatal(err)
	}
	h := must[client.ProvidersHealth](t)(c.ProvidersHealth(ctx, p.ID, ""))
	if len(h.Data) != 1 || h.JudgedAt == nil {
		t.Fatalf("%+v", h)
	}
	if u := h.Data[0]; u.Provider != "p" || u.UpstreamModel != "m" || u.Attempts != 10 || u.Failures != 10 ||
		u.Strikes != 1 ||
		u.ByClass[logbuf.FailedTimeout] != 10 || u.Held == nil || u.Held.Until == nil ||
		u.Held.Cause != catalog.CauseFailures {
		t.Errorf("%+v", u)
	}
	for what, err := range map[string]error{
		"test":   second(c.TestProvider(ctx, p.ID, true, "m")),
		"models": second(c.UpstreamModels(ctx, p.ID)),
	} {
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.TestProvider(ctx, 999, false, ""); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("no provider: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
