package httpapi

import "github.com/ez-api/ez-api/catalog"

// register says what there is: who may use it, where it is, its name in the
// OpenAPI document, what it does, and how.
func (h *Handler) register(opts *Options) {
	t := h.plane
	on(h, Viewer, "GET /providers", "listProviders", "List upstream providers", list[catalog.Provider, listProviders](t.Providers, asTheyAre))
	on(h, Admin, "POST /providers", "createProvider", "Add an upstream provider", create(h, t.Providers, same))
	on(h, Viewer, "GET /providers/{id}", "getProvider", "Show an upstream provider", get(t.Providers, asTheyAre))
	on(h, Admin, "PATCH /providers/{id}", "patchProvider", "Change an upstream provider", patch(h, t.Providers))
	on(h, Admin, "DELETE /providers/{id}", "deleteProvider", "Delete an upstream provider", remove(h, t.Providers))

	on(h, Viewer, "GET /models", "listModels", "List models", list[catalog.Model, listModels](t.Models, asTheyAre))
	on(h, Admin, "POST /models", "createModel", "Add a model", create(h, t.Models, same))
	on(h, Viewer, "GET /models/{id}", "getModel", "Show a model", get(t.Models, asTheyAre))
	on(h, Admin, "PATCH /models/{id}", "patchModel", "Change a model", patch(h, t.Models))
	on(h, Admin, "DELETE /models/{id}", "deleteModel", "Delete a model", remove(h, t.Models))

	on(h, Viewer, "GET /bindings", "listBindings", "List bindings of models to groups", list[catalog.Binding, listScoped](t.Bindings, asTheyAre))
	on(h, Admin, "POST /bindings", "createBinding", "Bind a model to groups", create(h, t.Bindings, same))
	on(h, Viewer, "GET /bindings/{id}", "getBinding", "Show a binding", get(t.Bindings, asTheyAre))
	on(h, Admin, "PATCH /bindings/{id}", "patchBinding", "Change a binding", patch(h, t.Bindings))
	on(h, Admin, "DELETE /bindings/{id}", "deleteBinding", "Delete a binding", remove(h, t.Bindings))

	on(h, Viewer, "GET /keys", "listKeys", "List client keys", list[catalog.Key, listScoped](t.Keys.Table, h.withUsage))
	on(h, Admin, "POST /keys", "createKey", "Add a client key; the answer alone holds its token", create(h, t.Keys.Table, withToken))
	on(h, Viewer, "GET /keys/{id}", "getKey", "Show a client key", get(t.Keys.Table, h.withUsage))
	on(h, Admin, "PATCH /keys/{id}", "patchKey", "Change a client key", patch(h, t.Keys.Table))
	on(h, Admin, "DELETE /keys/{id}", "deleteKey", "Delete a client key with all its tokens", remove(h, t.Keys.Table))
	on(h, Admin, "POST /keys/{id}/rotate", "rotateKey", "Give a client key a new token; the answer alone holds it", h.rotate)

	on(h, Admin, "POST /sync/snapshot", "resync", "Publish the whole catalog anew", h.resync)
	h.plain(Balancer, "GET /sync/snapshot", snapshotOperation(), h.snapshot)
	h.plain(Balancer, "GET /sync/deltas", deltasOperation(), h.deltas)
	on(h, Balancer, "POST /sync/nodes", "report", "Report what a balancer has applied", h.report)
	on(h, Viewer, "GET /sync/status", "syncStatus", "Show how far publishing and each balancer have come", h.syncStatus)
	on(h, Viewer, "GET /changes", "listChanges", "List changes of the catalog, oldest first", h.changes)
	on(h, Viewer, "GET /explain", "explain", "Explain why a key can or cannot reach a model", h.explain)

	h.plain(Balancer, "POST /logs", ingestOperation(), h.ingest)
	on(h, Viewer, "GET /logs", "listLogs", "List access logs, newest first", h.logs)
	on(h, Viewer, "GET /usage", "usage", "Sum up usage by time and groups", h.usage)

	on(h, open, "GET /healthz", "health", "Say that the process is alive", h.alive)
	on(h, open, "GET /readyz", "readiness", "Say what works", h.ready)
	on(h, open, "GET /openapi.json", "openapi", "This document", h.openapi)
	if opts.Metrics != nil {
		h.plain(Viewer, "GET /metrics", metricsOperation(), serve(opts.Metrics))
	}
}
