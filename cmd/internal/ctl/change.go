package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
	"github.com/ez-api/ez-api/httpapi/client"
)

// writing are the flags of commands that write one resource.
type writing struct {
	Wait    string        `enum:",published,applied" default:"" help:"Wait until it is published, or applied by all balancers."`
	Timeout time.Duration `default:"10s" help:"How long to wait at most."`
}

const maxWait = time.Minute // that the server waits

// write calls a write, tells its warnings, and says when it did not come as far as it should.
func (w *writing) write(a *app, call func(opts ...client.WriteOption) error) error {
	var warnings []string
	var progress client.Progress
	opts := []client.WriteOption{client.Warnings(&warnings)}
	if w.Wait != "" {
		opts = append(opts, client.Wait(client.Stage(w.Wait), min(w.Timeout, maxWait), &progress))
	}
	if err := call(opts...); err != nil {
		return err
	}
	for _, text := range warnings {
		a.note("warning: %s", printable(text))
	}
	if w.Wait != "" && !reached(progress, client.Stage(w.Wait)) {
		return &codeError{exitPending, fmt.Errorf("done, but not %s everywhere within %s (%s)", w.Wait, w.Timeout,
			progressText(progress))}
	}
	return nil
}

// reached reports whether a write came as far as was waited for. Without any balancer it is
// applied once it is published.
func reached(p client.Progress, stage client.Stage) bool {
	return p.Stage == client.Applied || p.Stage == stage ||
		p.Stage == client.Published && strings.HasPrefix(p.Nodes, "applied=0 lagging=0 ")
}

func progressText(p client.Progress) string {
	if p.Nodes == "" {
		return string(p.Stage)
	}
	return string(p.Stage) + ", " + p.Nodes
}

type createCommand struct {
	printing
	writing
	Kind      string   `arg:"" predictor:"kind" help:"Kind of the resource: provider, model, binding, key, …"`
	Fields    []string `arg:"" optional:"" name:"field=value" help:"Fields; a value is YAML, such as models=[a,b] or 'api_key=!env NAME'."`
	File      string   `short:"f" type:"path" help:"File with the fields, in YAML or JSON; - is standard input."`
	TokensOut string   `placeholder:"FILE" help:"Write the token of a new key to a file, which must not exist."`
	Literals  bool     `name:"allow-literal-secrets" help:"Allow secrets that stand in the file or on the command line."`
}

// Run creates a resource.
func (c *createCommand) Run(ctx context.Context, a *app) (err error) {
	of, err := a.objects(c.Kind)
	if err != nil {
		return err
	}
	object, err := c.fields(a, of.Kind())
	if err != nil {
		return err
	}
	out, err := c.token(a, of.Kind(), object)
	if out != nil {
		defer func() { out.finish(err) }()
	}
	if err != nil {
		return err
	}
	text, err := manifest.Item{Fields: object}.Object()
	if err != nil {
		return err
	}
	var made client.Object
	err = c.write(a, func(opts ...client.WriteOption) (err error) {
		made, err = of.Create(ctx, text, opts...)
		return err
	})
	if made == nil {
		return err
	}
	shown, parseErr := parseFields(made)
	if parseErr != nil {
		return parseErr
	}
	if token, ok := shown["token"].(string); ok && out != nil { // the server has made it
		delete(shown, "token")
		name, _ := shown["name"].(string)
		err = errors.Join(err, out.write("", name, token), out.flush())
	}
	return errors.Join(err, a.printObject(of.Kind(), shown))
}

// token makes the token of a new key, and writes it where it is to be kept. That of an operator
// is made by the server. It returns where tokens go; nil where there are none.
func (c *createCommand) token(a *app, kind catalog.Kind, object fields) (out *tokens, err error) {
	if !kind.HasTokens() || object["token"] != nil || object["token_hashes"] != nil {
		return nil, nil
	}
	if out, err = a.newTokens(c.TokensOut); err != nil || !needsToken(kind, object) {
		return out, err
	}
	name, _ := object["name"].(string)
	externalID, _ := object["external_id"].(string)
	hash, err := out.issue(externalID, name)
	if err == nil {
		object["token_hashes"] = []any{hash}
		err = out.flush()
	}
	return out, err
}

