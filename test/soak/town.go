package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/test/faults"
	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
)

const (
	upstreamKey = "sk-of-the-upstream"
	prefix      = "ezapi"
)

// A town is everything, as processes.
type town struct {
	t     process.T
	admin string
	sync  string // EZ_SYNC_KEYS

	database       *postgres.Server
	center, region *member // Redis
	upstream       *process.Process
	servers        []*member
	balancers      []*member // the third reads in the region
	mirror         *member

	mu    sync.Mutex
	links map[string]*faults.Link // by who is connected to whom

	smallDisk string // a file system of 64 MiB, of the second server
}

// A member is a program that is killed and started again, always at the same address.
type member struct {
	town    *town
	name    string
	command func() *exec.Cmd
	url     string
	clock   string // a file with how wrong its clock is; empty for other programs than servers
	spared  bool   // it is never ended, so that what grows in it has all the time to

	mu      sync.Mutex
	p       *process.Process
	started time.Time
}

func newTown(t process.T) *town {
	t.Helper()
	w := &town{t: t, admin: process.NewToken(), sync: process.NewKey("s1"), links: map[string]*faults.Link{}}
	w.database = postgres.New(t, &postgres.Options{Settings: []string{"max_connections = 200"}})
	w.center, w.region = w.redis("center"), w.redis("region")
	w.upstream = process.Start(t, "upstream", nil, "-key", upstreamKey)
	w.smallDisk = w.mount()

	keys := process.NewKey("k1")
	for i, name := range []string{"a", "b", "c"} {
		dir := filepath.Join(t.TempDir(), "data")
		if i == 1 {
			dir = filepath.Join(w.smallDisk, "data")
		}
		w.servers = append(w.servers, w.server(name, dir, keys))
	}
	for i, name := range []string{"1", "2", "3", "4"} {
		near := "center"
		if i == 2 {
			near = "region"
		}
		w.balancers = append(w.balancers, w.balancer(name, near, w.servers[i%len(w.servers)]))
	}
	w.servers[2].spared, w.balancers[3].spared = true, true
	w.mirror = w.program("mirror", "", "mirror",
		"EZ_REDIS_ADDR="+w.link("mirror", w.center), "EZ_REGION_REDIS_ADDR="+w.link("mirror", w.region),
		"EZ_SYNC_KEYS="+w.sync)
	for _, m := range slices.Concat(w.servers, []*member{w.mirror}, w.balancers) {
		m.start()
	}
	w.settled(2 * time.Minute)
	return w
}

// link returns the address by which somebody reaches a member.
func (w *town) link(who string, m *member) string {
	target, _ := strings.CutPrefix(m.url, "http://")
	return w.linkTo(who+" to "+m.name, target)
}

func (w *town) linkTo(name, target string) string {
	l, err := faults.NewLink(target)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[name] = l
	return l.Addr
}

func (w *town) redis(name string) *member {
	port := process.FreePort(w.t)
	dir := w.t.TempDir()
	m := &member{town: w, name: name, url: fmt.Sprint("127.0.0.1:", port), command: func() *exec.Cmd {
		return exec.Command("redis-server", "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--dir", dir,
			"--save", "", "--appendonly", "no")
	}}
	m.start()
	return m
}

// program is one of ours, at a port that stays its own.
func (w *town) program(name, url, binary string, env ...string) *member {
	home := w.t.TempDir()
	return &member{town: w, name: name, url: url, command: func() *exec.Cmd {
		cmd := exec.Command(binary)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}, env...)
		cmd.Dir = home
		return cmd
	}}
}

func (w *town) server(name, dir, keys string) *member {
	port := process.FreePort(w.t)
	clock := filepath.Join(w.t.TempDir(), "clock")
	m := w.program(name, fmt.Sprint("http://127.0.0.1:", port), "server",
		"EZ_PG_DSN=postgres://postgres@"+w.linkTo(name+" to PostgreSQL", fmt.Sprint("127.0.0.1:", w.database.Port))+
			"/postgres?sslmode=disable",
		"EZ_REDIS_ADDR="+w.link(name, w.center), "EZ_API_ADDR=127.0.0.1", fmt.Sprint("EZ_API_PORT=", port),
		"EZ_ADMIN_TOKEN="+w.admin, "EZ_DB_KEYS="+keys, "EZ_SYNC_KEYS="+w.sync, "EZ_DATA_DIR="+dir,
		"EZ_LOG_SPOOL_MAX=32MiB", "EZ_ALLOW_PRIVATE_UPSTREAMS=true", "EZ_TEST_CLOCK="+clock)
	m.clock = clock
	return m
}

func (w *town) balancer(name, near string, logs *member) *member {
	port := process.FreePort(w.t)
	redis := w.center
	if near == "region" {
		redis = w.region
	}
	return w.program(name, fmt.Sprint("http://127.0.0.1:", port), "balancer",
		fmt.Sprint("LISTEN=127.0.0.1:", port), "EZ_REDIS_ADDR="+w.link(name, redis), "EZ_SYNC_KEYS="+w.sync,
		"EZ_LOGS_URL=http://"+w.link(name, logs), "EZ_BALANCER_TOKEN="+w.admin, "EZ_SPOOL_DIR="+w.t.TempDir(),
		"EZ_ALLOW_PRIVATE_UPSTREAMS=true", "EZ_UPSTREAM_TIMEOUT=5s")
}

// mount makes a small disk.
func (w *town) mount() string {
	dir := w.t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", dir).CombinedOutput(); err != nil {
		w.t.Skip(fmt.Sprintf("no right to mount a small disk, so all of this is NOT TESTED: %v %s", err, out))
	}
	w.t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			w.t.Errorf("unmount: %v %s", err, out)
		}
	})
	return dir
}

// start starts a member that does not run.
func (m *member) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p, m.started = process.Run(m.town.t, m.name, m.command()), time.Now()
}

// signal sends a signal to the process.
func (m *member) signal(s syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.p.Cmd.Process.Signal(s)
}

// restart ends the process, waits a while, and starts it again.
func (m *member) restart(how syscall.Signal, after time.Duration) {
	m.signal(how)
	m.mu.Lock()
	done := m.p.Done
	m.mu.Unlock()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		m.town.t.Errorf("%s does not end after signal %d", m.name, how)
		m.signal(syscall.SIGKILL)
		<-done
	}
	time.Sleep(after)
	m.start()
}

// upSince returns when the member was started last.
func (m *member) upSince() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.started
}

// ask sends a request, and returns its answer if there was one.
func (w *town) ask(m *member, method, path, token string, body any) (answer, error) {
	return send(method, m.url+path, token, body)
}

// settled waits until every server is ready and every balancer serves.
func (w *town) settled(limit time.Duration) {
	w.t.Helper()
	for _, m := range w.servers {
		process.Eventually(w.t, limit, "server "+m.name+" is ready", func() bool {
			time.Sleep(50 * time.Millisecond)
			got, err := w.ask(m, "GET", "/readyz", w.admin, nil)
			return err == nil && got.status == http.StatusOK
		})
	}
	for _, m := range w.balancers {
		process.Eventually(w.t, limit, "balancer "+m.name+" serves", func() bool {
			time.Sleep(50 * time.Millisecond)
			got, err := w.ask(m, "GET", "/healthz", "", nil)
			return err == nil && got.status == http.StatusOK
		})
	}
}
