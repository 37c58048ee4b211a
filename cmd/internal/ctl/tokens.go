package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// tokens writes new tokens to where they are to be kept, a line of JSON for each, before
// anything else knows of them.
type tokens struct {
	w    io.Writer
	file *os.File // nil: a terminal, or standard output
}

// newTokens opens what tokens are written to: a file, which must not exist, or standard
// output ("-"), or by default a terminal.
func (a *app) newTokens(path string) (*tokens, error) {
	switch {
	case path == "-" || path == "" && isTerminal(a.stdout):
		return &tokens{w: a.stdout}, nil
	case path == "":
		return nil, errors.New("makes new tokens, which nobody can read again later: name a file for them with --tokens-out")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errors.New("--tokens-out names a file that exists: it may hold tokens that are kept nowhere else")
	}
	if err != nil {
		return nil, fmt.Errorf("--tokens-out: %w", err)
	}
	return &tokens{w: f, file: f}, nil
}

// issue makes a token, writes it, and returns its hash.
func (t *tokens) issue(externalID, name string) (hash string, err error) {
	token := catalog.NewToken().Reveal()
	return catalog.HashToken(token), t.write(externalID, name, token)
}

func (t *tokens) write(externalID, name, token string) error {
	line, err := json.Marshal(struct {
		ExternalID string `json:"external_id,omitempty"`
		Name       string `json:"name"`
		Token      string `json:"token"`
	}{externalID, name, token})
	if err == nil {
		_, err = t.w.Write(append(line, '\n'))
	}
	return err
}

// flush returns once what was written is on the disk.
func (t *tokens) flush() error {
	if t.file == nil {
		return nil
	}
	return t.file.Sync()
}

// discard removes what was written: nobody knows the tokens.
func (t *tokens) discard() error {
	if t.file == nil {
		return nil
	}
	t.close()
	return os.Remove(t.file.Name())
}

// finish closes the file, and removes it when the server has surely not taken the tokens.
func (t *tokens) finish(err error) {
	problem, answered := errors.AsType[*client.Error](err)
	code, ended := errors.AsType[*codeError](err)
	if answered && problem.Status < http.StatusInternalServerError || ended && code.code == exitRefused {
		_ = t.discard()
		return
	}
	t.close()
}

func (t *tokens) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}
