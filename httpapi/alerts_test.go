package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog/alerts"
)

// refusing is a receiver of alerts that takes none.
type refusing struct{}

func (refusing) Send(context.Context, *alerts.Alert) error {
	return errors.New("the address answered status 404")
}

func TestAlerts(t *testing.T) {
	s := newService(t, ezapi.Config{Alerts: refusing{}}, nil)
	for i := range 5 {
		err := s.plane.RaiseAlerts(t.Context(), alerts.Alert{
			Kind: alerts.NodeLost, Subject: fmt.Sprint("node/", i), Message: "It is lost.", Identity: fmt.Sprint(i),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for path := "/alerts?limit=2"; path != ""; {
		page := s.must(http.StatusOK, viewer, "GET", path, nil).object(t)
		for _, a := range page["data"].([]any) {
			got = append(got, a.(object)["subject"].(string))
		}
		path = ""
		if next, ok := page["next_cursor"].(string); ok {
			path = "/alerts?limit=2&cursor=" + next
		}
	}
	if text := strings.Join(got, " "); text != "node/4 node/3 node/2 node/1 node/0" {
		t.Errorf("in pages: %s", text)
	}
	if page := s.must(http.StatusOK, viewer, "GET", "/alerts?kind=test", nil).object(t); len(page["data"].([]any)) != 0 {
		t.Errorf("of another kind: %v", page)
	}
	for _, kind := range alerts.Kinds() {
		s.must(http.StatusOK, viewer, "GET", "/alerts?kind="+string(kind), nil)
	}
	for _, bad := range []string{"?kind=nonsense", "?limit=0", "?cursor=x", "?subject=a", "?kind="} {
		if a := s.do(viewer, "GET", "/alerts"+bad, nil); a.StatusCode != http.StatusUnprocessableEntity &&
			a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, a.StatusCode)
		}
	}

	s.do(viewer, "POST", "/alerts/test", nil).problem(t, http.StatusForbidden, "forbidden")
	trial := s.must(http.StatusOK, admin, "POST", "/alerts/test", nil).object(t)
	if trial["state"] != "pending" || trial["error"] != "the address answered status 404" || trial["kind"] != "test" {
		t.Errorf("a trial that does not arrive: %v", trial)
	}
}
