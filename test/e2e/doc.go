// Package e2e tests EZ-API from outside: built binaries as processes of their
// own, on real PostgreSQL and real Redis, over HTTP.
package e2e
