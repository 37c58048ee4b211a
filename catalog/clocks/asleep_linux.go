package clocks

import (
	"time"

	"golang.org/x/sys/unix"
)

// timeAsleep returns for how long this machine has been suspended since it was started: Go's monotonic
// clock stands still then. It is in whole seconds, because two clocks are not read at once. See
// clock_gettime(2).
func timeAsleep() time.Duration {
	var boot, running unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &running) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - running.Nano()).Round(time.Second)
}
