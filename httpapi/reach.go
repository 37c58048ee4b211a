package httpapi

import (
	"context"

	"github.com/ez-api/ez-api/catalog"
)

// reach says what a route gives a caller who is limited to a project.
type reach int

const (
	reachNothing reach = iota // 403
	reachOwn                  // what is of the project and below it; see catalog.WithinProject and within
	reachAll                  // what everybody gets
)

// reachOf returns the reach of a route. A route that is not listed gives nothing, until somebody
// has decided what it may give. This function and [Handler.enter], which every request passes, keep
// projects apart. Only routes of reachOwn that show what is in no table have to filter by
// themselves: changes, logs, usage, budgets, alerts and explanations.
func reachOf(route string) reach {
	switch route {
	case "GET /projects", "POST /projects", "PUT /projects", "GET /projects/{id}", "PATCH /projects/{id}",
		"DELETE /projects/{id}",
		"GET /keys", "POST /keys", "PUT /keys", "GET /keys/{id}", "PATCH /keys/{id}", "DELETE /keys/{id}",
		"POST /keys/{id}/rotate", "POST /keys/lookup",
		"GET /holds", "POST /holds", "PUT /holds", "GET /holds/{id}", "PATCH /holds/{id}", "DELETE /holds/{id}",
		"GET /models", "GET /models/{id}", "GET /bindings", "GET /bindings/{id}",
		"GET /changes", "GET /explain", "GET /logs", "GET /usage", "GET /alerts",
		"GET /budgets":
		return reachOwn
	case "GET /healthz", "GET /readyz", "GET /openapi.json":
		return reachAll
	}
	return reachNothing
}

// nowhere is no path of a project, so nothing is of it.
const nowhere = "/"

// within returns the project whose logs or usage a caller is shown who asked for those of a project:
// the caller's own where none was asked for, and nowhere where another was.
func within(ctx context.Context, asked string) string {
	switch scope := catalog.ProjectOf(ctx); {
	case asked == "":
		return scope
	case !catalog.InProject(asked, scope):
		return nowhere
	}
	return asked
}
