// Package clients holds the test that generated clients work: it makes them of the
// OpenAPI document, compiles small programs that use them, and runs those against a
// server. The generators are openapi-typescript and @hey-api/openapi-ts, which npm
// installs, and oapi-codegen, which comes from the Go module proxy.
package clients
