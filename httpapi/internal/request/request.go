// Package request reads the parts that the API's requests have in common, and writes
// those of answers. Its structs are embedded in the inputs and outputs of operations,
// which is why their names are exported: huma finds no others.
package request

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// ErrMalformed says that a part of a request cannot be read at all. The text of
// an error that wraps it holds no values.
var ErrMalformed = errors.New("malformed request")

// ID is the id in a path.
type ID struct {
	ID string `path:"id"`
}

// Number returns the id. What is no id names nothing: the error wraps
// catalog.ErrNotFound.
func (in ID) Number() (int64, error) {
	n, err := strconv.ParseInt(in.ID, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != in.ID {
		return 0, fmt.Errorf("what stands in the path is no id: %w", catalog.ErrNotFound)
	}
	return n, nil
}

// Page is a part of a list, in order of id.
type Page struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many a page has at most."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next_cursor of the page before. Without it the first page is shown."`
}

// After returns the id that the page starts after.
func (in Page) After() (int64, error) {
	if in.Cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(in.Cursor)
	id, ok := strings.CutPrefix(string(text), "id:")
	n, parseErr := strconv.ParseInt(id, 10, 64)
	if err != nil || !ok || parseErr != nil || n < 0 || Cursor(n) != in.Cursor {
		return 0, &catalog.FieldError{Field: "cursor", Message: "must be the next_cursor of the page before"}
	}
	return n, nil
}

// Cursor returns the cursor of the page after an id.
func Cursor(id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("id:" + strconv.FormatInt(id, 10)))
}

// List selects entities, page by page. Not every filter applies to every noun.
type List struct {
	Page
	Name       string   `query:"name" maxLength:"256" doc:"Only resources with this name."`
	Text       string   `query:"q" maxLength:"256" doc:"Only resources with this text in their name or their external_id, in upper or lower case."`
	ExternalID string   `query:"external_id" maxLength:"256" doc:"Only the resource with this external_id."`
	Status     string   `query:"status" enum:"active,disabled" doc:"Only resources with this status."`
	Group      string   `query:"group" maxLength:"64" doc:"Only resources of this group."`
	Namespace  string   `query:"namespace" maxLength:"63" doc:"Only resources of this namespace."`
	Project    string   `query:"project" maxLength:"191" doc:"Only resources of this project and of all below it."`
	Target     string   `query:"target" maxLength:"512" doc:"Only holds of this target, such as provider/7 with its models."`
	Reason     string   `query:"reason" enum:"admin,budget,health" doc:"Only holds for this reason."`
	Labels     []string `query:"label,explode" maxItems:"64" doc:"Only resources with this label, written name=value. When it is repeated, all labels must be there."`
	Count      bool     `query:"count" default:"false" doc:"Whether the answer says how many resources all pages have."`
}

// Query returns what is selected.
func (in List) Query() (q catalog.Query, err error) {
	if q.After, err = in.After(); err != nil {
		return q, err
	}
	q.Limit, q.Text, q.Status, q.Namespace = in.Limit, in.Text, in.Status, in.Namespace
	if in.Name != "" {
		q.Names = []string{in.Name}
	}
	if in.ExternalID != "" {
		q.ExternalIDs = []string{in.ExternalID}
	}
	if in.Group != "" {
		q.Groups = []string{in.Group}
	}
	if in.Reason != "" {
		q.Groups = []string{in.Reason} // holds are of no other group
	}
	if in.Target != "" {
		switch t, ok := catalog.ParseHoldTarget(in.Target); {
		case !ok:
			return q, &catalog.FieldError{Field: "target",
				Message: "must be key/ID, project/PATH, provider/ID or provider/ID/MODEL"}
		case t.UpstreamModel == "":
			q.Refs = []string{in.Target}
		default:
			for _, reason := range catalog.HoldReasons() {
				q.NaturalKeys = append(q.NaturalKeys, catalog.HoldKey(in.Target, reason))
			}
		}
	}
	for _, label := range in.Labels {
		name, value, ok := strings.Cut(label, "=")
		if !ok || name == "" {
			return q, &catalog.FieldError{Field: "label", Message: "must be written name=value"}
		}
		if q.Labels == nil {
			q.Labels = map[string]string{}
		}
		if other, twice := q.Labels[name]; twice && other != value {
			return q, &catalog.FieldError{Field: "label", Message: "must not have two values: nothing has both"}
		}
		q.Labels[name] = value
	}
	return q, nil
}

// Cascade says whether a change of a name goes on to what names it.
type Cascade struct {
	Cascade bool `query:"cascade" default:"false" doc:"Whether the allow-lists that name the model are changed with it, in the same revision. Otherwise a warning says how many there are."`
}

// In returns a context whose writes go on as the request says.
func (in Cascade) In(ctx context.Context) context.Context {
	if in.Cascade {
		return catalog.WithCascade(ctx)
	}
	return ctx
}

// Wait says how long a write is to be followed on its way to the balancers.
type Wait struct {
	Wait    string `query:"wait" enum:"published,applied" doc:"Answer only when the write is published, or applied by every live balancer. The header EZ-Sync says how far it has come."`
	Timeout string `query:"timeout" default:"10s" maxLength:"32" doc:"How long to wait at most, such as 500ms or 10s; up to 60s."`
}

// CarryOut says how a plan is to be carried out.
type CarryOut struct {
	Wait
	Cascade
	DryRun bool   `query:"dry_run" default:"false" doc:"Whether to answer the plan and to change nothing."`
	Expect string `query:"expect" maxLength:"64" doc:"The plan that an earlier answer has. If the plan is another one by now, the answer is 412 with the new one, and nothing is done."`
	Force  bool   `query:"force" default:"false" doc:"Whether to do it although more than half and more than 10 resources of a kind are deleted."`
}

// Progress says how far a write has come on its way to the balancers.
type Progress struct {
	Sync  string `header:"EZ-Sync" enum:"published,applied,pending" doc:"How far the write has come; only with wait."`
	Nodes string `header:"EZ-Sync-Nodes" doc:"How many balancers have applied it, such as applied=3 lagging=0 lost=1; only with wait=applied."`
}

// Limit returns how long to wait.
func (in Wait) Limit() (time.Duration, error) {
	return Duration("timeout", in.Timeout, time.Minute)
}

const timeRule = "must be a time as in RFC 3339, such as 2030-01-31T12:00:00Z"

// Time reads a time as in RFC 3339. One that is not given is the zero time.
func Time(field, text string) (t time.Time, err error) {
	if text == "" {
		return t, nil
	}
	if t, err = logbuf.ParseTime(text); err != nil {
		return t, &catalog.FieldError{Field: field, Message: timeRule}
	}
	return t, nil
}

// Duration reads a length of time: Go's notation, or a number of seconds.
func Duration(field, text string, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 || d > most {
		return 0, &catalog.FieldError{Field: field,
			Message: fmt.Sprintf("must be a length of time from 0s to %.0fs", most.Seconds())}
	}
	return d, nil
}
