// Command server is the reference server of EZ-API. With an empty environment
// it needs nothing else: `go run cmd/server/main.go`. See `-help` for its settings.
package main

import (
	"os"

	"github.com/ez-api/ez-api/cmd/internal/server"
)

func main() { os.Exit(server.Main()) }
