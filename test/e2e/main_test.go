package e2e_test

import (
	"os"
	"testing"

	"github.com/ez-api/ez-api/test/process"
)

func TestMain(m *testing.M) {
	os.Exit(process.Main(m,
		process.Program{Module: "../..", Package: "./cmd/server"},
		process.Program{Module: "../..", Package: "./cmd/ezctl"},
		process.Program{Module: "../..", Package: "./examples/balancer"},
		process.Program{Module: "../..", Package: "./examples/mirror"},
		process.Program{Module: "..", Package: "./cmd/upstream"},
	))
}

// object is a JSON object.
type object = map[string]any
