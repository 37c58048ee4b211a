package server

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

// newLogger returns the server's logger: for people on a terminal, for machines else.
func newLogger(c *Config, w io.Writer) *slog.Logger {
	terminal := isTerminal(w)
	if c.LogFormat == "text" || c.LogFormat == "" && terminal {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level: slog.Level(c.LogLevel), TimeFormat: time.TimeOnly, NoColor: !terminal,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.Level(c.LogLevel)}))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
