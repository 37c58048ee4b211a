// Package ctl is the command line of EZ-API. It reads, sends and prints: what is decided
// is decided by the server.
//
// main.go runs a command line, app.go is what commands have at hand, and each subject has a file
// of its own. The files that people keep their catalog in are read by package manifest, those of other
// gateways by package imports, and price lists by package priceimport.
package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// The exit codes.
const (
	exitDone       = 0 // done, or no difference
	exitError      = 1
	exitDifference = 2 // there is a difference, and --exit-code asks for it
	exitPending    = 3 // done, but not applied by all balancers within --wait
	exitRefused    = 4 // the catalog is not as it has to be for this
)

// Main runs the program with its arguments and environment, and returns its exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from then on signals do what they do by default
	return Run(ctx, os.Args[1:], Streams{Env: os.LookupEnv, In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Streams is what a command line reads from and writes to.
type Streams struct {
	Env func(name string) (string, bool)
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// command is the grammar of the command line.
type command struct {
	URL string `short:"u" placeholder:"URL" help:"Address of the server ($EZ_URL; http://127.0.0.1:8080)."`

	Diff     diffCommand     `cmd:"" group:"files" help:"Show what sync would change."`
	Apply    applyCommand    `cmd:"" group:"files" help:"Create and change what files name."`
	Sync     syncCommand     `cmd:"" group:"files" help:"Do as apply, and delete what the owner owns and the files do not name."`
	Validate validateCommand `cmd:"" group:"files" help:"Check files without a server."`
	Schema   schemaCommand   `cmd:"" group:"files" help:"Print the JSON Schema of files, for editors."`
	Export   exportCommand   `cmd:"" group:"files" help:"Print the catalog as a file."`
	Adopt    adoptCommand    `cmd:"" group:"files" help:"Make the owner of files the owner of what they name."`
	Revert   revertCommand   `cmd:"" group:"files" help:"Bring the catalog back to a revision, or undo one."`
	Import   importCommand   `cmd:"" group:"files" help:"Make a file of what another gateway has."`
	Prices   pricesCommand   `cmd:"" group:"files" help:"Import prices of models."`

	Get    getCommand    `cmd:"" group:"resources" help:"Show resources."`
	Create createCommand `cmd:"" group:"resources" help:"Create a resource."`
	Edit   editCommand   `cmd:"" group:"resources" help:"Change a resource, in an editor or by FIELD=VALUE."`
	Delete deleteCommand `cmd:"" group:"resources" help:"Delete resources."`
	Rotate rotateCommand `cmd:"" group:"resources" help:"Give a key a new token."`
	Lookup lookupCommand `cmd:"" group:"resources" help:"Find the key that a token belongs to."`

	Explain explainCommand `cmd:"" group:"looking" help:"Say why a key can or cannot reach a model."`
	Test    testCommand    `cmd:"" group:"looking" help:"Ask a provider whether it works."`
	Health  healthCommand  `cmd:"" group:"looking" help:"Show how providers do, as balancers report it."`
	Logs    logsCommand    `cmd:"" group:"looking" help:"List or follow access logs."`
	Usage   usageCommand   `cmd:"" group:"looking" help:"Sum up usage."`
	Changes changesCommand `cmd:"" group:"looking" help:"List the changes of the catalog."`
	Budgets budgetsCommand `cmd:"" group:"looking" help:"List budgets and what was spent of them."`
	Alerts  alertsCommand  `cmd:"" group:"looking" help:"List what people were told of, or try whether alerts arrive."`
	Status  statusCommand  `cmd:"" group:"looking" help:"Show how far publishing and the balancers are."`

	Completion completionCommand `cmd:"" group:"shell" help:"Print the code that completes commands in a shell."`
}

const description = `The command line of EZ-API.

The server is named by --url or $EZ_URL, and the token for it by $EZ_TOKEN or, as a file, by $EZ_TOKEN_FILE.

Exit codes: 0 done, or no difference; 1 error; 2 there is a difference (with --exit-code); 3 done, but not applied by
all balancers within --wait; 4 refused, because the catalog is not as it has to be.`

// exit is panicked with by kong where it would end the process.
type exit int

// Run runs a command line and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) (code int) {
	defer func() {
		if e := recover(); e != nil {
			c, ok := e.(exit)
			if !ok {
				panic(e)
			}
			code = int(c)
		}
	}()
	var cmd command
	a := newApp(s)
	parser, err := newParser(&cmd, a)
	if err != nil {
		fmt.Fprintln(s.Err, "ezctl:", err)
		return exitError
	}
	if a.complete(parser) {
		return exitDone
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(s.Err, "ezctl: %v\nSee ezctl --help.\n", err)
		return exitError
	}
	a.url = cmd.URL
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run()
	a.progress.clear()
	return a.report(err)
}

func newParser(cmd *command, a *app) (*kong.Kong, error) {
	return kong.New(cmd, kong.Name("ezctl"), kong.Description(description), kong.UsageOnError(),
		kong.Bind(a), kong.Writers(a.stdout, a.stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "files", Title: "Configuration in files:"},
			{Key: "resources", Title: "Single resources:"},
			{Key: "looking", Title: "Looking:"},
			{Key: "shell", Title: "Shell:"},
		}))
}

// report says what went wrong, and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitDone
	}
	code, silent := exitCode(err)
	if !silent {
		for line := range strings.Lines(a.errorText(err)) {
			fmt.Fprint(a.stderr, "ezctl: ", strings.TrimRight(line, "\n"), "\n")
		}
	}
	return code
}

// codeError is an error with an exit code of its own. Without a message nothing is said.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// exitCode returns the exit code of an error, and whether it is nothing to be told.
func exitCode(err error) (code int, silent bool) {
	if e, ok := errors.AsType[*codeError](err); ok {
		return e.code, e.err == nil
	}
	if isRefusal(err) {
		return exitRefused, false
	}
	return exitError, false
}
