package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

// checkQuery refuses parameters that an operation does not have, and those without a
// value: one that is misspelt, or a variable that was not set, must not go unnoticed.
// known says which may be repeated.
func checkQuery(r *http.Request, known map[string]bool) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || strings.Count(r.URL.RawQuery, "=") < strings.Count(r.URL.RawQuery, "&")+1 {
		return fmt.Errorf("the query must be name=value, joined by &: %w", request.ErrMalformed)
	}
	var errs catalog.FieldErrors
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if message := wrongParameter(known, name, query[name]); message != "" {
			errs = append(errs, &catalog.FieldError{Field: catalog.SafeName(name), Message: message})
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// wrongParameter says what is wrong with a parameter; "" is nothing.
func wrongParameter(known map[string]bool, name string, values []string) string {
	repeatable, ok := known[name]
	switch {
	case !ok:
		return "is not a parameter of this operation"
	case len(values) > 1 && !repeatable:
		return "must not be given twice"
	}
	for _, v := range values {
		if message := request.WrongText(v); message != "" {
			return message
		}
	}
	return ""
}
