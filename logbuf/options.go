package logbuf

import (
	"fmt"
	"log/slog"
	"time"
)

// Options are the settings of a [Queue]; nil and zero fields mean the defaults.
type Options struct {
	// Dir is the directory of the spool, made when it does not exist and locked
	// while in use. Empty means memory mode. Defaults to empty.
	Dir string

	// SpoolMax is how many bytes the spool may take; at least 1 MiB. Beyond it
	// Append returns ErrFull. Defaults to 1 GiB.
	SpoolMax int64

	// SpoolKeep is how long a segment stays in the spool after all of it was stored. A
	// database that fails over may lose what it had committed; the queue notices by the
	// checkpoints of a sink that has them, and stores it again from there. It goes
	// earlier when its room is needed. Negative keeps nothing. Defaults to 10 minutes.
	SpoolKeep time.Duration

	// Capacity is how many entries may be pending in memory mode, or may await
	// fsync in disk mode. Beyond it Append returns ErrFull. In memory
	// mode pending entries may take 1 KiB each on average, which typical ones
	// are far below. Defaults to 100,000.
	Capacity int

	// BatchSize is how many entries one batch holds at most. Defaults to 5,000.
	BatchSize int

	// FlushInterval is how long an entry waits for its batch to fill.
	// Defaults to 1 second.
	FlushInterval time.Duration

	// WriteTimeout is how long one write of the sink may take before it is
	// given up and tried again. Defaults to 1 minute.
	WriteTimeout time.Duration

	// MinBackoff and MaxBackoff bound the pause after a write that failed; it
	// doubles from one to the other, with jitter. Default to 100 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration

	// Completer fills in projects and costs that entries do not bring: when they are appended or,
	// if it does not know them yet, when they leave the queue. With a Completer, the PricedRevision
	// of an entry that brings its own cost is set to 0. Defaults to none: entries are passed on as
	// they are.
	Completer Completer

	// Logger is told about failures and recovery. Defaults to none.
	Logger *slog.Logger

	// Clock tells the time of entries that say none, and of Stats. Timers go by the
	// machine's clock whatever it says. Defaults to time.Now.
	Clock func() time.Time

	fs fileSystem // nil: the operating system's
}

func (o *Options) withDefaults() (Options, error) {
	var v Options
	if o != nil {
		v = *o
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"SpoolMax", v.SpoolMax},
		{"Capacity", int64(v.Capacity)},
		{"BatchSize", int64(v.BatchSize)},
		{"FlushInterval", int64(v.FlushInterval)},
		{"WriteTimeout", int64(v.WriteTimeout)},
		{"MinBackoff", int64(v.MinBackoff)},
		{"MaxBackoff", int64(v.MaxBackoff)},
	} {
		if n.value < 0 {
			return v, fmt.Errorf("logbuf: %s must not be negative", n.name)
		}
	}
	if v.SpoolMax == 0 {
		v.SpoolMax = 1 << 30
	}
	if v.SpoolMax < minBytes {
		return v, fmt.Errorf("logbuf: SpoolMax must be at least %d bytes", minBytes)
	}
	if v.fs == nil {
		v.fs = osFS{}
	}
	or := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	orTime := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	or(&v.Capacity, 100_000)
	or(&v.BatchSize, 5_000)
	orTime(&v.SpoolKeep, 10*time.Minute)
	orTime(&v.FlushInterval, time.Second)
	orTime(&v.WriteTimeout, time.Minute)
	orTime(&v.MinBackoff, 100*time.Millisecond)
	orTime(&v.MaxBackoff, 5*time.Second)
	if v.Dir == "" {
		v.BatchSize = min(v.BatchSize, v.Capacity) // a full queue must not wait for its batch to fill
	}
	if v.Clock == nil {
		v.Clock = time.Now
	}
	v.MaxBackoff = max(v.MaxBackoff, v.MinBackoff)
	if v.Logger == nil {
		v.Logger = slog.New(slog.DiscardHandler)
	}
	return v, nil
}
