package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// logsView is a page of access logs.
type logsView struct {
	Filters  []*input
	More     []*input // filters that are used less
	MoreUsed bool
	Errors   bool
	Problems []string
	Rows     []logRow
	Next     string
	First    string
	CSV      string
}

type logRow struct {
	Link      string
	Time      *moment
	Key       reference
	Provider  reference
	Entry     logbuf.Entry
	Cost      string // "" is not known
	Failed    bool
	Duration  string
	CacheNote string
}

// logQuery reads the filters of logs, which are those of the API.
func (q *queryReader) logQuery() logbuf.LogQuery {
	query := logbuf.LogQuery{
		KeyID: q.number("key_id"), Project: q.text("project"), ProviderID: q.number("provider_id"),
		Namespace: q.text("namespace"), Model: q.text("model"), UpstreamModel: q.text("upstream_model"),
		Group: q.text("group"), Balancer: q.text("balancer"), User: q.text("user"), Status: int(q.number("status")),
		Errors: q.text(
			"errors",
		) != "", RequestID: q.text("request_id"), Since: q.time("since"), Until: q.time("until"),
		Cursor: q.values.Get("cursor"),
	}
	if name, value, ok := strings.Cut(q.text("tag"), "="); ok {
		query.Tags = map[string]string{name: value}
	} else if name != "" {
		q.note("tag", "query.tag")
	}
	return query
}

