package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// An object is an entity as the API shows it, its numbers as they are written.
type object map[string]any

func decodeObject(data []byte) (o object, err error) {
	err = decodeJSON(data, &o)
	return o, err
}

func decodeJSON(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(into)
}

func (o object) text(name string) string {
	text, _ := o[name].(string)
	return text
}

func (o object) number(name string) int64 {
	n, _ := o[name].(json.Number)
	v, _ := n.Int64()
	return v
}

func (o object) time(name string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, o.text(name))
	return t
}

// objects returns a list of objects.
func (o object) objects(name string) (all []object) {
	list, _ := o[name].([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// timeLayout is that of an input of a date and a time.
const timeLayout = "2006-01-02T15:04:05.999999"

// write returns a value as it stands in the input of a form.
func (f *field) write(v any, zone *time.Location) string {
	if list, ok := v.([]any); ok && f.Widget == widgetJSON {
		if len(list) == 0 {
			return ""
		}
		text, _ := json.Marshal(list) // it came from JSON
		return string(text)
	}
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return fmt.Sprint(v)
	case json.Number:
		return v.String()
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil && f.Widget == widgetTime {
			return t.In(zone).Format(timeLayout)
		}
		return v
	case []any:
		between := "\n"
		if f.Widget == widgetCommas {
			between = ", "
		}
		return strings.Join(elements(v), between)
	case map[string]any:
		return f.writeMap(v)
	}
	return ""
}

// elements returns the elements of a list as texts.
func elements(list []any) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = fmt.Sprint(v)
	}
	return texts
}

func (f *field) writeMap(v map[string]any) string {
	if len(v) == 0 {
		return ""
	}
	if f.Widget == widgetLabels {
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			lines = append(lines, fmt.Sprintf("%s=%v", name, v[name]))
		}
		return strings.Join(lines, "\n")
	}
	text, _ := json.MarshalIndent(v, "", "  ") // it came from JSON
	return string(text)
}

// read returns what was typed as a value of the API; ok is false where nothing was typed. What
// cannot be read is a value as it was typed: the API says what is wrong with it, and nobody else.
func (f *field) read(typed string, zone *time.Location) (v any, ok bool) {
	typed = strings.ReplaceAll(typed, "\r\n", "\n")
	trimmed := strings.TrimSpace(typed)
	if f.Widget == widgetCheck {
		return trimmed == "true", true
	}
	if trimmed == "" {
		return nil, false
	}
	switch f.Widget {
	case widgetNumber:
		return readNumber(trimmed), true
	case widgetTime:
		for _, layout := range []string{timeLayout, "2006-01-02T15:04"} {
			if t, err := time.ParseInLocation(layout, trimmed, zone); err == nil {
				return t.UTC().Format(time.RFC3339Nano), true
			}
		}
	case widgetLines:
		return readList(strings.Split(typed, "\n"), func(s string) any { return s }), true
	case widgetCommas:
		return readList(strings.Split(typed, ","), readNumber), true
	case widgetLabels:
		labels := map[string]any{}
		for _, line := range strings.Split(trimmed, "\n") {
			name, value, _ := strings.Cut(line, "=")
			if name = strings.TrimSpace(name); name != "" {
				labels[name] = strings.TrimSpace(value)
			}
		}
		return labels, true
	case widgetJSON:
		var parsed any
		if decodeJSON([]byte(trimmed), &parsed) == nil {
			return parsed, true
		}
	}
	return trimmed, true
}

// readNumber returns a number where the text is one.
func readNumber(text string) any {
	if json.Valid([]byte(text)) && strings.IndexByte("-0123456789", text[0]) >= 0 {
		return json.Number(text)
	}
	return text
}

func readList(texts []string, read func(string) any) []any {
	var list []any
	for _, s := range texts {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, read(s))
		}
	}
	return list
}
