package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// A process is a server at work.
type process struct {
	url string
	cmd *exec.Cmd
	out *bytes.Buffer // what it says after its URL, readable once it has ended
	end chan struct{} // closed when it has
}

var urlPattern = regexp.MustCompile(`http://[^\s"]+`)

// start runs a program, and waits until it says its URL.
func start(ctx context.Context, env []string, command ...string) (*process, error) {
	//nolint:gosec // our own
	p := &process{cmd: exec.CommandContext(ctx, command[0], command[1:]...), out: &bytes.Buffer{},
		end: make(chan struct{})}
	p.cmd.Env = env
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = writer, writer
	err = p.cmd.Start()
	_ = writer.Close() // the process has it now
	if err != nil {
		return nil, err
	}
	said := make(chan string, 1)
	go func() {
		defer close(p.end)
		defer reader.Close() //nolint:errcheck // only read
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			if url := urlPattern.FindString(lines.Text()); url != "" {
				select {
				case said <- url:
				default:
				}
			}
			p.out.WriteString(lines.Text() + "\n")
		}
		_ = p.cmd.Wait() // who asks looks at ProcessState
	}()
	select {
	case p.url = <-said:
		return p, nil
	case <-p.end:
		return nil, fmt.Errorf("%s: %v\n%s", command[0], p.cmd.ProcessState, p.out)
	case <-time.After(time.Minute):
		p.kill()
		return nil, fmt.Errorf("%s does not say its URL\n%s", command[0], p.out)
	}
}

// kill ends it at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.end
}

// cpu returns the processor time it has taken.
func (p *process) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

// cpuOf returns the processor time that a process has taken; see proc(5).
func cpuOf(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ, 100 on Linux
}

// resident returns how many bytes of memory it takes now, and has taken at most.
func (p *process) resident() (now, peak int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return now, peak
}

// backendsCPU returns the processor time that the PostgreSQL processes which serve this database have taken, as
// far as they still run.
func (w *world) backendsCPU(ctx context.Context) (cpu time.Duration, err error) {
	rows, err := w.pool.Query(ctx, `select pid from pg_stat_activity
		where datname = current_database() and backend_type = 'client backend'`)
	if err != nil {
		return 0, err
	}
	var pid int
	_, err = pgx.ForEachRow(rows, []any{&pid}, func() error { cpu += cpuOf(pid); return nil })
	return cpu, err
}

// ownCPU returns the processor time this process has taken.
func ownCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail for oneself
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
