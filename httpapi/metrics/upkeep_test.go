package metrics_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// upkeepSink has one task that fails, one that another process is at, and one that works; and a clock of its own.
type upkeepSink struct{ *memstore.Sink }

func (upkeepSink) Clock(context.Context) (time.Time, error) { return time.Now().Add(-time.Hour), nil }

func (upkeepSink) Tasks() []logbuf.Task {
	task := func(name string, behind time.Duration, err error) logbuf.Task {
		return logbuf.Task{Name: name, Run: func(context.Context, logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
			return logbuf.TaskReport{Behind: behind, Aside: int64(len(name))}, err
		}}
	}
	return []logbuf.Task{
		task("drop", 90*time.Minute, errors.New("down")), task("fold", time.Minute, logbuf.ErrBusy), task("days", 0, nil),
	}
}

func TestMaintenanceIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, ezapi.Config{LogSink: upkeepSink{memstore.NewSink(nil)}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.plane.Run(ctx) }()
		time.Sleep(time.Second)
		s.shows(map[string]float64{
			`logs_maintenance_failing{task="drop"}`: 1, `logs_maintenance_failing{task="fold"}`: 0, `logs_maintenance_failing{task="days"}`: 0,
			`logs_maintenance_aside{task="days"}`: 4, "logs_alarm": 0,
			`logs_maintenance_behind_seconds{task="drop"}`: 5400, `clock_skew_seconds{store="logs"}`: 3600, `clock_skew_seconds{store="catalog"}`: 0,
		})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
