package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// queryTimeout is how long a query of logs or usage may take. It ends with its client, too.
const queryTimeout = 30 * time.Second

type listingLogs struct {
	KeyID         int64    `query:"key_id" minimum:"1" doc:"Only entries of this key."`
	Project       string   `query:"project" maxLength:"256" doc:"Only entries of this project and of all below it."`
	ProviderID    int64    `query:"provider_id" minimum:"1" doc:"Only entries that this provider served."`
	Namespace     string   `query:"namespace" maxLength:"256" doc:"Only entries of this namespace."`
	Model         string   `query:"model" maxLength:"256" doc:"Only entries of this public name."`
	UpstreamModel string   `query:"upstream_model" maxLength:"1024" doc:"Only entries that this upstream model served."`
	Group         string   `query:"group" maxLength:"256" doc:"Only entries of this route group."`
	Balancer      string   `query:"balancer" maxLength:"1024" doc:"Only entries of this balancer."`
	User          string   `query:"user" maxLength:"1024" doc:"Only entries of this end user of the client."`
	Tags          []string `query:"tag,explode" maxItems:"8" doc:"Only entries with this tag, written name=value. When it is repeated, all tags must be there."`
	Status        int      `query:"status" minimum:"100" maximum:"999" doc:"Only entries with this HTTP status."`
	Errors        bool     `query:"errors" doc:"Only entries with a status of 400 or more, or with an error."`
	RequestID     string   `query:"request_id" maxLength:"1024" doc:"Only the entries of this request."`
	Since         string   `query:"since" maxLength:"64" doc:"Only entries from this time on. Or a span back from now: 90m, 24h, 7d. The default is 24 hours before until."`
	Until         string   `query:"until" maxLength:"64" doc:"Only entries before this time, or a span as for since. The default is now."`
	Limit         int      `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many a page has at most."`
	Cursor        string   `query:"cursor" maxLength:"1024" doc:"The next_cursor of the page before. Without it the first page is shown."`
}

func (h *Handler) logs(ctx context.Context, in *listingLogs) (*page[logbuf.Entry], error) {
	archive, err := h.archive()
	if err != nil {
		return nil, err
	}
	tags, err := parseTags(in.Tags)
	if err != nil {
		return nil, err
	}
	since, until, err := parseBounds(in.Since, in.Until, h.plane.LogTime(), time.Minute)
	if err != nil {
		return nil, err
	}
	project := within(ctx, in.Project)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	found, err := archive.Logs(ctx, logbuf.LogQuery{
		KeyID: in.KeyID, Project: project, ProviderID: in.ProviderID, Namespace: in.Namespace, Model: in.Model,
		UpstreamModel: in.UpstreamModel, Group: in.Group, Balancer: in.Balancer, User: in.User, Tags: tags,
		Status: in.Status, Errors: in.Errors, RequestID: in.RequestID,
		Since: since, Until: until, Cursor: in.Cursor, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := &page[logbuf.Entry]{}
	out.Body.Data, out.Body.NextCursor = append([]logbuf.Entry{}, found.Entries...), found.Next
	return out, nil
}

// parseTags reads filters written name=value.
func parseTags(texts []string) (map[string]string, error) {
	tags := make(map[string]string, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, &logbuf.FieldError{Field: "tag", Message: "must be written name=value"}
		}
		if before, twice := tags[name]; twice && before != value {
			return nil, &logbuf.FieldError{Field: "tag", Message: "must not have two values: no entry has both"}
		}
		tags[name] = value
	}
	return tags, nil
}

var errNoArchive = errors.New("no archive")

// archive returns what answers questions about logs.
func (h *Handler) archive() (logbuf.Archive, error) {
	if a := h.plane.Archive(); a != nil {
		return a, nil
	}
	return nil, errNoArchive
}
