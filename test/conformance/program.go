package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// Program returns what starts a command as a reader. Its standard error is
// passed on to errors.
func Program(errs io.Writer, command ...string) Start {
	return func(ctx context.Context, c Config) (Reader, error) {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // that is what it is for
		cmd.Env = append(os.Environ(), "EZ_REDIS_ADDR="+c.Addr, "EZ_REDIS_PREFIX="+c.Prefix, "EZ_SYNC_KEYS="+c.SyncKeys,
			fmt.Sprintf("EZ_MAX_STALE=%g", c.MaxStale.Seconds()))
		cmd.Stderr = errs
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &program{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
	}
}

type program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (p *program) ask(question, answer any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	hung := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer hung.Stop()
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ask the reader: %w", err)
	}
	text, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the reader gives no answer: %w", err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("the reader answers %q: %w", text, err)
	}
	return nil
}

func (p *program) Position() (Serving, error) {
	var answer struct {
		Position *snapshot.Position      `json:"position"`
		Digest   map[catalog.Kind]string `json:"digest"`
		Outdated bool                    `json:"outdated"`
	}
	err := p.ask(map[string]string{"op": "position"}, &answer)
	if err != nil || answer.Position == nil {
		return Serving{}, err
	}
	return Serving{*answer.Position, answer.Digest, answer.Outdated}, nil
}

func (p *program) Get(kind catalog.Kind, key string) ([]byte, error) {
	var answer struct {
		Doc *string `json:"doc"`
	}
	err := p.ask(map[string]string{"op": "get", "kind": string(kind), "key": key}, &answer)
	if err != nil || answer.Doc == nil {
		return nil, err
	}
	return []byte(*answer.Doc), nil
}

func (p *program) Route(hash, model string) (r Route, err error) {
	err = p.ask(map[string]string{"op": "route", "key": hash, "model": model}, &r)
	return r, err
}

func (p *program) Pause() error  { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *program) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Stop ends the program, which should happen when its input does.
func (p *program) Stop() error {
	_ = p.Resume()
	closing := p.in.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		return errors.Join(closing, err)
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-ended
		return errors.New("the reader does not end when its input does")
	}
}
