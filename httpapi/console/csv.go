package console

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
)

// table sends rows as CSV, page by page. Nothing is sent before the first row, so that an error can
// still be a page.
type table struct {
	page  *page
	name  string
	heads []string
	out   *csv.Writer
}

// csvPage is how many rows are read together, and sent before others are read.
const csvPage = 500

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
	_ = t.out.Write(t.heads) // an error comes again with send
}

// row writes a row. Texts are such that no spreadsheet runs them.
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
	_ = t.out.Write(texts) // an error comes again with send
}

// send sends the rows so far. When it returns false, whoever reads them has gone, or there is no
// room for them; see [Console.ServeHTTP].
func (t *table) send() bool {
	t.begin()
	t.out.Flush()
	return t.out.Error() == nil && http.NewResponseController(t.page.w).Flush() == nil
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
