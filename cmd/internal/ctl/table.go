package ctl

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// style paints text for terminals.
type style struct{ color bool }

func (s style) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }
func (s style) red(text string) string    { return s.paint("31", text) }
func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) bold(text string) string   { return s.paint("1", text) }

// table is rows under titles, in columns as wide as what a terminal shows of their text.
type table struct {
	titles []string
	rows   [][]string
	style  style
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

const gap = "  "

// write prints the table. The last column is not padded.
func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.titles))
	for _, row := range append([][]string{t.titles}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], width(printable(cell)))
		}
	}
	var b strings.Builder
	line := func(row []string, paint func(string) string) {
		var text strings.Builder
		for i, cell := range row {
			cell = printable(cell)
			text.WriteString(cell)
			if i < len(row)-1 {
				text.WriteString(strings.Repeat(" ", widths[i]-width(cell)) + gap)
			}
		}
		b.WriteString(paint(strings.TrimRight(text.String(), " ")) + "\n")
	}
	line(t.titles, t.style.bold)
	for _, row := range t.rows {
		line(row, func(s string) string { return s })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// width returns how many columns of a terminal a text takes: Chinese characters take two.
func width(s string) int { return runewidth.StringWidth(s) }

// pad adds spaces up to a width.
func pad(s string, to int) string { return s + strings.Repeat(" ", max(0, to-width(s))) }

// printable replaces what would move the cursor or hide text: cells come from strangers.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

// progress is one line on standard error that says how far long work is. It is written over
// while it changes, and where standard error is no terminal, only what it ends with is written.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	live  bool
	shown string
}

// show replaces the line.
func (p *progress) show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if !p.live || text == p.shown {
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", printable(text))
	p.shown = text
}

// clear removes the line.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = ""
	}
}
