package ctl

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	"github.com/posener/complete"
	"github.com/willabides/kongplete"

	"github.com/ez-api/ez-api/catalog"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Shell: bash, zsh or fish."`
}

// Run prints what a shell has to read, from its start-up file for example, so that it asks
// ezctl for completions.
func (c *completionCommand) Run(a *app) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	switch c.Shell {
	case "bash":
		_, err = fmt.Fprintf(a.stdout, "complete -C %q ezctl\n", program)
	case "zsh":
		_, err = fmt.Fprintf(a.stdout, "autoload -U +X bashcompinit && bashcompinit\ncomplete -C %q ezctl\n", program)
	case "fish":
		_, err = fmt.Fprintf(a.stdout, `function __complete_ezctl
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    %q
end
complete -f -c ezctl -a "(__complete_ezctl)"
`, program)
	}
	return err
}

// complete answers a shell that asks for completions, which it says in COMP_LINE.
func (a *app) complete(parser *kong.Kong) bool {
	if a.getenv("COMP_LINE") == "" {
		return false
	}
	var kinds []string
	for _, k := range catalog.Kinds() {
		kinds = append(kinds, string(k), k.Noun())
	}
	kongplete.Complete(parser, kongplete.WithPredictor("kind", complete.PredictSet(kinds...)),
		kongplete.WithPredictor("file", complete.PredictFiles("*")), kongplete.WithExitFunc(func(int) {}))
	return true
}
