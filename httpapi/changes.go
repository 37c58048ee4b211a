package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

type listingChanges struct {
	After string `query:"after" maxLength:"40" pattern:"^[0-9]+(\\.[0-9]+)?$" patternDescription:"a revision, or the next_cursor of a page" doc:"Only changes after this revision, or after the next_cursor of the page before. Without it the list begins with the oldest change that is kept."`
	Kind  string `query:"kind" maxLength:"64" doc:"Only changes of resources of this kind, such as keys."`
	ID    int64  `query:"id" minimum:"1" doc:"Only changes of the resource with this id."`
	Actor string `query:"actor" maxLength:"256" doc:"Only changes that this actor has made."`
	Since string `query:"since" format:"date-time" maxLength:"64" doc:"Only changes from this time on."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many a page has at most."`
}

// changes answers with a page of the feed.
type changes struct {
	Body struct {
		Data       []catalog.Change `json:"data" doc:"The changes, oldest first. A page ends at 4 MiB, and with filters it may have few or none: there may be more."`
		NextCursor string           `json:"next_cursor" doc:"The after of the next page. Ask again with it, also for what comes later."`
	}
}

// The bounds of one page. A page that has looked at so many changes ends, however few
// of them were selected, and so does one that shows so many bytes.
const (
	changesAtOnce = 40  // that are read at first, because each may have more than a MiB
	manyAtOnce    = 500 // that are read where they are small
	smallChange   = 4 << 10
	changesAtMost = 10_000
	changesBytes  = 4 << 20
	clocksApart   = 5 * time.Second // of the servers whose times are in the feed, at most
)

// errAhead says that the catalog has not come as far as a cursor says.
var errAhead = errors.New("the catalog is not that far")

func (h *Handler) changes(ctx context.Context, in *listingChanges) (*changes, error) {
	var at catalog.Cursor
	if in.After != "" {
		var err error
		if at, err = catalog.ParseCursor(in.After); err != nil {
			return nil, &catalog.FieldError{Field: "after", Message: "must be a revision, or the next_cursor of the page before"}
		}
	}
	if in.Kind != "" && !isKind(in.Kind) {
		return nil, &catalog.FieldError{Field: "kind", Message: "must be one of " + kindList()}
	}
	since, err := request.Time("since", in.Since)
	if err != nil {
		return nil, err
	}
	out := &changes{}
	err = h.plane.Store().Read(ctx, func(r catalog.Reader) (err error) {
		if in.After == "" || !since.IsZero() {
			if at, err = seek(ctx, r, at, in.After == "", since); err != nil {
				return err
			}
		}
		page := feedPage{in: in, since: since, at: at, project: catalog.ProjectOf(ctx)}
		if err := page.fill(ctx, r); err != nil {
			return err
		}
		out.Body.Data, out.Body.NextCursor = append([]catalog.Change{}, page.found...), page.at.String()
		return nil
	})
	return out, err
}

func isKind(s string) bool {
	for _, k := range catalog.Kinds() {
		if string(k) == s {
			return true
		}
	}
	return false
}

func kindList() string {
	var all []string
	for _, k := range catalog.Kinds() {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

// feedPage collects what a page shows.
type feedPage struct {
	in    *listingChanges
	since time.Time
	at    catalog.Cursor
	found []catalog.Change
	bytes int // of found

	project string // of a caller who is limited to one
}

// fill reads on from the cursor until the page is full, or has looked at enough.
func (p *feedPage) fill(ctx context.Context, r catalog.Reader) error {
	if p.at.Revision > r.Head().Revision {
		return errAhead
	}
	atOnce := changesAtOnce
	for looked := 0; looked < changesAtMost; {
		batch, err := r.Changes(ctx, p.at, atOnce+1) // one more tells where a revision ends
		if err != nil {
			return err
		}
		size := 0
		for i, c := range batch[:min(len(batch), atOnce)] {
			looked++
			size += len(c.Before) + len(c.After)
			p.at = c.Cursor()
			if i == len(batch)-1 || batch[i+1].Revision != c.Revision {
				p.at.Seq = 0 // that was all of it
			}
			if shown := p.shown(c); shown != nil && p.selects(*shown) {
				p.found = append(p.found, *shown)
				p.bytes += len(shown.Before) + len(shown.After)
			}
			if len(p.found) == p.in.Limit || p.bytes >= changesBytes {
				return nil
			}
		}
		if len(batch) <= atOnce {
			p.at.Seq = 0
			return nil
		}
		if atOnce = changesAtOnce; size < len(batch)*smallChange {
			atOnce = manyAtOnce
		}
		atOnce = min(atOnce, changesAtMost-looked)
	}
	return nil
}

// selects reports whether the page shows a change.
func (p *feedPage) selects(c catalog.Change) bool {
	return (p.in.Kind == "" || p.in.Kind == string(c.Kind)) && (p.in.ID == 0 || p.in.ID == c.ID) &&
		(p.in.Actor == "" || p.in.Actor == c.Actor) && !c.Time.Before(p.since)
}

// seek moves a cursor forward to where the feed is kept, if oldest is set, and to where
// changes may be from since on. It asks for the feed as often as the number of revisions
// can be halved.
func seek(ctx context.Context, r catalog.Reader, at catalog.Cursor, oldest bool, since time.Time) (catalog.Cursor,
	error) {
	tooEarly := func(n catalog.Revision) (bool, error) {
		next, err := r.Changes(ctx, catalog.Cursor{Revision: n}, 1)
		if oldest && errors.Is(err, catalog.ErrCompacted) {
			return true, nil
		}
		return err == nil && len(next) > 0 && next[0].Time.Before(since.Add(-clocksApart)), err
	}
	if early, err := tooEarly(at.Revision); !early || err != nil {
		return at, err
	}
	low, high := at.Revision+1, r.Head().Revision // the first that is not too early is in [low, high]
	for low < high {
		middle := low + (high-low)/2
		early, err := tooEarly(middle)
		if err != nil {
			return at, err
		}
		if early {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return catalog.Cursor{Revision: low}, nil
}
