package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// parseKind reads a kind as people write it: provider or providers.
func parseKind(word string) (catalog.Kind, error) {
	var words []string
	for _, k := range catalog.Kinds() {
		if word == string(k) || word == k.Noun() {
			return k, nil
		}
		words = append(words, string(k))
	}
	return "", fmt.Errorf("there is no kind of that name; there are %s", strings.Join(words, ", "))
}

// column is a column of the table of a kind.
type column struct {
	title string
	value func(fields) string
}

// plain is a column that shows a field as it is.
func plain(title, field string) column {
	return column{title, func(f fields) string { return cell(f[field]) }}
}

// count is a column that shows how many elements a list has; all says what an empty one means.
func count(title, field, none string) column {
	return column{title, func(f fields) string {
		if list, _ := f[field].([]any); len(list) > 0 {
			return strconv.Itoa(len(list))
		}
		return none
	}}
}

// budgetColumn shows budgets as "40/day block".
func budgetColumn() column {
	return column{"BUDGETS", func(f fields) string {
		list, _ := f["budgets"].([]any)
		parts := make([]string, len(list))
		for i, b := range list {
			parts[i] = elementText(b)
		}
		return joinSome(parts)
	}}
}

// columns returns the columns of the table of a kind.
func columns(kind catalog.Kind) []column {
	id, name, status := plain("ID", "id"), plain("NAME", "name"), plain("STATUS", "status")
	weight, priority := plain("WEIGHT", "weight"), plain("PRIORITY", "priority")
	switch kind {
	case catalog.KindProvider:
		return []column{
			id, name, plain("TYPE", "type"), plain("GROUP", "group"), count("MODELS", "models", "0"), weight, priority,
			plain("KEY ENDS IN", "api_key_hint"), status,
		}
	case catalog.KindModel:
		return []column{
			id, plain("NAMESPACE", "namespace"), name, plain("KIND", "kind"), plain("INPUT", "input_price"),
			plain("OUTPUT", "output_price"), plain("PRICES OF", "price_source"), status,
		}
	case catalog.KindBinding:
		return []column{
			id, plain("NAMESPACE", "namespace"), plain("MODEL", "model"), plain("KEYS OF", "route_group"),
			plain("PROVIDERS OF", "provider_group"), plain("SELECTOR", "selector_type"), plain("VALUE", "selector_value"),
			weight, priority, status,
		}
	case catalog.KindProject:
		return []column{
			id, name, count("MODELS", "models", "all"), count("GROUPS", "groups", "all"), plain("RPM", "rpm_limit"),
			plain("MAX KEYS", "max_keys"), budgetColumn(), status,
		}
	case catalog.KindOperator:
		return []column{
			id, name, plain("ROLE", "role"), plain("PROJECT", "project"), plain("ENDS IN", "token_hint"),
			plain("EXPIRES", "expires_at"), plain("LAST USED", "last_used_at"), status,
		}
	case catalog.KindHold:
		return []column{
			id, plain("TARGET", "target"), plain("REASON", "reason"), plain("UNTIL", "until"), plain("MESSAGE", "message"),
			status,
		}
	case catalog.KindKey:
		return []column{
			id, name, plain("PROJECT", "project"), plain("GROUP", "group"), plain("NAMESPACES", "namespaces"),
			count("MODELS", "models", "all"),
			plain("ENDS IN", "token_hint"), plain("EXPIRES", "expires_at"), plain("LAST USED", "last_used_at"), status,
		}
	}
	return []column{id, name, plain("EXTERNAL ID", "external_id"), status}
}

// tableOf returns the table of resources of a kind.
func tableOf(kind catalog.Kind, objects []fields) *table {
	cols := columns(kind)
	t := &table{}
	for _, c := range cols {
		t.titles = append(t.titles, c.title)
	}
	for _, o := range objects {
		row := make([]string, len(cols))
		for i, c := range cols {
			row[i] = c.value(o)
		}
		t.add(row...)
	}
	return t
}

// idOf returns the id of a resource.
func idOf(object fields) int64 {
	number, _ := object["id"].(json.Number)
	id, _ := number.Int64()
	return id
}

// revisionOf returns the revision that a resource is at.
func revisionOf(object fields) catalog.Revision {
	number, _ := object["revision"].(json.Number)
	r, _ := number.Int64()
	return catalog.Revision(r)
}

// get reads a resource of a kind.
func get(ctx context.Context, of client.Objects, id int64) (fields, error) {
	text, err := of.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return parseFields(text)
}

// find returns the one resource that a word means; see [client.Objects.Find].
func find(ctx context.Context, of client.Objects, word string) (fields, error) {
	text, err := of.Find(ctx, word)
	if err != nil {
		return nil, err
	}
	return parseFields(text)
}

// objects returns the resources of the kind that a word names.
func (a *app) objects(word string) (client.Objects, error) {
	kind, err := parseKind(word)
	if err != nil {
		return client.Objects{}, err
	}
	c, err := a.client()
	if err != nil {
		return client.Objects{}, err
	}
	return c.Objects(kind), nil
}

type getCommand struct {
	printing
	Kind      string            `arg:"" predictor:"kind" help:"Kind of the resources: providers, models, bindings, keys, …"`
	Names     []string          `arg:"" optional:"" name:"name" help:"Ids, external_ids or names. Without any, a list."`
	Text      string            `short:"q" help:"Only with this text in name or external_id."`
	Status    string            `enum:",active,disabled" default:"" help:"Only with this status."`
	Group     string            `help:"Only of this group."`
	Namespace string            `help:"Only of this namespace."`
	Project   string            `help:"Only of this project, and of all below it."`
	Target    string            `help:"Only holds of this target: key/ID, project/PATH, provider/ID, …"`
	Reason    string            `enum:",admin,budget,health" default:"" help:"Only holds for this reason."`
	Label     map[string]string `short:"l" placeholder:"NAME=VALUE" help:"Only with this label."`
	Owner     string            `help:"Only of this owner."`
	Limit     int               `default:"1000" help:"At most so many; 0 is all."`
}

// Run shows resources.
func (c *getCommand) Run(ctx context.Context, a *app) error {
	of, err := a.objects(c.Kind)
	if err != nil {
		return err
	}
	if len(c.Names) == 0 {
		return c.list(ctx, a, of)
	}
	for i, name := range c.Names {
		object, err := find(ctx, of, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if i > 0 && a.output != "json" {
			fmt.Fprintln(a.stdout, "---")
		}
		if err := a.printObject(of.Kind(), object); err != nil {
			return err
		}
	}
	return nil
}

func (c *getCommand) list(ctx context.Context, a *app, of client.Objects) error {
	q := client.Query{
		Text: c.Text, Status: catalog.Status(c.Status), Group: c.Group, Namespace: c.Namespace, Project: c.Project,
		Target: c.Target, Reason: c.Reason, Labels: c.Label, Limit: 1000,
	}
	if c.Owner != "" {
		if q.Labels == nil {
			q.Labels = map[string]string{}
		}
		q.Labels["owner"] = c.Owner
	}
	found := []fields{}
	for text, err := range of.All(ctx, q) {
		if err != nil {
			return err
		}
		if c.Limit > 0 && len(found) == c.Limit {
			a.note("there are more; --limit 0 shows all")
			break
		}
		object, err := parseFields(text)
		if err != nil {
			return err
		}
		found = append(found, object)
	}
	return a.print(found, func() *table { return tableOf(of.Kind(), found) })
}
