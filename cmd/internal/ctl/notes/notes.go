// Package notes collects what is to be told about many things, alike things together.
package notes

import (
	"fmt"
	"slices"
	"strings"
)

// List collects notes. The zero value is empty.
type List struct {
	order []string
	about map[string][]string
}

// Add notes that something is true of a subject, such as "channel 3". The subject may be empty.
func (l *List) Add(subject, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if l.about == nil {
		l.about = map[string][]string{}
	}
	if _, known := l.about[text]; !known {
		l.order = append(l.order, text)
	}
	if all := l.about[text]; len(all) == 0 || all[len(all)-1] != subject {
		l.about[text] = append(all, subject)
	}
}

const maxSubjects = 50 // that a line names

// Lines returns the notes, each in a line: "channel 3, 5: has no credential".
func (l *List) Lines() []string {
	lines := make([]string, 0, len(l.order))
	for _, text := range l.order {
		subjects := slices.DeleteFunc(slices.Clone(l.about[text]), func(s string) bool { return s == "" })
		if len(subjects) == 0 {
			lines = append(lines, text)
			continue
		}
		more := ""
		if len(subjects) > maxSubjects {
			more = fmt.Sprintf(" and %d more", len(subjects)-maxSubjects)
			subjects = subjects[:maxSubjects]
		}
		lines = append(lines, joined(subjects)+more+": "+text)
	}
	return lines
}

// joined joins subjects; a word with which all begin stands there once: "channel 3, 5, 8".
func joined(subjects []string) string {
	word, _, _ := strings.Cut(subjects[0], " ")
	rest := make([]string, len(subjects))
	for i, s := range subjects {
		after, ok := strings.CutPrefix(s, word+" ")
		if !ok {
			return strings.Join(subjects, ", ")
		}
		rest[i] = after
	}
	return word + " " + strings.Join(rest, ", ")
}