func (p *page) logs() error {
	q := p.query()
	query := q.logQuery()
	query.Limit = pageSize
	view := logsView{
		Filters: q.inputs("since", "until", "model", "key_id", "project", "status"),
		More: q.inputs(
			"provider_id",
			"upstream_model",
			"namespace",
			"group",
			"balancer",
			"user",
			"tag",
			"request_id",
		),
		Errors: query.Errors, Problems: q.wrong, CSV: "logs.csv?" + queryWithout(q.values, "cursor").Encode(),
	}
	for _, in := range view.More {
		view.MoreUsed = view.MoreUsed || in.Value != ""
	}
	if len(q.wrong) > 0 {
		return p.render("logs", http.StatusUnprocessableEntity, view)
	}
	found, err := p.client.Logs(p.ctx(), query)
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("logs", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	keys, providers := p.namesOf(catalog.KindKey), p.namesOf(catalog.KindProvider)
	for _, e := range found.Data {
		view.Rows = append(view.Rows, p.logRow(e, keys, providers))
	}
	view.Next, view.First = p.pager(found.Next)
	return p.render("logs", http.StatusOK, view)
}

func (p *page) logRow(e logbuf.Entry, keys, providers *names) logRow {
	row := logRow{
		Link: link("logs/entry", "id", e.ID.String(), "ts", e.Time.UTC().Format(time.RFC3339Nano)),
		Time: p.at(e.Time), Key: keys.reference(e.KeyID), Provider: providers.reference(e.ProviderID), Entry: e,
		Failed: e.Failed(), Duration: milliseconds(e.LatencyMS),
	}
	if e.CostNanoUSD != nil {
		row.Cost = usd(*e.CostNanoUSD)
	}
	return row
}

// milliseconds writes how long something took.
func milliseconds(ms int64) string {
	if ms < 1000 {
		return strconv.FormatInt(ms, 10) + " ms"
	}
	return strconv.FormatFloat(float64(ms)/1000, 'f', 1, 64) + " s"
}

// entryView is one request.
type entryView struct {
	Row      logRow
	Facts    []fact
	Failures []failureRow
	Explain  string
}

type failureRow struct {
	Provider reference
	logbuf.Failure
}

// logEntry shows one entry, which is found by its time and its id.
func (p *page) logEntry() error {
	q := p.query()
	at, err := time.Parse(time.RFC3339Nano, q.text("ts"))
	if err != nil {
		return errNoPage
	}
	found, err := p.client.Logs(p.ctx(), logbuf.LogQuery{Since: at, Until: at.Add(time.Microsecond), Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range found.Data {
		if e.ID.String() == q.text("id") {
			return p.render("entry", http.StatusOK, p.entryView(e))
		}
	}
	return errNoPage
}

func (p *page) entryView(e logbuf.Entry) entryView {
	providers := p.namesOf(catalog.KindProvider)
	view := entryView{Row: p.logRow(e, p.namesOf(catalog.KindKey), providers)}
	text := func(name, value string) {
		if value != "" {
			view.Facts = append(view.Facts, fact{Label: "field." + name, Cell: cell{Widget: widgetText, Text: value}})
		}
	}
	count := func(name string, n int64) { text(name, number(n)) }
	text("request_id", e.RequestID)
	text("endpoint", e.Endpoint)
	text("namespace", e.Namespace)
	text("model", e.Model)
	text("upstream_model", e.UpstreamModel)
	text("group", e.Group)
	text("project", e.Project)
	text("balancer", e.Balancer)
	text("user", e.User)
	text("client_ip", e.ClientIP)
	text("user_agent", e.UserAgent)
	count("input_tokens", e.InputTokens)
	count("cache_read_tokens", e.CacheReadTokens)
	count("cache_write_tokens", e.CacheWriteTokens)
	count("output_tokens", e.OutputTokens)
	text("latency_ms", milliseconds(e.LatencyMS))
	text("ttft_ms", milliseconds(e.TTFTMS))
	count("attempts", int64(e.Attempts))
	count("priced_revision", e.PricedRevision)
	text("position", e.Revision)
	if len(e.Tags) > 0 {
		labels := map[string]any{}
		for name, value := range e.Tags {
			labels[name] = value
		}
		f := &field{Name: "tag", Widget: widgetLabels}
		view.Facts = append(view.Facts, fact{Label: "field.tag", Cell: p.cell(f, object{"tag": labels})})
	}
	for _, f := range e.Failures {
		view.Failures = append(view.Failures, failureRow{providers.reference(f.ProviderID), f})
	}
	if e.KeyID != 0 && e.Model != "" {
		view.Explain = link("explain", "key_id", fmt.Sprint(e.KeyID), "model", e.Namespace+"."+e.Model)
	}
	return view
}

// logsCSV sends all entries that the filters select.
func (p *page) logsCSV() error {
	q := p.query()
	query := q.logQuery()
	query.Limit = csvPage
	if len(q.wrong) > 0 {
		p.redirect("logs?" + q.values.Encode())
		return nil
	}
	out := newTable(
		p,
		"logs",
		"ts",
		"id",
		"request_id",
		"status",
		"error",
		"key_id",
		"project",
		"provider_id",
		"namespace",
		"model",
		"upstream_model",
		"group",
		"balancer",
		"user",
		"endpoint",
		"stream",
		"attempts",
		"latency_ms",
		"ttft_ms",
		"input_tokens",
		"cache_read_tokens",
		"cache_write_tokens",
		"output_tokens",
		"cost_usd",
	)
	for {
		found, err := p.client.Logs(p.ctx(), query)
		if err != nil {
			return out.fail(err)
		}
		for _, e := range found.Data {
			cost := ""
			if e.CostNanoUSD != nil {
				cost = catalog.NanoUSD(*e.CostNanoUSD).String()
			}
			out.row(
				e.Time.UTC().Format(time.RFC3339Nano),
				e.ID.String(),
				e.RequestID,
				e.Status,
				e.Error,
				e.KeyID,
				e.Project,
				e.ProviderID,
				e.Namespace,
				e.Model,
				e.UpstreamModel,
				e.Group,
				e.Balancer,
				e.User,
				e.Endpoint,
				e.Stream,
				e.Attempts,
				e.LatencyMS,
				e.TTFTMS,
				e.InputTokens,
				e.CacheReadTokens,
				e.CacheWriteTokens,
				e.OutputTokens,
				cost,
			)
		}
		query.Cursor = found.Next
		if !out.send() || query.Cursor == "" {
			return nil
		}
	}
}

// queryText returns filters without what is empty.
func queryText(values url.Values) string {
	kept := url.Values{}
	for name, list := range values {
		for _, v := range list {
			if v != "" {
				kept.Add(name, v)
			}
		}
	}
	return kept.Encode()
}
