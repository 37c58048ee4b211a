// Package lint checks the form of all Go code of the project, of both modules:
// gofmt, go vet, staticcheck and the length of lines. It has tests only.
package lint
