package alerts

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	atOnce = 20 // alerts that are claimed together

	// claimed is for how long: longer than sending all of them takes.
	claimed = atOnce * sendTimeout * 3 / 2

	firstPause, longestPause = 10 * time.Second, time.Hour
)

// ErrUnsent says that an alert did not arrive, and is tried again later.
var ErrUnsent = errors.New("alerts were not delivered")

// Sender delivers an alert; see [Webhook.Send].
type Sender interface {
	Send(ctx context.Context, a *Alert) error
}

// Deliver sends what is due in an outbox, oldest first, and returns how many arrived. Each alert that does not
// arrive is due again after a pause, which doubles from 10 seconds to an hour; the others go on. The error wraps
// [ErrUnsent] where some did not arrive; any other is the outbox's.
func Deliver(ctx context.Context, box Outbox, to Sender, clock func() time.Time) (sent int, err error) {
	for {
		now := clock()
		due, err := box.ClaimAlerts(ctx, now, now.Add(claimed), atOnce)
		if err != nil || len(due) == 0 {
			return sent, err
		}
		var failed error
		for i := range due {
			outcome := Try(ctx, &due[i], to, clock)
			if ctx.Err() != nil && outcome.DeliveredAt.IsZero() {
				return sent, ctx.Err() // it was not tried: it is due again when the claim ends
			}
			if err := box.SettleAlert(context.WithoutCancel(ctx), due[i].ID, outcome); err != nil {
				return sent, err // it arrives twice rather than never
			}
			if outcome.Error == "" {
				sent++
			} else {
				failed = errors.New(outcome.Error)
			}
		}
		if failed != nil { // do not knock on the same door for all that is due
			return sent, fmt.Errorf("%w: %w", ErrUnsent, failed)
		}
	}
}

// Try sends one alert, and says what came of it and when to try again.
func Try(ctx context.Context, a *Alert, to Sender, clock func() time.Time) Outcome {
	err := to.Send(ctx, a)
	if err == nil {
		return Outcome{DeliveredAt: clock()}
	}
	return Outcome{Error: err.Error(), Again: clock().Add(pause(a.Tries))}
}

// pause returns how long to wait after an attempt, tries having been made before it.
func pause(tries int) time.Duration {
	d := firstPause
	for ; tries > 0 && d < longestPause; tries-- {
		d *= 2
	}
	return min(d, longestPause)
}
