package console

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// A form is what was typed, or what is stored, and what is wrong with it.
type form struct {
	Kind     catalog.Kind
	ID       int64 // 0: a new one
	Title    string
	Shown    string // what it was shown with, packed
	Once     string // its number, see onceForms
	Sections []formSection
	Problems []formProblem
	Conflict []difference // with what is stored by now
}

type formSection struct {
	Name   string
	Fields []*input
}

// formProblem is a message, and the input that it is about.
type formProblem struct{ Input, Label, Text string }

// An input is one field as it is filled in.
type input struct {
	*field
	Input   string // its name in the form: as the API names it in messages
	Label   string // key of the catalogue
	Value   string
	Rows    [][]*input // of rows
	Errors  []string
	InRow   bool
	Fixed   bool // cannot be changed any more
	Options []string
}

// HelpID returns what names the help of the input, for those who have it read to them.
func (in *input) HelpID() string { return "help-" + in.Input }

// ErrorID does the same for its messages.
func (in *input) ErrorID() string { return "error-" + in.Input }

// spareRows is how many empty rows a form has beside those that are filled in.
const spareRows = 1

// newInput makes the input of a field.
func newInput(f *field, name string) *input {
	return &input{field: f, Input: name, Label: "field." + f.Name}
}

// fixed says which fields of a noun cannot be changed once it is there.
func (n *noun) fixed(name string) bool {
	return n.kind == catalog.KindProject && name == "name" || n.kind == catalog.KindHold && name == "target"
}

// fill makes the form of a noun, with a value for each name of an input.
func (n *noun) fill(values url.Values) *form {
	f := &form{Kind: n.kind, Shown: values.Get("shown"), Once: values.Get("once")}
	if f.Once == "" {
		f.Once = newOnce()
	}
	for _, s := range n.sections {
		shown := formSection{Name: "section." + s.name}
		for _, name := range s.fields {
			in := newInput(n.fields[name], name)
			if in.Widget == widgetRows {
				in.fillRows(values)
			} else if in.Widget != widgetSecret { // what was typed is kept, but for a secret
				in.Value = values.Get(name)
			}
			shown.Fields = append(shown.Fields, in)
		}
		f.Sections = append(f.Sections, shown)
	}
	return f
}

// fillRows makes the rows that are filled in, and one to spare.
func (in *input) fillRows(values url.Values) {
	rows := in.typedRows(values)
	for i := 0; i < len(rows)+spareRows && i < in.maxRows(); i++ {
		var row []*input
		for _, column := range in.Columns {
			cell := newInput(column, cellName(in.Name, i, column.Name))
			cell.InRow = true
			if i < len(rows) {
				cell.Value = rows[i][column.Name]
			}
			row = append(row, cell)
		}
		in.Rows = append(in.Rows, row)
	}
}

func (f *field) maxRows() int {
	n := 4
	_, _ = fmt.Sscan(f.MaxItems, &n)
	return n
}

func cellName(list string, i int, column string) string {
	return fmt.Sprintf("%s[%d].%s", list, i, column)
}

