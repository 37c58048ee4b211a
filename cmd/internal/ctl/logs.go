package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

type logsCommand struct {
	printing
	Follow        bool              `short:"f" help:"Go on with what is stored from now on."`
	Key           string            `help:"Only of this key: its id, external_id or name."`
	Provider      string            `help:"Only of this provider: its id, external_id or name."`
	Project       string            `help:"Only of this project, and of all below it."`
	Namespace     string            `help:"Only of this namespace."`
	Model         string            `help:"Only of this model, by its public name."`
	UpstreamModel string            `help:"Only of this model of a provider."`
	Group         string            `help:"Only of this route group."`
	Balancer      string            `help:"Only of this balancer."`
	User          string            `help:"Only of this end user."`
	Tag           map[string]string `placeholder:"NAME=VALUE" help:"Only with this tag."`
	Status        int               `help:"Only with this HTTP status."`
	Errors        bool              `help:"Only failed requests."`
	RequestID     string            `help:"Only of this request."`
	Since         string            `default:"24h" help:"From when on: RFC 3339, or a span such as 90m, 24h, 7d."`
	Until         string            `help:"Until when."`
	Limit         int               `default:"100" help:"At most so many; 0 is all."`
}

// Run lists or follows access logs.
func (c *logsCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	q, err := c.query(ctx, api)
	if err != nil {
		return err
	}
	if c.Follow {
		return c.follow(ctx, a, api, q)
	}
	entries := []logbuf.Entry{}
	for e, err := range api.AllLogs(ctx, q) {
		if err != nil {
			return err
		}
		if c.Limit > 0 && len(entries) == c.Limit {
			a.note("there are more; --limit 0 shows all")
			break
		}
		entries = append(entries, e)
	}
	return a.print(entries, func() *table { return logTable(entries) })
}

func (c *logsCommand) query(ctx context.Context, api *client.Client) (q logbuf.LogQuery, err error) {
	q = logbuf.LogQuery{
		Project: c.Project, Namespace: c.Namespace, Model: c.Model, UpstreamModel: c.UpstreamModel, Group: c.Group,
		Balancer: c.Balancer, User: c.User, Tags: c.Tag, Status: c.Status, Errors: c.Errors, RequestID: c.RequestID,
		Limit: 1000,
	}
	if c.Limit > 0 {
		q.Limit = min(q.Limit, c.Limit+1)
	}
	if q.KeyID, err = idFor(ctx, api.Objects("keys"), c.Key); err != nil {
		return q, err
	}
	if q.ProviderID, err = idFor(ctx, api.Objects("providers"), c.Provider); err != nil {
		return q, err
	}
	if q.Since, err = parseTime("since", c.Since); err != nil {
		return q, err
	}
	q.Until, err = parseTime("until", c.Until)
	return q, err
}

// idFor returns the id of what a word means; 0 for no word. An id of what is gone is taken
// as it is, because there may be logs of it.
func idFor(ctx context.Context, of client.Objects, word string) (int64, error) {
	if word == "" {
		return 0, nil
	}
	object, err := find(ctx, of, word)
	if id, numErr := strconv.ParseInt(word, 10, 64); err != nil && numErr == nil && id > 0 {
		return id, nil
	}
	return idOf(object), err
}

// parseTime reads a time, or a span back from now; the zero time where there is nothing.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if span, ok := parseSpan(text); ok {
		return time.Now().Add(-span), nil
	}
	return time.Time{}, fmt.Errorf("--%s must be a time as in RFC 3339, or a span such as 90m, 24h or 7d", flag)
}

const maxSpanDays = 100 * 366

// parseSpan reads a number and a unit from minutes to weeks.
func parseSpan(text string) (time.Duration, bool) {
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	unit, ok := units[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 31)
	if !ok || err != nil || n > uint64(maxSpanDays*24*time.Hour/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true //nolint:gosec // bounded above
}

// follow prints entries as they come, until it is interrupted.
func (c *logsCommand) follow(ctx context.Context, a *app, api *client.Client, q logbuf.LogQuery) error {
	for e, err := range api.FollowLogs(ctx, q) {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err == nil {
			err = printEntry(a.stdout, a.output, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printEntry prints one entry in one line.
func printEntry(w io.Writer, output string, e logbuf.Entry) error {
	if output != "table" { // a document for each would be no stream of lines
		text, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", text)
		}
		return err
	}
	row := entryRow(e)
	for i, n := range []int{19, 6, 8, 8, 24, 24, 8, 8, 10} {
		row[i] = pad(printable(row[i]), n)
	}
	for i, cell := range row {
		if i > 0 {
			cell = " " + cell
		}
		if _, err := io.WriteString(w, cell); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func logTable(entries []logbuf.Entry) *table {
	t := &table{titles: []string{"TIME", "STATUS", "KEY", "PROVIDER", "MODEL", "UPSTREAM", "IN", "OUT", "USD", "MS",
		"ERROR"}}
	for _, e := range entries {
		t.add(entryRow(e)...)
	}
	return t
}

func entryRow(e logbuf.Entry) []string {
	cost := "-"
	if e.CostNanoUSD != nil {
		cost = usd(*e.CostNanoUSD)
	}
	id := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return strconv.FormatInt(n, 10)
	}
	input := e.InputTokens + e.CacheReadTokens + e.CacheWriteTokens
	return []string{
		timeCell(e.Time), strconv.Itoa(e.Status), id(e.KeyID), id(e.ProviderID), cell(e.Model), cell(e.UpstreamModel),
		strconv.FormatInt(input, 10), strconv.FormatInt(e.OutputTokens, 10), cost, strconv.FormatInt(e.LatencyMS, 10),
		e.Error,
	}
}
