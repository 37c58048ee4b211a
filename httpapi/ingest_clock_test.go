package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/storage/memstore"
)

// silent is a sink that tells its time only once it may.
type silent struct {
	*memstore.Sink
	tells atomic.Bool
}

func (s *silent) Clock(context.Context) (time.Time, error) {
	if !s.tells.Load() {
		return time.Time{}, errors.New("down")
	}
	return time.Now(), nil
}

// A server whose clock is wrong, and whose store cannot be asked, refuses no entries for their times, and
// dates none: whoever sends them tries again. None of a body is taken meanwhile.
func TestEntriesWaitForAClock(t *testing.T) {
	sink := &silent{Sink: memstore.NewSink(nil)}
	s := newService(t, ezapi.Config{
		LogSink: sink, Clock: func() time.Time { return time.Now().Add(-2 * time.Hour) },
	}, nil)
	now := `{"model":"m","ts":"` + time.Now().UTC().Format(time.RFC3339) + `"}`
	right := `{"model":"m","ts":"` + time.Now().Add(-3*time.Hour).UTC().Format(time.RFC3339) + `"}`
	s.must(http.StatusAccepted, balancer, "POST", "/logs", right)
	for _, body := range []string{now, `{"model":"m"}`, "[" + right + "," + now + "]", "[" + right + `,{"model":"m"}]`} {
		p := s.do(balancer, "POST", "/logs", body).problem(t, http.StatusServiceUnavailable, "unavailable")
		if !strings.Contains(p.Detail, "send them again") {
			t.Errorf("detail %q", p.Detail)
		}
	}
	if n := s.plane.Logs().Stats().Accepted; n != 1 {
		t.Errorf("%d entries were taken; want 1", n)
	}
	sink.tells.Store(true)
	time.Sleep(1100 * time.Millisecond) // it is asked once a second
	s.must(http.StatusAccepted, balancer, "POST", "/logs", now)
	s.must(http.StatusAccepted, balancer, "POST", "/logs", `{"model":"m"}`)
	s.do(balancer, "POST", "/logs", `{"model":"m","ts":"2001-01-01T00:00:00Z"}`).problem(t, 422, "invalid")
}
