package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/mattn/go-isatty"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// app is what commands have at hand.
type app struct {
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer
	env      func(string) (string, bool)
	url      string
	output   string
	style    style
	progress *progress
}

func newApp(s Streams) *app {
	a := &app{stdin: s.In, stdout: s.Out, stderr: s.Err, env: s.Env, output: "table"}
	a.style = style{color: isTerminal(s.Out) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"}
	a.progress = &progress{w: s.Err, live: isTerminal(s.Err)}
	return a
}

// printing is the flag of commands that print what they find.
type printing struct {
	Output string `short:"o" enum:"table,json,yaml" default:"table" help:"Form of the output: table, json or yaml."`
}

// AfterApply says in which form the command prints.
func (p *printing) AfterApply(a *app) error {
	a.output = p.Output
	return nil
}

func (a *app) getenv(name string) string {
	v, _ := a.env(name)
	return v
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

const (
	defaultURL = "http://127.0.0.1:8080"
	maxToken   = 4096 // bytes of a file with a token
)

// client returns a client of the server that the environment names.
func (a *app) client() (*client.Client, error) {
	address := a.url
	if address == "" {
		address = a.getenv("EZ_URL")
	}
	if address == "" {
		address = defaultURL
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	c, err := client.New(address, token, &client.Options{UserAgent: "ezctl"})
	if f, ok := errors.AsType[*catalog.FieldError](err); ok {
		return nil, fmt.Errorf("%s %s", map[string]string{"url": "EZ_URL", "token": "EZ_TOKEN"}[f.Field], f.Message)
	}
	return c, err
}

func (a *app) token() (string, error) {
	token, file := a.getenv("EZ_TOKEN"), a.getenv("EZ_TOKEN_FILE")
	switch {
	case token != "" && file != "":
		return "", errors.New("EZ_TOKEN and EZ_TOKEN_FILE must not be set both")
	case token != "":
		return token, nil
	case file == "":
		return "", errors.New("EZ_TOKEN or EZ_TOKEN_FILE must be set to a token of the server")
	}
	f, err := os.Open(file)
	if err != nil {
		return "", errors.New("EZ_TOKEN_FILE names a file that cannot be opened")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	text = bytes.TrimSpace(text)
	if err != nil || len(text) == 0 || len(text) > maxToken {
		return "", errors.New("EZ_TOKEN_FILE must name a file that holds a token")
	}
	return string(text), nil
}

// errorText says in words for people what went wrong.
func (a *app) errorText(err error) string {
	problem, ok := errors.AsType[*client.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case !ok:
		if e, ok := errors.AsType[*url.Error](err); ok {
			return fmt.Sprintf("%s cannot be reached: %s", hostOf(e.URL), networkReason(e.Err))
		}
		return err.Error()
	case problem.Status == http.StatusUnauthorized:
		return "the server does not know the token in EZ_TOKEN or EZ_TOKEN_FILE"
	}
	text := problem.Title
	if len(problem.Fields) == 0 && problem.Detail != "" {
		text += ": " + problem.Detail
	}
	for _, f := range problem.Fields {
		text += "\n  " + f.Error()
	}
	if problem.Status >= http.StatusInternalServerError && problem.RequestID != "" {
		text += "\n  the server's log has it as request " + problem.RequestID
	}
	return text
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the server"
	}
	return u.Scheme + "://" + u.Host
}

// networkReason leaves out the addresses that the error repeats.
func networkReason(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// isRefusal reports whether the server refuses because of what there is, not because of what
// was asked.
func isRefusal(err error) bool {
	problem, ok := errors.AsType[*client.Error](err)
	return ok && (problem.Status == http.StatusConflict || problem.Status == http.StatusPreconditionFailed)
}

// refused makes an error with the exit code for what is refused.
func refused(format string, args ...any) error {
	return &codeError{exitRefused, fmt.Errorf(format, args...)}
}

// say prints a line for people: on standard output in a table, else on standard error, so that
// what programs read stays as it is.
func (a *app) say(format string, args ...any) {
	w := a.stdout
	if a.output != "table" {
		w = a.stderr
	}
	a.progress.clear()
	fmt.Fprintf(w, strings.TrimRight(format, "\n")+"\n", args...)
}

// note prints a line on standard error.
func (a *app) note(format string, args ...any) {
	a.progress.clear()
	fmt.Fprintf(a.stderr, format+"\n", args...)
}
