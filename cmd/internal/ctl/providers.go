package ctl

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

type testCommand struct {
	printing
	Provider string `arg:"" help:"Id, external_id or name of the provider."`
	Chat     bool   `help:"Ask for one token of chat, which costs something, instead of the list of models."`
	Model    string `help:"The upstream model to ask for, with --chat; by default the first that the provider has."`
	Models   bool   `help:"Print the models that the provider lists."`
}

// Run asks a provider whether it works. That it does not is an error.
func (c *testCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	if c.Models && (c.Chat || c.Model != "") || c.Model != "" && !c.Chat {
		return fmt.Errorf("--model is for --chat, and --models for neither")
	}
	provider, err := find(ctx, api.Objects("providers"), c.Provider)
	if err != nil {
		return err
	}
	var result client.UpstreamModels
	if c.Models {
		result, err = api.UpstreamModels(ctx, idOf(provider))
	} else {
		result.ProviderTest, err = api.TestProvider(ctx, idOf(provider), c.Chat, c.Model)
	}
	if err != nil {
		return err
	}
	switch {
	case a.output != "table" && c.Models:
		err = a.print(result, nil)
	case a.output != "table":
		err = a.print(result.ProviderTest, nil)
	case result.OK && c.Models:
		for _, m := range result.Models {
			fmt.Fprintln(a.stdout, printable(m))
		}
	case result.OK:
		fmt.Fprintf(a.stdout, "%s (%d ms)\n", a.style.green("works"), result.LatencyMS)
	}
	if err == nil && !result.OK {
		err = fmt.Errorf("the provider fails: %s", testText(result.ProviderTest))
	}
	return err
}

// testText says why a provider fails.
func testText(t client.ProviderTest) string {
	text := map[logbuf.FailureClass]string{
		logbuf.FailedAuth: "it refuses its api_key", logbuf.FailedBilling: "it is not paid",
		logbuf.FailedRate: "it limits the rate", logbuf.FailedOverload: "it is overloaded",
		logbuf.FailedTimeout: "it does not answer in time", logbuf.FailedNetwork: "the server cannot reach it",
		logbuf.FailedClient: "it does not accept the question; base_url may be another, or the model unknown",
		logbuf.FailedServer: "it answers with an error, or with what is none of its API",
	}[t.Class]
	if text == "" {
		text = string(t.Class)
	}
	if t.Status != 0 {
		text += fmt.Sprintf(" (status %d)", t.Status)
	}
	return text
}

type healthCommand struct {
	printing
	Provider string `arg:"" optional:"" help:"Id, external_id or name of one provider."`
}

// Run shows how providers do, as balancers report it.
func (c *healthCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	var id int64
	if c.Provider != "" {
		provider, err := find(ctx, api.Objects("providers"), c.Provider)
		if err != nil {
			return err
		}
		id = idOf(provider)
	}
	h, err := api.ProvidersHealth(ctx, id, "")
	for last := ""; err == nil && h.NextCursor != last; {
		last = h.NextCursor
		var next client.ProvidersHealth
		next, err = api.ProvidersHealth(ctx, id, h.NextCursor)
		h.Data, h.NextCursor = append(h.Data, next.Data...), next.NextCursor
	}
	if err != nil {
		return err
	}
	if a.output != "table" {
		return a.print(h, nil)
	}
	t := &table{titles: []string{"PROVIDER", "ID", "UPSTREAM MODEL", "ATTEMPTS", "FAILED", "BY CLASS", "HELD"},
		style: a.style}
	for _, u := range h.Data {
		t.add(u.Provider, strconv.FormatInt(u.ProviderID, 10), u.UpstreamModel, strconv.FormatInt(u.Attempts, 10),
			strconv.FormatInt(u.Failures, 10), classesText(u.ByClass), heldText(u.Held))
	}
	return t.write(a.stdout)
}

// classesText writes failures as "server 3, timeout 1".
func classesText(by map[logbuf.FailureClass]int64) string {
	var parts []string
	for class, n := range by {
		parts = append(parts, fmt.Sprintf("%s %d", class, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// heldText says until when something is held, and why.
func heldText(h *client.HeldBy) string {
	if h == nil {
		return ""
	}
	text := "until it is deleted"
	if h.Until != nil {
		text = "until " + h.Until.Local().Format(time.DateTime)
	}
	if h.Cause != "" {
		return text + ", " + h.Cause
	}
	return text + ", " + h.Reason
}
