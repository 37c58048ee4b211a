package ctl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/imports"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

type importCommand struct {
	NewAPI  importNewAPI  `cmd:"" name:"new-api" help:"From the New API exporter's JSON (1.0.0), or from a New API database in SQLite."`
	OneAPI  importOneAPI  `cmd:"" name:"one-api" help:"From a one-api database in SQLite."`
	LiteLLM importLiteLLM `cmd:"" name:"litellm" help:"From LiteLLM's config.yaml."`
}

// importing are the flags that imports have in common.
type importing struct {
	File       string `arg:"" type:"path" help:"What to read. It is not changed."`
	Out        string `short:"o" type:"path" placeholder:"FILE" help:"File to write, which must not exist; standard output by default."`
	Owner      string `help:"Owner of the new file."`
	SecretsDir string `type:"path" placeholder:"DIR" help:"Put each credential into a file of its own in this directory, so that none stands in the new file."`
}

const maxImport = 512 << 20 // bytes of a file that is imported

type importNewAPI struct {
	importing
	QuotaPerUSD int64 `name:"quota-per-usd" default:"500000" help:"How much quota is worth a US dollar there."`
}

// Run makes a file of New API's data.
func (c *importNewAPI) Run(ctx context.Context, a *app) error {
	opts := imports.Options{Owner: c.Owner, QuotaPerUSD: c.QuotaPerUSD}
	isDatabase, err := isSQLite(c.File)
	if err != nil {
		return err
	}
	if isDatabase {
		return c.finish(a)(imports.Database(ctx, c.File, opts))
	}
	text, err := readBounded(c.File)
	if err != nil {
		return err
	}
	return c.finish(a)(imports.NewAPI(text, opts))
}

type importOneAPI struct {
	importing
	QuotaPerUSD int64 `name:"quota-per-usd" default:"500000" help:"How much quota is worth a US dollar there."`
}

// Run makes a file of one-api's data.
func (c *importOneAPI) Run(ctx context.Context, a *app) error {
	return c.finish(a)(imports.Database(ctx, c.File, imports.Options{
		Owner: c.Owner, QuotaPerUSD: c.QuotaPerUSD, OneAPI: true,
	}))
}

type importLiteLLM struct{ importing }

// Run makes a file of LiteLLM's configuration.
func (c *importLiteLLM) Run(a *app) error {
	text, err := readBounded(c.File)
	if err != nil {
		return err
	}
	return c.finish(a)(imports.LiteLLM(text, c.Owner))
}

func isSQLite(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("%s cannot be opened", path)
	}
	defer f.Close()
	head := make([]byte, 16)
	n, _ := io.ReadFull(f, head)
	return bytes.Equal(head[:n], []byte("SQLite format 3\x00")), nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be opened", path)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxImport+1))
	if err == nil && len(text) > maxImport {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxImport>>20)
	}
	return text, err
}

// finish writes the file that an import has made, and tells what was not mapped.
func (c *importing) finish(a *app) func(*imports.Result, error) error {
	return func(r *imports.Result, err error) error {
		if err != nil {
			return fmt.Errorf("%s %w", c.File, err)
		}
		if err := c.checkOut(); err != nil {
			return err
		}
		secrets, literals, err := c.secrets(r.Set)
		if err != nil {
			return err
		}
		comments := []string{"Imported by ezctl from " + filepath.Base(c.File) + "."}
		if len(r.Notes) > 0 {
			comments = append(comments, "", "Not mapped, or not as it was:")
			for _, n := range r.Notes {
				comments = append(comments, "- "+n)
			}
		}
		if err := c.placeSecrets(secrets); err != nil {
			return err
		}
		if err := c.write(a, r.Set, append(comments, "")); err != nil {
			return errors.Join(err, removeFiles(secrets))
		}
		for _, n := range r.Notes {
			a.note("- %s", n)
		}
		for _, kind := range manifest.Kinds() {
			if items, ok := r.Set.Items[kind]; ok {
				a.note("%6d %s", len(items), kind)
			}
		}
		if literals > 0 {
			a.note("%d credentials stand in the file: keep it safe, and apply it with --allow-literal-secrets, "+
				"or import again with --secrets-dir.", literals)
		}
		return nil
	}
}

