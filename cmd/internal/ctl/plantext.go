package ctl

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

const (
	maxSteps   = 500 // of a plan that are shown
	maxOthers  = 3   // resources that stay as they are, and are shown
	nameWidth  = 22  // of the column of names
	kindWidth  = 10  // of the column of kinds
	lineWidth  = 100 // up to which the fields of what is created stand in one line
	fieldWidth = 18  // of the column of fields, at least
)

// print prints a plan: as a text for people, or as it is.
func (j *job) print(plan catalog.Plan, all bool) error {
	if j.app.output != "table" {
		return j.app.print(plan, nil)
	}
	title := fmt.Sprintf("%s against revision %d", j.title, plan.Revision)
	if plan.Owner != "" {
		title += ", owner " + plan.Owner
	}
	_, err := fmt.Fprint(j.app.stdout, planText(title, plan, all, j.app.style))
	return err
}

// planText writes a plan for people.
func planText(title string, plan catalog.Plan, all bool, s style) string {
	var b strings.Builder
	b.WriteString(s.bold(printable(title)) + "\n\n")
	shown, hidden, silent := 0, 0, 0
	for _, step := range plan.Steps {
		if step.Action == catalog.Unchanged {
			if silent += min(len(step.Notes), 1); len(step.Notes) > 0 && (silent <= maxOthers || all) {
				keptText(&b, step.Kind, step.Name, strings.Join(step.Notes, "; "), s)
			}
			continue
		}
		if shown++; shown > maxSteps && !all {
			hidden++
			continue
		}
		stepText(&b, step, plan.Owner, s)
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "… and %d more; --all shows every change\n", hidden)
	}
	if more := silent - maxOthers; more > 0 && !all {
		b.WriteString(s.dim(fmt.Sprintf("! %d more stay as they are, too; --all lists them", more)) + "\n")
	}
	others := 0
	for _, k := range plan.Kept {
		if strings.HasSuffix(k.Reason, ": left alone") {
			if others++; others > maxOthers && !all {
				continue
			}
		}
		keptText(&b, k.Kind, k.Name, k.Reason, s)
	}
	switch unlisted := plan.Summary.Kept - len(plan.Kept); {
	case others > maxOthers && !all:
		more := others - maxOthers + unlisted
		b.WriteString(s.dim(fmt.Sprintf("! %d more belong to others: left alone; --all lists them", more)) + "\n")
	case unlisted > 0:
		b.WriteString(s.dim(fmt.Sprintf("! %d more belong to others: left alone", unlisted)) + "\n")
	}
	for _, w := range plan.Warnings {
		b.WriteString(s.yellow("warning: "+printable(w.String())) + "\n")
	}
	if shown > 0 || silent > 0 || len(plan.Kept) > 0 || len(plan.Warnings) > 0 {
		b.WriteString("\n")
	}
	b.WriteString(summaryText(plan) + "\n")
	return b.String()
}

// keptText writes a line for what stays as it is, and why.
func keptText(b *strings.Builder, kind catalog.Kind, name, reason string, s style) {
	head := "! " + pad(kind.Noun(), kindWidth) + printable(stepName(kind, name))
	b.WriteString(s.dim(head+room(width(head))+printable(reason)) + "\n")
}

func summaryText(plan catalog.Plan) string {
	sum := plan.Summary
	if !plan.Changes() {
		return fmt.Sprintf("nothing to do, %d unchanged.", sum.Unchanged)
	}
	text := fmt.Sprintf("%d to add, %d to change, %d to delete, %d unchanged", sum.Create, sum.Update, sum.Delete,
		sum.Unchanged)
	switch {
	case plan.Documents == nil:
		return text + "."
	case *plan.Documents == 1:
		return text + "; 1 document will change."
	}
	return text + fmt.Sprintf("; %d documents will change.", *plan.Documents)
}

func stepText(b *strings.Builder, step catalog.Step, owner string, s style) {
	sign, paint := "~", s.yellow
	switch step.Action {
	case catalog.ActionCreate:
		sign, paint = "+", s.green
	case catalog.ActionDelete:
		sign, paint = "-", s.red
	}
	head := sign + " " + pad(step.Kind.Noun(), kindWidth) + printable(stepName(step.Kind, step.Name))
	switch step.Action {
	case catalog.ActionCreate:
		createText(b, paint(head), width(head), step, owner)
	case catalog.ActionDelete:
		reason := "owned, and not in the files"
		if len(step.Notes) > 0 {
			reason = strings.Join(step.Notes, "; ")
		}
		fmt.Fprintf(b, "%s%s%s\n", paint(head), room(width(head)), printable(reason))
		return
	default:
		b.WriteString(paint(head) + "\n")
		fieldLines(b, step.Fields, differenceText)
	}
	for _, note := range step.Notes {
		fmt.Fprintf(b, "    (%s)\n", printable(note))
	}
}