// needsToken reports whether a resource is a key that brings no token.
func needsToken(kind catalog.Kind, object fields) bool {
	return kind == catalog.KindKey && object["token"] == nil && object["token_hashes"] == nil
}

// fields reads the fields of a file and of arguments.
func (c *createCommand) fields(a *app, kind catalog.Kind) (fields, error) {
	opts := &manifest.Options{Literals: c.Literals, Env: a.env, Stdin: a.stdin}
	object := fields{}
	if c.File != "" {
		fromFile, err := manifest.ReadFields(kind, c.File, opts)
		if err != nil {
			return nil, err
		}
		object = fromFile
	}
	fromArgs, err := manifest.ParseFields(kind, c.Fields, opts)
	if err != nil {
		return nil, err
	}
	for name, v := range fromArgs {
		object[name] = v
	}
	if len(object) == 0 {
		return nil, errors.New("needs fields: FIELD=VALUE …, or --file")
	}
	return object, nil
}

type editCommand struct {
	printing
	writing
	Kind     string   `arg:"" predictor:"kind" help:"Kind of the resource."`
	Name     string   `arg:"" help:"Its id, external_id or name."`
	Fields   []string `arg:"" optional:"" name:"field=value" help:"Fields to change; null restores the default. Without any, an editor opens."`
	Cascade  bool     `help:"When a model is renamed, change the allow-lists that name it."`
	Literals bool     `name:"allow-literal-secrets" help:"Allow secrets on the command line or in the editor."`
}

// Run changes a resource.
func (c *editCommand) Run(ctx context.Context, a *app) error {
	of, err := a.objects(c.Kind)
	if err != nil {
		return err
	}
	before, err := find(ctx, of, c.Name)
	if err != nil {
		return err
	}
	opts := &manifest.Options{Literals: c.Literals, Env: a.env, Stdin: a.stdin}
	var patch fields
	if len(c.Fields) > 0 {
		patch, err = manifest.ParseFields(of.Kind(), c.Fields, opts)
	} else {
		patch, err = a.editPatch(ctx, of.Kind(), before, opts)
	}
	if err != nil {
		return err
	}
	if len(patch) == 0 {
		a.note("nothing was changed")
		return nil
	}
	text, err := manifest.Item{Fields: patch}.Object()
	if err != nil {
		return err
	}
	var made client.Object
	err = c.write(a, func(opts ...client.WriteOption) (err error) {
		opts = append(opts, client.IfMatch(revisionOf(before)))
		if c.Cascade {
			opts = append(opts, client.Cascade())
		}
		made, err = of.Patch(ctx, idOf(before), text, opts...)
		return err
	})
	if made == nil {
		return err
	}
	shown, parseErr := parseFields(made)
	if parseErr != nil {
		return parseErr
	}
	return errors.Join(err, a.printObject(of.Kind(), shown))
}

// editPatch opens an editor with the fields of a resource, and returns what was changed there.
func (a *app) editPatch(ctx context.Context, kind catalog.Kind, object fields, opts *manifest.Options) (fields, error) {
	f, err := os.CreateTemp("", "ezctl-*.yaml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	before := manifest.Tidy(kind, object)
	delete(before, "id")
	var text bytes.Buffer
	fmt.Fprintf(&text, "# %s %d. Save to change it; a field that is removed gets its default.\n", kind.Noun(),
		idOf(object))
	if err := manifest.WriteYAML(&text, manifest.Node(kind, before)); err != nil {
		return nil, err
	}
	if _, err := f.Write(text.Bytes()); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := a.runEditor(ctx, f.Name()); err != nil {
		return nil, err
	}
	after, err := manifest.ReadFields(kind, f.Name(), opts)
	if err != nil {
		return nil, err
	}
	return difference(before, after), nil
}

// difference returns the merge patch (RFC 7396) that makes after of before.
func difference(before, after fields) fields {
	patch := fields{}
	for name := range before {
		if _, kept := after[name]; !kept {
			patch[name] = nil
		}
	}
	for name, v := range after {
		was, known := before[name]
		inner, isObject := v.(map[string]any)
		innerWas, wasObject := was.(map[string]any)
		switch {
		case known && reflect.DeepEqual(was, v):
		case isObject && wasObject:
			patch[name] = difference(innerWas, inner)
		default:
			patch[name] = v
		}
	}
	return patch
}

// runEditor opens a file in the editor of the environment.
func (a *app) runEditor(ctx context.Context, file string) error {
	editor := a.getenv("VISUAL")
	if editor == "" {
		editor = a.getenv("EDITOR")
	}
	words := strings.Fields(editor)
	if len(words) == 0 {
		return errors.New("name an editor in EDITOR, or the fields to change as FIELD=VALUE")
	}
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], file)...) //nolint:gosec // it is the user's own editor
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the editor failed, and nothing was changed: %w", err)
	}
	return nil
}

