package server

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a pseudo-terminal.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// TestBannerIsForTerminals: who sits at one needs the secrets; what collects output must not get them.
func TestBannerIsForTerminals(t *testing.T) {
	person, program := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := filepath.Join(t.TempDir(), "data")
	var log output
	code := make(chan int, 1)
	go func() { code <- Run(ctx, nil, []string{"EZ_API_PORT=0", "EZ_DATA_DIR=" + dir}, program, &log) }()

	shown := make(chan string, 1)
	go func() {
		var text bytes.Buffer
		buffer := make([]byte, 4096)
		for !strings.Contains(text.String(), dir) {
			n, err := person.Read(buffer)
			if err != nil {
				break
			}
			text.Write(buffer[:n])
		}
		shown <- text.String()
	}()
	var banner string
	select {
	case banner = <-shown:
	case <-time.After(30 * time.Second):
		t.Fatalf("no banner; the log:\n%s", &log)
	}
	s := &running{dir: dir}
	for _, part := range []string{"EZ-API is ready", s.file(tokenFile), s.file(redisURLFile), "http://127.0.0.1:",
		"/console/"} {
		if part == "" || !strings.Contains(banner, part) {
			t.Errorf("the banner does not say %q:\n%s", part, banner)
		}
	}
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
	if strings.Contains(log.String(), s.file(tokenFile)) || strings.Contains(log.String(), s.file(redisPasswordFile)) {
		t.Errorf("the log holds a secret:\n%s", &log)
	}
}
