package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// fields is an object of the API; numbers are json.Number.
type fields = map[string]any

// parseFields reads an object of the API.
func parseFields(text []byte) (f fields, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return f, dec.Decode(&f)
}

// asFields turns any value into what its JSON has.
func asFields(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out any
	return out, dec.Decode(&out)
}

// print prints a value as the output is to be; table makes the table of it.
func (a *app) print(v any, table func() *table) error {
	switch a.output {
	case "json":
		return a.printJSON(v)
	case "yaml":
		tree, err := asFields(v)
		if err != nil {
			return err
		}
		return manifest.WriteYAML(a.stdout, manifest.Node("", tree))
	}
	t := table()
	t.style = a.style
	return t.write(a.stdout)
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printObject prints one resource: as a table, its fields one below the other.
func (a *app) printObject(kind catalog.Kind, object fields) error {
	if a.output == "json" {
		return a.printJSON(object)
	}
	return manifest.WriteYAML(a.stdout, manifest.Node(kind, object))
}

// cell returns a field as a cell of a table.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		if v == "" {
			return "-"
		}
		return v
	case json.Number:
		return v.String()
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			parts = append(parts, cell(e))
		}
		return joinSome(parts)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return "-"
		}
		return string(text)
	}
}

const maxShown = 3 // elements of a list in a cell

// joinSome joins the first of some texts, and says how many there are besides.
func joinSome(parts []string) string {
	if len(parts) == 0 {
		return "-"
	}
	if len(parts) <= maxShown {
		return strings.Join(parts, ",")
	}
	return fmt.Sprintf("%s +%d", strings.Join(parts[:maxShown], ","), len(parts)-maxShown)
}

// timeCell shows a time to the second.
func timeCell(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// usd shows billionths of a dollar.
func usd(nano int64) string { return catalog.NanoUSD(nano).String() }
