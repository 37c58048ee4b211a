package logbuf_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// victimDir is the variable that makes the test binary a process to kill.
const victimDir = "EZ_TEST_VICTIM_DIR"

// victim appends from many goroutines to a spool whose sink is down, and says on
// standard output what was acknowledged.
func victim(dir string) {
	q, err := logbuf.Open(asleep(), &logbuf.Options{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				if q.Append(context.Background(), logbuf.Entry{RequestID: id}) == nil {
					_, _ = os.Stdout.WriteString(id + "\n") // a line is one write, so it is whole
				}
			}
		})
	}
	wg.Wait()
}

// A killed process loses nothing that it had acknowledged.
func TestSpoolSurvivesKill(t *testing.T) {
	if _, err := logbuf.Open(newLedger(), &logbuf.Options{Dir: os.DevNull}); err == nil {
		t.Fatal("a file was taken for a directory")
	}
	dir := t.TempDir()
	var acknowledged []string
	for life := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
			if n == 500+life*37 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
	}
	sink := newLedger()
	q := mustOpen(t, sink, &logbuf.Options{Dir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Fatal(err)
	}
	s := q.Stats()
	checkIdentity(t, s)
	if s.Damaged != 0 {
		t.Errorf("%d entries were damaged", s.Damaged)
	}
	stored := sink.requests()
	slices.Sort(stored)
	if n := len(slices.Compact(slices.Clone(stored))); n != len(stored) {
		t.Errorf("%d of %d entries are stored twice", len(stored)-n, len(stored))
	}
	for _, id := range acknowledged {
		if _, ok := slices.BinarySearch(stored, id); !ok {
			t.Fatalf("%s of %d acknowledged entries is lost; %d are stored", id, len(acknowledged), len(stored))
		}
	}
	t.Logf("%d acknowledged, %d stored", len(acknowledged), len(stored))
}
