package console

import (
	"reflect"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// widget says how a field is shown and filled in.
type widget string

const (
	widgetText   widget = "text"
	widgetSelect widget = "select" // one of an enumeration
	widgetNumber widget = "number"
	widgetCheck  widget = "check"
	widgetTime   widget = "time"
	widgetMoney  widget = "money"
	widgetSecret widget = "secret" // is written, and never shown
	widgetLines  widget = "lines"  // a list, one element a line
	widgetCommas widget = "commas" // a short list of numbers
	widgetLabels widget = "labels" // name=value, one a line
	widgetJSON   widget = "json"
	widgetRows   widget = "rows"  // a list of objects
	widgetSpend  widget = "spend" // of budgets, as the API shows it
)

// A field is one field of a noun, as its tags describe it.
type field struct {
	Name      string
	Doc       string
	Help      string // key of the catalogue for the Doc
	Widget    widget
	Required  bool
	ReadOnly  bool
	Enum      []string
	Default   string
	Min, Max  string
	MaxLength string
	MaxItems  string
	Columns   []*field // of rows
	Keyed     bool     // rows are the members of an object, named by the first column
}

// readFields reads the fields of a struct that have names in JSON.
func readFields(t reflect.Type) (fields []*field) {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "" || name == "-" {
			continue
		}
		tag := f.Tag
		of := &field{
			Name: name, Doc: tag.Get("doc"), Required: tag.Get("create") == "required",
			ReadOnly: tag.Get("readOnly") == "true",
			Default: tag.Get(
				"default",
			), Min: tag.Get("minimum"), Max: tag.Get("maximum"), MaxLength: tag.Get("maxLength"),
			MaxItems: tag.Get("maxItems"),
		}
		if enum := tag.Get("enum"); enum != "" {
			of.Enum = strings.Split(enum, ",")
		}
		of.Widget = widgetOf(f.Type, of)
		if of.Widget == widgetRows {
			of.readColumns(f.Type)
		}
		fields = append(fields, of)
	}
	return fields
}

// maxKeyed is more rows than the prices of a provider may have.
const maxKeyed = "8000"

// readColumns reads the fields of the elements of a list or of an object.
func (f *field) readColumns(t reflect.Type) {
	f.Columns = readFields(t.Elem())
	for _, column := range f.Columns {
		if column.Widget == widgetRows { // a table in a table is text
			column.Widget = widgetJSON
		}
	}
	if t.Kind() == reflect.Map {
		f.Keyed, f.MaxItems = true, maxKeyed
		name := &field{Name: "model", Widget: widgetText, Doc: "The name that the provider gives the model. It may end in *."}
		f.Columns = append([]*field{name}, f.Columns...)
	}
}

func widgetOf(t reflect.Type, f *field) widget {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[catalog.Secret]():
		return widgetSecret
	case reflect.TypeFor[time.Time]():
		return widgetTime
	case reflect.TypeFor[catalog.NanoUSD]():
		return widgetMoney
	case reflect.TypeFor[[]string]():
		return widgetLines
	case reflect.TypeFor[map[string]string]():
		return widgetLabels
	}
	switch t.Kind() {
	case reflect.Bool:
		return widgetCheck
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return widgetNumber
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			return widgetRows
		}
		return widgetJSON
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return widgetRows
		}
		return widgetCommas
	}
	if len(f.Enum) > 0 {
		return widgetSelect
	}
	return widgetText
}
