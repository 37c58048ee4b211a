// Package httpapi is the HTTP surface of a control plane: an http.Handler over a
// [github.com/ez-api/ez-api.Plane].
//
//	plane, err := ezapi.New(ezapi.Config{})
//	…
//	auth := httpapi.Tokens(httpapi.TokenList{Admin: []string{token}})
//	api := httpapi.New(plane, auth, nil)
//	server := &http.Server{Addr: "127.0.0.1:8080", Handler: api}
//	server.RegisterOnShutdown(api.Drain)
//	err = server.ListenAndServe()
//
// It can be mounted under a prefix in another server, because all its links are relative:
//
//	mux.Handle("/gateway/", http.StripPrefix("/gateway", api))
//
// An [Auth] of your own decides who a caller is:
//
//	auth := httpapi.AuthFunc(func(r *http.Request) (httpapi.Caller, error) {
//		user, ok := session(r)
//		if !ok {
//			return httpapi.Caller{}, httpapi.ErrUnauthenticated
//		}
//		return httpapi.Caller{Role: httpapi.Viewer, Actor: user.Name}, nil
//	})
//
// GET /openapi.json describes every route. Errors are problem documents (RFC 9457),
// which never repeat a value of the request. docs/http-api.md explains the API to people.
//
// # Where things are
//
// A request passes through these files, in this order:
//
//   - httpapi.go builds the [Handler]; exchange.go is one request and its answer. The package
//     internal/outbox holds what is written until the handler has ended, and then sends it to clients
//     that may be slow; internal/room bounds what is held for slow clients, here and in inbox.go.
//   - routes.go lists every route. operation.go registers them, and is what each request
//     enters through: auth.go and throttle.go ask who it is, query.go checks its query.
//   - nouns.go serves the six operations that every noun has, keys.go what keys have besides.
//     The package internal/request reads ids, pages, preconditions, waits and bodies.
//   - follow.go waits until a write is published or applied, with shared.go; warnings.go
//     says what should be known about a write.
//   - sync.go and distribute.go are what balancers and people ask about publishing,
//     changes.go shows the feed, explain.go explains a route.
//   - ingest.go takes access logs, logs.go and usage.go answer questions about them, and
//     reprice.go computes their costs anew.
//   - alerts.go shows what people were told of, and budgets.go what was spent of budgets.
//   - health.go says what works.
//   - problems.go has the table of all problems, and from errors to them; problem.go
//     writes them.
//
// The OpenAPI document comes from the code: document.go builds it, details.go has what
// routes.go says of an operation, and schema.go derives the schemas of bodies. The
// descriptions and bounds of fields are tags beside the fields.
//
// A new field of a noun needs no change here: its tags in package catalog say what it is.
// A new noun needs a line in routes.go. A new route needs a line in routes.go, a function, and a
// thought in reach.go: what callers get who are limited to a project. A new error needs a line in
// problems.go.
package httpapi