// write writes the file, readable for its owner only, because credentials may be in it.
func (c *importing) write(a *app, set *manifest.Set, comments []string) error {
	if c.Out == "" {
		return manifest.Write(a.stdout, set, comments, false)
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists; remove it, or name another file", c.Out)
	}
	if err != nil {
		return err
	}
	err = manifest.Write(f, set, comments, strings.HasSuffix(c.Out, ".json"))
	return errors.Join(err, f.Close())
}

// checkOut reports that the file to write exists, before anything is written.
func (c *importing) checkOut() error {
	if c.Out == "" {
		return nil
	}
	if _, err := os.Lstat(c.Out); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists; remove it, or name another file", c.Out)
	}
	return nil
}

// secretFile is a file for a credential.
type secretFile struct {
	path, text string
	isThere    bool // with this very text, from an import before
}

// secrets names the credentials by files, if there is a directory for them, and counts those that
// stay. It writes nothing.
func (c *importing) secrets(set *manifest.Set) (files []secretFile, literals int, err error) {
	names := map[string]bool{}
	for _, item := range set.Items[catalog.KindProvider] {
		secret, ok := item.Fields["api_key"].(catalog.Secret)
		if !ok {
			continue
		}
		if c.SecretsDir == "" {
			literals++
			continue
		}
		name := fileName(item.Text("external_id"), names)
		file := secretFile{path: filepath.Join(c.SecretsDir, name), text: secret.Reveal() + "\n"}
		switch text, err := os.ReadFile(file.path); {
		case err == nil && string(text) == file.text:
			file.isThere = true
		case !errors.Is(err, os.ErrNotExist):
			return nil, 0, fmt.Errorf("--secrets-dir has %s already, with something else in it; remove it, or name another "+
				"directory", name)
		}
		files = append(files, file)
		item.Fields["api_key"] = manifest.File(c.relative(file.path))
	}
	return files, literals, nil
}

// placeSecrets writes the credentials, all or none.
func (c *importing) placeSecrets(files []secretFile) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.SecretsDir, 0o700); err != nil {
		return err
	}
	for i, f := range files {
		if f.isThere {
			continue
		}
		if err := writeNew(f.path, f.text); err != nil {
			return errors.Join(fmt.Errorf("--secrets-dir: %w", err), removeFiles(files[:i]))
		}
	}
	return nil
}

// removeFiles removes the credentials that this import has written.
func removeFiles(files []secretFile) (err error) {
	for _, f := range files {
		if !f.isThere {
			err = errors.Join(err, os.Remove(f.path))
		}
	}
	return err
}

// relative returns a path as it is seen from the new file.
func (c *importing) relative(path string) string {
	from := "."
	if c.Out != "" {
		from = filepath.Dir(c.Out)
	}
	fromAbs, err1 := filepath.Abs(from)
	pathAbs, err2 := filepath.Abs(path)
	if err1 != nil || err2 != nil {
		return path
	}
	if relative, err := filepath.Rel(fromAbs, pathAbs); err == nil {
		return filepath.ToSlash(relative)
	}
	return pathAbs
}

// fileName turns an external id into the name of a file that no other has, also where case does not
// count.
func fileName(id string, taken map[string]bool) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r > 127 {
			return r
		}
		return '-'
	}, id)
	if key := catalog.FoldCase(name); taken[key] {
		sum := sha256.Sum256([]byte(id))
		name += "-" + hex.EncodeToString(sum[:4])
	}
	taken[catalog.FoldCase(name)] = true
	return name + ".key"
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
