package manifest

import (
	"fmt"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// Problem is something that is wrong with a file. It matches catalog.ErrInvalid. The
// message has the remedy and never a value.
type Problem struct {
	File    string
	Line    int    // 0 where it is about the file as a whole
	Field   string // "providers[2].base_url"; may be empty
	Message string // "must be an https URL"
}

// Error returns the problem in one line: "gateway.yaml:12: providers[2].base_url must be …".
func (p Problem) Error() string {
	at := p.File
	if p.Line > 0 {
		at = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	if p.Field == "" {
		return at + ": " + p.Message
	}
	return at + ": " + p.Field + " " + p.Message
}

// Unwrap returns catalog.ErrInvalid.
func (Problem) Unwrap() error { return catalog.ErrInvalid }

// Problems is all that is wrong with some files, in their order.
type Problems []Problem

const maxProblems = 100 // that are kept

// Error returns the problems, each in a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single problems.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

func (ps *Problems) add(p Problem) {
	if len(*ps) < maxProblems {
		*ps = append(*ps, p)
	}
}

func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