type deleteCommand struct {
	writing
	Kind    string   `arg:"" predictor:"kind" help:"Kind of the resources."`
	Names   []string `arg:"" name:"name" help:"Their ids, external_ids or names."`
	Cascade bool     `help:"Take a model out of the allow-lists that name it."`
}

// Run deletes resources, one after the other.
func (c *deleteCommand) Run(ctx context.Context, a *app) error {
	of, err := a.objects(c.Kind)
	if err != nil {
		return err
	}
	for _, name := range c.Names {
		object, err := find(ctx, of, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		err = c.write(a, func(opts ...client.WriteOption) error {
			if c.Cascade {
				opts = append(opts, client.Cascade())
			}
			return of.Delete(ctx, idOf(object), opts...)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		a.say("%s %d deleted", of.Kind().Noun(), idOf(object))
	}
	return nil
}

type rotateCommand struct {
	writing
	Kind      string        `arg:"" predictor:"kind" help:"Kind of the resource: key or operator."`
	Name      string        `arg:"" help:"Its id, external_id or name."`
	Grace     time.Duration `help:"How long the tokens that it has stay valid."`
	TokensOut string        `placeholder:"FILE" help:"Write the new token to a file, which must not exist; - is standard output."`
}

// Run gives a key a new token, which the server makes.
func (c *rotateCommand) Run(ctx context.Context, a *app) (err error) {
	of, err := a.objects(c.Kind)
	if err != nil {
		return err
	}
	if !of.Kind().HasTokens() {
		return fmt.Errorf("a %s has no token that could be rotated: only keys and operators have", of.Kind().Noun())
	}
	object, err := find(ctx, of, c.Name)
	if err != nil {
		return err
	}
	out, err := a.newTokens(c.TokensOut)
	if err != nil {
		return err
	}
	defer func() { out.finish(err) }()
	var made client.Object
	err = c.write(a, func(opts ...client.WriteOption) (err error) {
		made, err = of.Rotate(ctx, idOf(object), c.Grace, opts...)
		return err
	})
	if made == nil {
		return err
	}
	var answer struct {
		ExternalID string `json:"external_id"`
		Name       string `json:"name"`
		Token      string `json:"token"`
	}
	if parseErr := json.Unmarshal(made, &answer); parseErr != nil {
		return errors.New("the key has a new token, and the answer that has it cannot be read: rotate it again")
	}
	return errors.Join(err, out.write(answer.ExternalID, answer.Name, answer.Token), out.flush())
}

type lookupCommand struct {
	printing
	File string `arg:"" optional:"" help:"File that holds the token; standard input by default."`
}

// Run finds the key that a token belongs to. A token is no argument, because others can see those.
func (c *lookupCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	r := a.stdin
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return errors.New("the file cannot be opened")
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, maxToken+1))
	token := strings.TrimSpace(string(text))
	if err != nil || token == "" || len(token) > maxToken {
		return errors.New("needs a token, on standard input or in a file")
	}
	key, err := api.Keys.Lookup(ctx, catalog.NewSecret(token))
	if errors.Is(err, catalog.ErrNotFound) {
		return errors.New("no key has this token")
	}
	if err != nil {
		return err
	}
	object, err := get(ctx, api.Objects(catalog.KindKey), key.ID)
	if err != nil {
		return err
	}
	return a.printObject(catalog.KindKey, object)
}
