package ctl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
)

// golden compares a text with a file of testdata, which EZ_TEST_UPDATE_GOLDEN=1 writes anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("EZ_TEST_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func raw(text string) json.RawMessage { return json.RawMessage(text) }

func samplePlan() catalog.Plan {
	return catalog.Plan{
		Revision: 1841, Owner: "platform", Hash: "h", Documents: new(7),
		Summary: catalog.Summary{Create: 3, Update: 3, Delete: 1, Unchanged: 14, Kept: 3},
		Steps: []catalog.Step{
			{Action: catalog.ActionCreate, Kind: "projects", Name: "acme/search", Fields: []catalog.Difference{
				{Field: "name", After: raw(`"acme/search"`)},
				{Field: "budgets", After: raw(`[{"limit":"40","window":"day","action":"block"}]`)},
			}},
			{Action: catalog.ActionUpdate, Kind: catalog.KindProvider, Name: "openai-main", Fields: []catalog.Difference{
				{Field: "api_key", Changed: true},
				{Field: "models", Before: raw(`["gpt-4o","o3"]`), After: raw(`["gpt-4o","gpt-4.1-mini"]`)},
			}},
			{Action: catalog.ActionUpdate, Kind: catalog.KindModel, Name: "default.gpt-4.1", Fields: []catalog.Difference{
				{Field: "cache_read_price", Before: raw(`null`), After: raw(`"0.5"`)},
				{Field: "supports_tool_choice", Before: raw(`false`), After: raw(`true`)},
			}},
			{Action: catalog.Unchanged, Kind: catalog.KindModel, Name: "default.o3"},
			{Action: catalog.ActionCreate, Kind: catalog.KindBinding, Name: "default.a b default pool-a",
				Fields: []catalog.Difference{
					{Field: "model", After: raw(`"a b"`)}, {Field: "weight", After: raw(`3`)},
				}},
			{Action: catalog.ActionUpdate, Kind: catalog.KindKey, Name: "爱丽丝", Fields: []catalog.Difference{
				{Field: "scopes", Before: raw(`["a","b"]`), After: raw(`["b","a"]`)},
			}},
			{Action: catalog.ActionCreate, Kind: catalog.KindKey, Name: "机器人\x1b[31m", Fields: []catalog.Difference{
				{Field: "external_id", After: raw(`"` + strings.Repeat("x", 60) + `"`)}, {Field: "group", After: raw(`"vip"`)},
			}, Notes: []string{"gets a new token"}},
			{Action: catalog.ActionDelete, Kind: catalog.KindBinding, Name: "default.gpt-4o default pool-a"},
		},
		Kept: []catalog.Kept{
			{Kind: catalog.KindProvider, Name: "legacy", Reason: "owner=ops: left alone"},
			{Kind: catalog.KindProvider, Name: "供应商", Reason: "no owner: left alone"},
		},
		Warnings: []catalog.Warning{{Field: "input_price", Message: "is below 0.0001 USD per million tokens"}},
	}
}

func TestPlanText(t *testing.T) {
	golden(t, "plan.txt", planText("gateway.yaml against revision 1841, owner platform", samplePlan(), false, style{}))
	golden(t, "plan-color.txt", planText("gateway.yaml", samplePlan(), false, style{color: true}))
	golden(t, "plan-empty.txt", planText("gateway.yaml", catalog.Plan{Summary: catalog.Summary{Unchanged: 21}}, false,
		style{}))
}

// What others own is not what a plan is about: a few stand for all, unless all are asked for.
func TestPlanTextOfWhatOthersOwn(t *testing.T) {
	plan := catalog.Plan{Kept: []catalog.Kept{{Kind: catalog.KindKey, Name: "safe", Reason: "is protected"}}}
	for range 20 {
		plan.Kept = append(plan.Kept, catalog.Kept{Kind: catalog.KindKey, Name: "k", Reason: "owner=o: left alone"})
	}
	plan.Summary.Kept = 1000
	text := planText("", plan, false, style{})
	if strings.Count(text, "owner=o") != maxOthers || !strings.Contains(text, "is protected") ||
		!strings.Contains(text, "! 996 more belong to others: left alone; --all lists them") {
		t.Errorf("%s", text)
	}
	if text := planText("", plan, true, style{}); strings.Count(text, "owner=o") != 20 ||
		!strings.Contains(text, "! 979 more belong to others") {
		t.Errorf("all: %s", text)
	}
}

// What stays because a file does not name it is told.
func TestPlanTextOfWhatStays(t *testing.T) {
	var plan catalog.Plan
	for range 5 {
		plan.Steps = append(plan.Steps, catalog.Step{Action: catalog.Unchanged, Kind: catalog.KindKey, Name: "k",
			Notes: []string{"stays disabled, because status is not named"}}, catalog.Step{Action: catalog.Unchanged})
	}
	text := planText("", plan, false, style{})
	if strings.Count(text, "! key       k") != maxOthers || !strings.Contains(text, "! 2 more stay as they are, too") {
		t.Errorf("%s", text)
	}
	if text := planText("", plan, true, style{}); strings.Count(text, "stays disabled") != 5 {
		t.Errorf("all: %s", text)
	}
}

// A plan of many changes is cut, unless all of it is asked for.
func TestPlanTextIsCut(t *testing.T) {
	var plan catalog.Plan
	for range 700 {
		plan.Steps = append(plan.Steps, catalog.Step{Action: catalog.ActionDelete, Kind: catalog.KindKey, Name: "k"})
	}
	plan.Summary.Delete = 700
	if text := planText("", plan, false, style{}); !strings.Contains(text, "… and 200 more; --all shows every change") ||
		strings.Count(text, "- key") != maxSteps {
		t.Errorf("%d lines", strings.Count(text, "\n"))
	}
	if text := planText("", plan, true, style{}); strings.Count(text, "- key") != 700 {
		t.Errorf("%d lines of all", strings.Count(text, "\n"))
	}
}
