package server

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

// How long a warning must not have come again to be over, and how long it is held back at most.
// Attempts are at most ten seconds apart.
const (
	warningOver   = 30 * time.Second
	warningRemind = 10 * time.Minute
)

// newLogger returns the server's logger: for people on a terminal, for machines else. What fails
// again and again is said once.
func newLogger(c *Config, w io.Writer) *slog.Logger {
	return slog.New(newQuietHandler(newHandler(c, w), warningOver, warningRemind))
}

func newHandler(c *Config, w io.Writer) slog.Handler {
	terminal := isTerminal(w)
	if c.LogFormat == "text" || c.LogFormat == "" && terminal {
		return tint.NewTextHandler(w, &tint.Options{
			Level: slog.Level(c.LogLevel), TimeFormat: time.TimeOnly, NoColor: !terminal,
		})
	}
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.Level(c.LogLevel), ReplaceAttr: withUnit})
}

// withUnit writes a duration as people do, such as 1m30s: JSON has numbers, whose unit nobody knows.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