// room returns the spaces between a name and what is said of it, so that it stands in a column
// where names are short.
func room(headWidth int) string {
	return strings.Repeat(" ", max(2, 3+kindWidth+nameWidth-headWidth))
}

// createText writes what is created: its fields in the same line, if they have room there.
// That it is the owner's says the title.
func createText(b *strings.Builder, head string, headWidth int, step catalog.Step, owner string) {
	fields := slices.DeleteFunc(slices.Clone(step.Fields), func(d catalog.Difference) bool {
		var labels map[string]string
		only := d.Field == "labels" && json.Unmarshal(d.After, &labels) == nil && len(labels) == 1 &&
			labels[catalog.LabelOwner] == owner
		return only || slices.Contains(inName(step.Kind), d.Field)
	})
	parts := make([]string, len(fields))
	for i, d := range fields {
		parts[i] = printable(d.Field) + ": " + printable(afterText(d))
	}
	line := strings.Join(parts, "  ")
	if space := room(headWidth); headWidth+len(space)+width(line) <= lineWidth {
		fmt.Fprintln(b, strings.TrimRight(head+space+line, " "))
		return
	}
	b.WriteString(head + "\n")
	fieldLines(b, fields, afterText)
}

// fieldLines writes a line for each field.
func fieldLines(b *strings.Builder, fields []catalog.Difference, show func(catalog.Difference) string) {
	widest := fieldWidth
	for _, d := range fields {
		widest = max(widest, width(printable(d.Field)))
	}
	for _, d := range fields {
		fmt.Fprintf(b, "    %s %s\n", pad(printable(d.Field), widest), printable(show(d)))
	}
}

// inName lists the fields that the name of a resource says already.
func inName(kind catalog.Kind) []string {
	switch kind {
	case catalog.KindBinding:
		return []string{"namespace", "model", "route_group", "provider_group"}
	case catalog.KindModel:
		return []string{"namespace", "name"}
	}
	return []string{"name"}
}

// stepName writes what people know a resource by: of a binding, from which keys to which
// providers.
func stepName(kind catalog.Kind, name string) string {
	if kind != catalog.KindBinding {
		return name
	}
	words := strings.Split(name, " ")
	if len(words) < 3 {
		return name
	}
	n := len(words)
	return strings.Join(words[:n-2], " ") + "  " + words[n-2] + " → " + words[n-1]
}

func afterText(d catalog.Difference) string {
	if d.Changed {
		return "(new)"
	}
	return valueText(d.After)
}

// differenceText writes what becomes of a field: of a list, what comes and what goes.
func differenceText(d catalog.Difference) string {
	if d.Changed {
		return "(changed)"
	}
	before, ok1 := stringList(d.Before)
	after, ok2 := stringList(d.After)
	if !ok1 || !ok2 {
		return jsonText(d.Before) + " → " + jsonText(d.After)
	}
	var parts []string
	for _, s := range after {
		if !slices.Contains(before, s) {
			parts = append(parts, "+ "+s)
		}
	}
	for _, s := range before {
		if !slices.Contains(after, s) {
			parts = append(parts, "- "+s)
		}
	}
	if len(parts) == 0 {
		return "in another order"
	}
	return strings.Join(parts, "  ")
}

func stringList(text json.RawMessage) (list []string, ok bool) {
	return list, len(text) > 0 && text[0] == '[' && json.Unmarshal(text, &list) == nil
}

func jsonText(text json.RawMessage) string {
	if len(text) == 0 {
		return "null"
	}
	return string(text)
}

// valueText writes a value for people.
func valueText(text json.RawMessage) string {
	v, err := asFields(text)
	if err != nil {
		return string(text)
	}
	if list, ok := v.([]any); ok && len(list) > 0 {
		var parts []string
		for _, e := range list {
			parts = append(parts, elementText(e))
		}
		return strings.Join(parts, ", ")
	}
	return elementText(v)
}

// elementText writes a value, an object without what is empty in it, and a budget as
// "40/day block".
func elementText(v any) string {
	object, ok := v.(map[string]any)
	if !ok {
		return cell(v)
	}
	limit, window := cell(object["limit"]), cell(object["window"])
	if limit != "-" && window != "-" {
		return strings.TrimSuffix(limit+"/"+window+" "+cell(object["action"]), " -")
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch inner := object[name].(type) {
		case map[string]any:
			parts = append(parts, name+"=("+elementText(inner)+")")
		default:
			if text := cell(inner); text != "-" {
				parts = append(parts, name+"="+text)
			}
		}
	}
	return strings.Join(parts, " ")
}
