package logbuf

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// A bound is what a number of an entry may be, from 0.
type bound struct {
	field field
	value int64
	limit int64
}

// validate checks what comes from Go as a [Decoder] checks what comes from HTTP: engines
// may rely on it.
func (e *Entry) validate() *FieldError {
	if e.Time.Before(minTime) || !e.Time.Before(endOfTime) {
		return &FieldError{fieldTS.name(), OutsideTime}
	}
	for _, b := range [...]bound{
		{fieldKeyID, e.KeyID, maxID},
		{fieldProviderID, e.ProviderID, maxID},
		{fieldStatus, int64(e.Status), MaxStatus},
		{fieldAttempts, int64(e.Attempts), MaxAttempts},
		{fieldLatencyMS, e.LatencyMS, MaxMillis},
		{fieldTTFTMS, e.TTFTMS, MaxMillis},
		{fieldInputTokens, e.InputTokens, MaxTokens},
		{fieldCacheReadTokens, e.CacheReadTokens, MaxTokens},
		{fieldCacheWriteTokens, e.CacheWriteTokens, MaxTokens},
		{fieldOutputTokens, e.OutputTokens, MaxTokens},
		{fieldPricedRevision, e.PricedRevision, maxID},
	} {
		if uint64(b.value) > uint64(b.limit) { //nolint:gosec // negative ones are large
			return b.refuse("")
		}
	}
	if e.CostNanoUSD != nil {
		//nolint:gosec // as above
		if b := (bound{fieldCostNanoUSD, *e.CostNanoUSD, MaxCost}); uint64(b.value) > uint64(b.limit) {
			return b.refuse("")
		}
	}
	if len(e.Tags) > 0 || len(e.Failures) > 0 {
		return e.validateNested()
	}
	return nil
}

func (e *Entry) validateNested() *FieldError {
	if len(e.Tags) > maxTags {
		return &FieldError{fieldTags.name(), fmt.Sprintf("must not hold more than %d tags", maxTags)}
	}
	if _, empty := e.Tags[""]; empty {
		return &FieldError{fieldTags.name(), "must not hold an empty name"}
	}
	if twins(e.Tags) {
		return &FieldError{fieldTags.name(), "must not hold two names that are the same in their first 64 bytes, " +
			"once invalid UTF-8 and NUL are replaced"}
	}
	if len(e.Failures) > maxFailures {
		return &FieldError{fieldFailures.name(), fmt.Sprintf("must not hold more than %d", maxFailures)}
	}
	for i := range e.Failures {
		f := &e.Failures[i]
		for _, b := range [...]bound{
			{fieldProviderID, f.ProviderID, maxID},
			{fieldStatus, int64(f.Status), MaxStatus},
			{fieldLatencyMS, f.LatencyMS, MaxMillis},
			{fieldRetryAfterMS, f.RetryAfterMS, MaxMillis},
		} {
			if uint64(b.value) > uint64(b.limit) { //nolint:gosec // as above
				return b.refuse(failureNames[i])
			}
		}
		if !f.Class.wellFormed() {
			return &FieldError{failureNames[i] + fieldClass.name(), classWanted}
		}
	}
	return nil
}

// twins reports whether names of tags become equal when they are cleaned.
func twins(tags map[string]string) bool {
	for name := range tags {
		cleaned, _, _ := clean(name, MaxTagName)
		if cleaned == name {
			continue
		}
		for other := range tags {
			if c, _, _ := clean(other, MaxTagName); other != name && c == cleaned {
				return true
			}
		}
	}
	return false
}

func (b bound) refuse(within string) *FieldError {
	message := "must not be negative"
	if b.value > 0 {
		message = "must be at most " + strconv.FormatInt(b.limit, 10)
	}
	return &FieldError{within + b.field.name(), message}
}

// clean makes the strings of an entry that is valid as they can be stored, and says how many it cut and
// how many it replaced. Before holds those of the last entry, which are clean: often they
// are the same.
func (e *Entry) clean(before *[texts]string) (cut, replaced int64) {
	fix := func(s *string, limit int) {
		var c, r bool
		if *s, c, r = clean(*s, limit); c {
			cut++
		}
		if r {
			replaced++
		}
	}
	for i, s := range e.text() {
		if *s != before[i] {
			fix(s, limitOf(textFields[i]))
			before[i] = *s
		}
	}
	if e.Project != "" && !isProject(e.Project) {
		e.Project = ""
		replaced++
	}
	if len(e.Tags) > 0 {
		tags := make(map[string]string, len(e.Tags)) // the caller's stays as it is
		for name, value := range e.Tags {
			fix(&name, MaxTagName)
			fix(&value, MaxTagValue)
			tags[name] = value
		}
		e.Tags = tags
	}
	if len(e.Failures) > 0 {
		e.Failures = slices.Clone(e.Failures) // likewise
		for i := range e.Failures {
			fix(&e.Failures[i].UpstreamModel, MaxString)
		}
	}
	return cut, replaced
}

// identify fills in what identifies an entry, and its namespace.
func (e *Entry) identify(now time.Time) {
	if e.Time.IsZero() {
		e.Time = now
		if e.ID.Version() == 7 {
			e.Time = timeOf(e.ID)
		}
	}
	if e.ID == uuid.Nil {
		e.ID = newID(now)
	}
	if e.Namespace == "" {
		e.Namespace = defaultNamespace
	}
}