// typedRows returns the rows in which something was typed.
func (f *field) typedRows(values url.Values) (rows []map[string]string) {
	for i := range f.maxRows() {
		row := map[string]string{}
		for _, column := range f.Columns {
			if v := strings.TrimSpace(values.Get(cellName(f.Name, i, column.Name))); v != "" {
				row[column.Name] = v
			}
		}
		if len(row) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// valuesOf returns what the inputs of a form hold for an entity.
func (n *noun) valuesOf(o object, zone *time.Location) url.Values {
	values := url.Values{}
	for _, f := range n.inputs() {
		if f.Widget != widgetRows {
			values.Set(f.Name, f.write(o[f.Name], zone))
			continue
		}
		for i, row := range f.rowsOf(o) {
			for _, column := range f.Columns {
				values.Set(cellName(f.Name, i, column.Name), column.write(row[column.Name], zone))
			}
		}
	}
	return values
}

// inputs returns the fields of the form.
func (n *noun) inputs() (all []*field) {
	for _, s := range n.sections {
		for _, name := range s.fields {
			all = append(all, n.fields[name])
		}
	}
	return all
}

// defaults returns what a form begins with: the defaults that a browser cannot leave out, and what
// the link to the form says.
func (n *noun) defaults(query url.Values) url.Values {
	values := url.Values{}
	for _, f := range n.inputs() {
		if f.Widget == widgetCheck || f.Widget == widgetSelect {
			values.Set(f.Name, f.Default)
		}
		if v := query.Get(f.Name); v != "" && f.Widget != widgetSecret {
			values.Set(f.Name, v)
		}
	}
	return values
}

// typed returns the fields that were filled in, as the API takes them.
func (n *noun) typed(values url.Values, zone *time.Location) map[string]any {
	body := map[string]any{}
	for _, f := range n.inputs() {
		if f.Widget == widgetRows {
			if rows := f.typedObjects(values, zone); len(rows) > 0 {
				body[f.Name] = f.inShape(rows)
			}
			continue
		}
		if v, ok := f.read(values.Get(f.Name), zone); ok {
			body[f.Name] = v
		}
	}
	return body
}

func (f *field) typedObjects(values url.Values, zone *time.Location) (rows []any) {
	for _, typed := range f.typedRows(values) {
		row := map[string]any{}
		for _, column := range f.Columns {
			if v, ok := column.read(typed[column.Name], zone); ok {
				row[column.Name] = v
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// inShape returns rows as the API has them: a list, or an object whose members the first column names.
func (f *field) inShape(rows []any) any {
	if !f.Keyed {
		return append([]any{}, rows...)
	}
	members := map[string]any{}
	for _, r := range rows {
		row, _ := r.(map[string]any)
		name, _ := row[f.Columns[0].Name].(string)
		delete(row, f.Columns[0].Name)
		members[name] = row
	}
	return members
}

// rowsOf returns the rows of an entity.
func (f *field) rowsOf(o object) (rows []object) {
	if !f.Keyed {
		return o.objects(f.Name)
	}
	members, _ := o[f.Name].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		row := object{}
		maps.Copy(row, asMap(members[name]))
		row[f.Columns[0].Name] = name
		rows = append(rows, row)
	}
	return rows
}

// changed returns the fields whose inputs hold something else.
func (n *noun) changed(before, after url.Values) (fields []*field) {
	for _, f := range n.inputs() {
		if !n.fixed(f.Name) && !f.unchanged(before, after) {
			fields = append(fields, f)
		}
	}
	return fields
}

// copyInputs puts what the inputs of a field hold in the place of what they held.
func (f *field) copyInputs(to, from url.Values) {
	if f.Widget != widgetRows {
		to.Set(f.Name, from.Get(f.Name))
		return
	}
	for i := range f.maxRows() {
		for _, column := range f.Columns {
			name := cellName(f.Name, i, column.Name)
			to.Del(name)
			if v := from.Get(name); v != "" {
				to.Set(name, v)
			}
		}
	}
}

// patch returns the merge patch that makes of what is stored what was typed in some fields.
func (n *noun) patch(stored object, changed []*field, values url.Values, zone *time.Location) map[string]any {
	patch := map[string]any{}
	for _, f := range changed {
		var after any
		if f.Widget == widgetRows {
			after = f.inShape(f.typedObjects(values, zone))
		} else if v, ok := f.read(values.Get(f.Name), zone); ok {
			after = v
		}
		if was, isMap := stored[f.Name].(map[string]any); isMap {
			after = without(was, after)
		}
		patch[f.Name] = after
	}
	return patch
}

// mistakes says what is wrong with the rows of objects whose members the rows are: two rows of one name would be
// one member, and the API would see nothing wrong.
func (n *noun) mistakes(values url.Values) (errs catalog.FieldErrors) {
	for _, f := range n.inputs() {
		if !f.Keyed {
			continue
		}
		name, seen := f.Columns[0].Name, map[string]bool{}
		for i, row := range f.typedRows(values) {
			message := ""
			switch of := row[name]; {
			case of == "":
				message = "is required"
			case seen[of]:
				message = "occurs twice in the list; send it once"
			}
			if seen[row[name]] = true; message != "" {
				errs = append(errs, &catalog.FieldError{Field: cellName(f.Name, i, name), Message: message})
			}
		}
	}
	return errs
}

// without adds null for each member that is gone: a merge patch keeps those that it does not name.
func without(before map[string]any, after any) any {
	to, ok := after.(map[string]any)
	if !ok {
		if after == nil {
			to = map[string]any{}
		} else {
			return after
		}
	}
	for name, was := range before {
		if now, kept := to[name]; !kept {
			to[name] = nil
		} else if inner, ok := was.(map[string]any); ok {
			to[name] = without(inner, now)
		}
	}
	return to
}

// unchanged reports whether the inputs of a field hold what is stored.
func (f *field) unchanged(before, values url.Values) bool {
	if f.Widget == widgetRows {
		a, b := f.typedRows(before), f.typedRows(values)
		return fmt.Sprint(a) == fmt.Sprint(b)
	}
	normal := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	if f.Widget == widgetCheck {
		return (normal(before.Get(f.Name)) == "true") == (normal(values.Get(f.Name)) == "true")
	}
	return normal(before.Get(f.Name)) == normal(values.Get(f.Name))
}

// blame puts messages at the inputs that they are about. Those about nothing in the form are listed
// above it.
func (f *form) blame(w *words, errs catalog.FieldErrors) {
	for _, err := range errs {
		in := f.find(err.Field)
		if in == nil {
			f.Problems = append(f.Problems, formProblem{Text: w.field(err)})
			continue
		}
		text := w.message(err.Message)
		if element := strings.TrimPrefix(err.Field, in.Input); element != "" {
			text = element + " " + text // "[2] must be …"
		}
		in.Errors = append(in.Errors, text)
		f.Problems = append(f.Problems, formProblem{in.Input, in.Label, text})
	}
}

// find returns the input of a field, or the one that a part of belongs to.
func (f *form) find(path string) *input {
	base := path
	if i := strings.IndexAny(path, "[."); i >= 0 {
		base = path[:i]
	}
	for _, s := range f.Sections {
		for _, in := range s.Fields {
			if in.Name != base {
				continue
			}
			for _, row := range in.Rows {
				for _, cell := range row {
					if path == cell.Input || strings.HasPrefix(path, cell.Input+"[") {
						return cell
					}
				}
			}
			return in
		}
	}
	return nil
}
