package ctl

import (
	"fmt"

	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// reading are the arguments of commands that read files.
type reading struct {
	Files    []string `arg:"" name:"file" predictor:"file" help:"Files in YAML or JSON, or directories of such files; - is standard input."`
	Literals bool     `name:"allow-literal-secrets" help:"Allow secrets that stand in the files themselves."`
}

func (r *reading) read(a *app) (*manifest.Set, error) {
	return manifest.Read(r.Files, &manifest.Options{Literals: r.Literals, Env: a.env, Stdin: a.stdin})
}

type validateCommand struct {
	reading
	WithoutSecrets bool `help:"Read no variable and no file that secrets are named by."`
}

// Run checks files without a server: all but what only the catalog knows.
func (c *validateCommand) Run(a *app) error {
	set, err := manifest.Read(c.Files, &manifest.Options{
		Literals: c.Literals, WithoutSecrets: c.WithoutSecrets, Env: a.env, Stdin: a.stdin,
	})
	if err != nil {
		return err
	}
	for _, note := range set.Outside() {
		a.note("note: %v", note)
	}
	a.say("%d resources, and nothing wrong with them by themselves", set.Len())
	return nil
}

type schemaCommand struct{}

// Run prints the JSON Schema of files.
func (*schemaCommand) Run(a *app) error {
	text, err := manifest.Schema()
	if err == nil {
		_, err = fmt.Fprintf(a.stdout, "%s\n", text)
	}
	return err
}
