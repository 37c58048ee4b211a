package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
)

const (
	warningHeader = "EZ-Warning"

	maxWarnings   = 20  // that an answer has; one more says how many there are besides
	maxWarningLen = 300 // bytes of each
)

// warnings are what the catalog says about the writes of a request that it accepted.
type warnings struct{ texts []string }

// withWarnings returns a context whose writes report to w.
func (w *warnings) withWarnings(ctx context.Context) context.Context {
	return catalog.WithWarnings(ctx, func(warning catalog.Warning) { w.texts = append(w.texts, warning.String()) })
}

// addTo adds the warnings to an answer.
func (w *warnings) addTo(header http.Header) {
	for i, text := range w.texts {
		if i == maxWarnings {
			header.Add(warningHeader, "there are "+strconv.Itoa(len(w.texts)-i)+" more warnings")
			return
		}
		header.Add(warningHeader, headerText(text))
	}
}

// headerText returns a text as a header may hold it: printable ASCII, and not too long.
func headerText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxWarningLen)]
}

// documentWarnings documents the header of a write.
func documentWarnings(op *huma.Operation) {
	for status, r := range op.Responses {
		if !strings.HasPrefix(status, "2") {
			continue
		}
		if r.Headers == nil {
			r.Headers = map[string]*huma.Param{}
		}
		r.Headers[warningHeader] = &huma.Param{
			Description: "What should be known about a write that was accepted. There may be several such headers.",
			Schema:      &huma.Schema{Type: huma.TypeString},
		}
	}
}
