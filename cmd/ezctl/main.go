// Command ezctl is the command line of EZ-API. It talks to a server's HTTP API; see
// `ezctl --help`.
package main

import (
	"os"

	"github.com/ez-api/ez-api/cmd/internal/ctl"
)

func main() { os.Exit(ctl.Main()) }
