package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

type listingChanges struct {
	After string    `query:"after" maxLength:"40" pattern:"^[0-9]+(\\.[0-9]+)?$" patternDescription:"a revision, or the next_cursor of a page" doc:"Only changes after this revision, or after the next_cursor of the page before. Without it the list begins with the oldest change that is kept."`
	Kind  string    `query:"kind" maxLength:"64" doc:"Only changes of resources of this kind, such as keys."`
	ID    int64     `query:"id" minimum:"1" doc:"Only changes of the resource with this id."`
	Actor string    `query:"actor" maxLength:"256" doc:"Only changes that this actor has made."`
	Since time.Time `query:"since" doc:"Only changes from this time on."`
	Limit int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many a page has at most."`
}

// changes answers with a page of the feed.
type changes struct {
	Body struct {
		Data       []catalog.Change `json:"data" doc:"The changes, oldest first. With filters a page may have few or none, and there may be more."`
		NextCursor string           `json:"next_cursor" doc:"The after of the next page. Ask again with it, also for what comes later."`
	}
}

// The bounds of one page. A page that has looked at so many changes ends, however few
// of them were selected.
const (
	changesAtOnce   = 500
	changesAtMost   = 10_000
	clocksApart     = 5 * time.Second // of the servers whose times are in the feed, at most
	longestRevision = 18              // digits
)

// errAhead says that the catalog has not come as far as a cursor says.
var errAhead = errors.New("the catalog is not that far")

func (h *Handler) changes(ctx context.Context, in *listingChanges) (*changes, error) {
	at, err := parseFeedCursor(in.After)
	if err != nil {
		return nil, err
	}
	if in.Kind != "" && !isKind(in.Kind) {
		return nil, &catalog.FieldError{Field: "kind", Message: "must be one of " + kindList()}
	}
	out := &changes{}
	err = h.plane.Store().Read(ctx, func(r catalog.Reader) error {
		if in.After == "" || !in.Since.IsZero() {
			if at, err = seek(ctx, r, at, in.After == "", in.Since); err != nil {
				return err
			}
		}
		page := feedPage{in: in, at: at}
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

// feedCursor is a place in the feed: after so many changes of a revision. As many as
// there are is the same as all of them: -1.
type feedCursor struct {
	revision catalog.Revision
	seen     int
}

const wholeRevision = -1

// String writes the cursor as a client sends it back.
func (c feedCursor) String() string {
	if c.seen == wholeRevision {
		return strconv.FormatInt(int64(c.revision), 10)
	}
	return fmt.Sprintf("%d.%d", c.revision, c.seen)
}

// parseFeedCursor reads REV or REV.SEQ. An empty text is the beginning.
func parseFeedCursor(text string) (feedCursor, error) {
	c := feedCursor{seen: wholeRevision}
	if text == "" {
		return c, nil
	}
	revision, seen, within := strings.Cut(text, ".")
	n, err := strconv.ParseInt(revision, 10, 64)
	if within && err == nil {
		c.seen, err = strconv.Atoi(seen)
	}
	if err != nil || n < 0 || len(revision) > longestRevision || within && c.seen < 0 {
		return c, &catalog.FieldError{Field: "after", Message: "must be a revision, or the next_cursor of the page before"}
	}
	c.revision = catalog.Revision(n)
	return c, nil
}

// feedPage collects what a page shows.
type feedPage struct {
	in    *listingChanges
	at    feedCursor
	found []catalog.Change
}

// fill reads on from the cursor until the page is full, or has looked at enough.
func (p *feedPage) fill(ctx context.Context, r catalog.Reader) error {
	if p.at.revision > r.Head().Revision {
		return errAhead
	}
	for looked := 0; looked < changesAtMost; {
		start, after := p.at, p.at.revision
		if start.seen != wholeRevision {
			after = max(after-1, 0) // what is left of the revision comes with what was seen of it
		}
		batch, err := r.Changes(ctx, after, changesAtOnce)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			p.at.seen = wholeRevision
			return nil
		}
		seq := 0
		for i, c := range batch {
			if seq++; i == 0 || batch[i-1].Revision != c.Revision {
				seq = 1
			}
			if c.Revision == start.revision && seq <= start.seen {
				continue
			}
			looked++
			p.at = feedCursor{c.Revision, seq}
			if i == len(batch)-1 || batch[i+1].Revision != c.Revision {
				p.at.seen = wholeRevision
			}
			if p.selects(c) {
				p.found = append(p.found, c)
			}
			if len(p.found) == p.in.Limit {
				return nil
			}
		}
		p.at.seen = wholeRevision
	}
	return nil
}

// selects reports whether the page shows a change.
func (p *feedPage) selects(c catalog.Change) bool {
	return (p.in.Kind == "" || p.in.Kind == string(c.Kind)) && (p.in.ID == 0 || p.in.ID == c.ID) &&
		(p.in.Actor == "" || p.in.Actor == c.Actor) && !c.Time.Before(p.in.Since)
}

// seek moves a cursor forward to where the feed is kept, if oldest is set, and to where
// changes may be from since on. It asks for the feed as often as the number of revisions
// can be halved.
func seek(ctx context.Context, r catalog.Reader, at feedCursor, oldest bool, since time.Time) (feedCursor, error) {
	tooEarly := func(n catalog.Revision) (bool, error) {
		next, err := r.Changes(ctx, n, 1)
		if oldest && errors.Is(err, catalog.ErrCompacted) {
			return true, nil
		}
		return err == nil && len(next) > 0 && next[0].Time.Before(since.Add(-clocksApart)), err
	}
	if early, err := tooEarly(at.revision); !early || err != nil {
		return at, err
	}
	low, high := at.revision+1, r.Head().Revision // the first that is not too early is in [low, high]
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
	return feedCursor{low, wholeRevision}, nil
}
