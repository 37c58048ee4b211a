package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

// options say how long it takes, and what chance does.
type options struct {
	time time.Duration
	seed uint64
}

// quiet is how long the town is used before it is broken, and again after it was.
func (o options) quiet() time.Duration { return max(5*time.Second, o.time/10) }

func main() {
	var o options
	flag.DurationVar(&o.time, "for", 30*time.Second, "how long the town is broken")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what happens when")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, o))
}

// run builds the programs, soaks, and returns the exit code.
func run(ctx context.Context, o options) int {
	clean, err := process.Build(programs("..")...)
	defer clean()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	t := &trial{ctx: ctx}
	t.do(func() { soak(t, o) })
	t.end()
	if t.failed.Load() {
		return 1
	}
	fmt.Println("nothing was lost")
	return 0
}

// programs are what the town is made of, seen from a directory of the module test.
func programs(root string) []process.Program {
	return []process.Program{
		{Module: root, Package: "./cmd/server", Tags: "ezapi_testclock"},
		{Module: root, Package: "./examples/balancer"},
		{Module: root, Package: "./examples/mirror"},
		{Module: root + "/test", Package: "./cmd/upstream"},
	}
}

// soak is the whole: it builds a town, breaks it while it is used, heals it and audits it.
func soak(t process.T, o options) {
	t.Helper()
	begin := time.Now()
	town := newTown(t)
	t.Logf("the town is up after %s, seed %d", time.Since(begin).Round(time.Millisecond), o.seed)
	load, chaos := newLoad(town), newChaos(town, o.seed)
	// The spared are measured once they are warm: all that they take from then on counts.
	warm, stop := context.WithTimeout(t.Context(), o.quiet())
	defer stop()
	load.run(warm)
	young := footprints(town, func(m *member) bool { return m.spared })
	ctx, stop := context.WithTimeout(t.Context(), o.time)
	defer stop()
	var working sync.WaitGroup
	working.Go(func() { load.run(ctx) })
	working.Go(func() { chaos.run(ctx) })
	working.Wait()
	chaos.heal()
	t.Logf("%s", chaos)
	town.settled(2 * time.Minute)
	drained(town)

	everybody := func(*member) bool { return true }
	before := footprints(town, everybody)
	quiet, stop := context.WithTimeout(t.Context(), o.quiet())
	defer stop()
	load.run(quiet)
	drained(town)
	after := footprints(town, everybody)
	auditLeaks(town, "while nothing is broken", before, after)
	auditLeaks(town, "over the whole time", young, after)
	t.Logf("%s", load)
	audit(town, load)
}

// A trial is a process.T outside of tests.
type trial struct {
	ctx    context.Context
	failed atomic.Bool

	mu       sync.Mutex
	cleanups []func()
}

var errEnded = errors.New("the trial has ended")

// do runs fn until it returns or calls Fatal.
func (t *trial) do(fn func()) {
	defer func() {
		if r := recover(); r != nil && r != errEnded {
			panic(r)
		}
	}()
	fn()
}

// end cleans up, the last first.
func (t *trial) end() {
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		clean := t.cleanups[n-1]
		t.cleanups = slices.Delete(t.cleanups, n-1, n)
		t.mu.Unlock()
		clean()
	}
}

func (t *trial) Helper()                  {}
func (t *trial) Context() context.Context { return t.ctx }
func (t *trial) Failed() bool             { return t.failed.Load() }

func (t *trial) Cleanup(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, fn)
}

func (t *trial) TempDir() string {
	dir, err := os.MkdirTemp("", "ezapi-soak")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *trial) Logf(format string, args ...any) {
	fmt.Println(time.Now().UTC().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func (t *trial) Errorf(format string, args ...any) {
	t.failed.Store(true)
	t.Logf("FAIL: "+format, args...)
}

func (t *trial) Error(args ...any) { t.Errorf("%s", fmt.Sprint(args...)) }
func (t *trial) Skip(args ...any)  { t.Fatal(args...) } // what cannot be done is not passed over here

func (t *trial) Fatal(args ...any) {
	t.Error(args...)
	panic(errEnded)
}

func (t *trial) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }
