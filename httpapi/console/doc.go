// Package console serves the pages on which people run a gateway in a browser: providers, models,
// keys, logs, usage, changes, and how far each change has come.
//
//	pages, err := console.New(plane, auth, nil)
//	mux.Handle("/console/", http.StripPrefix("/console", pages))
//
// It knows no rule of its own. Each page calls the documented HTTP API, within the process and
// without a socket, as the person who is signed in: roles, projects, preconditions, the audit trail
// and the messages about wrong fields are those of package httpapi. What a page shows of a noun
// (its fields, their bounds and what they mean) comes from the tags of the noun's Go type.
//
// Pages are made on the server, from html/template, one stylesheet and one script, which are part of
// the program. They work without the script. With it, lists and forms are updated in place.
//
// # Sessions
//
// A person signs in with a token, or through an identity provider (see [OIDC]). The session is a
// cookie that is sealed with AES-256-GCM; the server stores none. A session by token authenticates
// the token at each request, so a token that is revoked ends its sessions. A session ends after 30
// minutes without a request, and after 12 hours in any case. See [Options.Key] for several servers
// that serve the same people.
package console
