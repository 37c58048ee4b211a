package console

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// table sends rows as CSV, as they come. Nothing is sent before the first row, so that an error can
// still be a page.
type table struct {
	page  *page
	name  string
	heads []string
	out   *csv.Writer
	rows  int
}

const (
	csvFlush = 500              // rows that are sent together
	csvGrace = 30 * time.Second // for a browser to take them
)

func newTable(p *page, name string, heads ...string) *table {
	return &table{page: p, name: name, heads: heads}
}

func (t *table) begin() {
	if t.out != nil {
		return
	}
	h := t.page.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set(
		"Content-Disposition",
		fmt.Sprintf(`attachment; filename="%s-%s.csv"`, t.name, t.page.now().UTC().Format("2006-01-02")),
	)
	t.out = csv.NewWriter(t.page.w)
	_ = t.out.Write(t.heads) // an error comes again with Flush
}

// row sends a row. Texts are such that no spreadsheet runs them.
func (t *table) row(cells ...any) {
	t.begin()
	texts := make([]string, len(cells))
	for i, c := range cells {
		if text, ok := c.(string); ok {
			texts[i] = harmless(text)
		} else {
			texts[i] = fmt.Sprint(c)
		}
	}
	_ = t.out.Write(texts) // an error comes again with Flush
	if t.rows++; t.rows%csvFlush == 0 {
		_ = http.NewResponseController(t.page.w).
			SetWriteDeadline(time.Now().Add(csvGrace))
			// where the server has one
		t.out.Flush()
	}
}

// harmless puts an apostrophe before what a spreadsheet would take for a formula. Some take a semicolon
// for the end of a cell, and full-width signs for plain ones.
func harmless(text string) string {
	var b strings.Builder
	begins := true
	for i, r := range text {
		if begins && strings.ContainsRune("=+-@＝＋－＠", r) || i == 0 && strings.ContainsRune("\t\r\n", r) {
			b.WriteByte('\'')
		}
		begins = strings.ContainsRune(";\t\r\n", r) || begins && r == ' '
		b.WriteRune(r)
	}
	return b.String()
}

// fail ends a table that is not whole.
func (t *table) fail(err error) error {
	if t.out == nil {
		return err
	}
	t.page.log.WarnContext(t.page.ctx(), "a table was broken off", "table", t.name, "error", err)
	panic(http.ErrAbortHandler) // whoever reads it has to see that it has no end
}

func (t *table) end() error {
	t.begin()
	t.out.Flush()
	return nil // who does not read it has gone
}
