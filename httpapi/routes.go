package httpapi

import "github.com/ez-api/ez-api/httpapi/internal/request"

// register says what there is: who may use it, where it is, its name in the OpenAPI
// document, what it does, and how. A noun has six operations: list, create, put, get,
// patch and delete; see serveNoun.
func (h *Handler) register(opts *Options) {
	t := h.plane
	serveNoun(plainNoun(h, t.Projects, "a project", "group", "namespace", "project"))
	serveNoun(plainNoun(h, t.Providers, "an upstream provider", "group"))
	serveNoun(plainNoun(h, t.Models, "a model", "namespace", "cascade"))
	serveNoun(plainNoun(h, t.Bindings, "a binding of a model to groups", "group", "namespace"))
	serveNoun(h.keys())
	serveNoun(h.operators())
	serveNoun(plainNoun(h, t.Holds, "a hold of a key, a project or a provider", "target", "reason"))
	handle(h, Admin, "POST /providers/{id}/test", "testProvider", "Ask a provider whether it works", h.testProvider,
		takes(optional(bodyOf("ProviderTesting", request.JSON))), fails(problemUntestable,
			problemTooSoon), explains(testText))
	handle(h, Admin, "GET /providers/{id}/upstream-models", "getUpstreamModels", "Ask a provider for its models",
		h.upstreamModels, fails(problemUntestable, problemTooSoon), explains(testText))
	handle(h, Viewer, "GET /health/providers", "getProvidersHealth", "Show how providers do, as balancers report it",
		h.providersHealth, fails(problemUnavailable))
	serveRotation(h, "a client key", t.Keys.Table, t.Keys.Rotate, withToken)
	serveRotation(h, "an operator", t.Operators.Table, t.Operators.Rotate, withOperatorToken)
	handle(h, Admin, "POST /keys/lookup", "lookupKey", "Find the client key that a token belongs to", h.lookUp,
		takes(bodyOf("Lookup", request.JSON)), fails(problemNotFound), explains("For a token that has leaked."))

	handle(h, Admin, "POST /apply", "applyState", "Bring the catalog into a desired state", h.apply,
		takes(bodyOf("DesiredState", request.JSON)), explains(applyText),
		fails(problemExists, problemReferenced, problemOwned, problemForce, problemPrecondition))
	h.plain(Admin, "GET /export", exportOperation(), h.export)
	handle(h, Admin, "POST /revert", "revertCatalog", "Return to how the catalog was", h.revert,
		takes(bodyOf("Reversion", request.JSON)), explains(revertText),
		fails(problemExists, problemReferenced, problemForce, problemPrecondition, problemCompacted))

	handle(h, Admin, "POST /sync/snapshot", "publishSnapshot", "Publish the whole catalog anew", h.resync,
		fails(problemForce, problemOutranked, problemConflict, problemUnavailable))
	h.plain(Balancer, "GET /sync/snapshot", snapshotOperation(), h.snapshot)
	h.plain(Balancer, "GET /sync/deltas", deltasOperation(), h.deltas)
	handle(h, Balancer, "POST /sync/nodes", "reportNode", "Report what a balancer has applied", h.report,
		takes(bodyOf("NodeReport", request.JSON)), fails(problemUnavailable))
	handle(h, Viewer, "GET /sync/status", "getSyncStatus", "Show how far publishing and balancers are", h.syncStatus,
		fails(problemUnavailable))
	handle(h, Viewer, "GET /changes", "listChanges", "List the changes of the catalog, oldest first", h.changes,
		fails(problemCompacted))
	handle(h, Viewer, "GET /explain", "explainRoute", "Explain why a key can or cannot reach a model", h.explain,
		fails(problemNotFound, problemConflict, problemUnpublished, problemUnavailable))

	h.plain(Balancer, "POST /logs", ingestOperation(), h.ingest)
	handle(h, Admin, "POST /logs/reprice", "repriceLogs", "Compute the costs of stored entries anew", h.reprice,
		takes(bodyOf("Reprice", request.JSON)), fails(problemNotFound, problemBusy, problemCompacted, problemUnavailable),
		explains("Entries and usage change together. A cost that is known is never replaced by none. "+
			"One run is at work at a time, and a run that was broken off can be repeated."))
	handle(h, Viewer, "GET /logs", "listLogs", "List access logs, newest first", h.logs,
		fails(problemNotFound, problemCrowded, problemUnavailable))
	handle(h, Viewer, "GET /usage", "getUsage", "Sum up usage by time and by groups", h.usage,
		fails(problemNotFound, problemCrowded, problemUnavailable))

	handle(h, Viewer, "GET /budgets", "listBudgets", "List budgets and what was spent of them", h.budgets,
		fails(problemUnavailable))
	handle(h, Viewer, "GET /alerts", "listAlerts", "List what people were told of, newest first", h.alerts,
		fails(problemNotFound, problemUnavailable))
	handle(h, Admin, "POST /alerts/test", "testAlert", "Try whether alerts arrive", h.testAlert,
		fails(problemNotFound, problemUnavailable),
		explains("An alert is raised and delivered at once. The answer says what became of it."))

	handle(h, everybody, "GET /healthz", "getHealth", "Say that the process is alive", h.alive)
	handle(h, everybody, "GET /readyz", "getReadiness", "Say what works", h.ready, answersUnready)
	handle(h, everybody, "GET /openapi.json", "getOpenAPI", "Show this document", h.openapi, answersDocument)
	if opts.Metrics != nil {
		h.plain(Viewer, "GET /metrics", metricsOperation(), serve(opts.Metrics))
	}
}
