package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/test/faults"
)

// A chaos breaks the town, one thing after another, and several links at a time.
type chaos struct {
	town   *town
	random *rand.Rand
	events []event

	healing sync.WaitGroup
	counts  map[string]int
}

// An event is something that happens, for about a while.
type event struct {
	name   string
	weight int
	do     func(while time.Duration)
}

func newChaos(w *town, seed uint64) *chaos {
	c := &chaos{town: w, random: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{}}
	c.events = []event{
		{"link", 12, c.breakLink},
		{"kill server", 3, func(d time.Duration) { pick(c, mortal(w.servers)).restart(syscall.SIGKILL, d) }},
		{"stop server", 2, func(d time.Duration) { pick(c, mortal(w.servers)).restart(syscall.SIGTERM, d) }},
		{"freeze server", 2, func(d time.Duration) { freeze(pick(c, w.servers), d) }},
		{"kill balancer", 2, func(d time.Duration) { pick(c, mortal(w.balancers)).restart(syscall.SIGKILL, d) }},
		{"freeze balancer", 1, func(d time.Duration) { freeze(pick(c, w.balancers), d) }},
		{"kill mirror", 2, func(d time.Duration) { w.mirror.restart(syscall.SIGKILL, d) }},
		{"empty Redis", 2, func(d time.Duration) { pick(c, []*member{w.center, w.region}).restart(syscall.SIGKILL, d) }},
		{"freeze Redis", 1, func(d time.Duration) { freeze(pick(c, []*member{w.center, w.region}), d) }},
		{"kill PostgreSQL", 2, c.killDatabase},
		{"step of a clock", 2, c.stepClock},
		{"full disk", 2, c.fillDisk},
	}
	return c
}

// mortal returns those that may be ended.
func mortal(all []*member) []*member {
	return slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m.spared })
}

func pick[T any](c *chaos, from []T) T { return from[c.random.IntN(len(from))] }

// run lets something happen every second or so until the context ends.
func (c *chaos) run(ctx context.Context) {
	total := 0
	for _, e := range c.events {
		total += e.weight
	}
	for ctx.Err() == nil {
		n := c.random.IntN(total)
		i := 0
		for ; n >= c.events[i].weight; i++ {
			n -= c.events[i].weight
		}
		while := time.Duration(100+c.random.IntN(1900)) * time.Millisecond
		if c.random.IntN(20) == 0 {
			while *= 5 // long enough for everybody to notice
		}
		c.counts[c.events[i].name]++
		c.events[i].do(while)
		pause(ctx, time.Duration(c.random.IntN(1500))*time.Millisecond)
	}
	c.healing.Wait()
}

// heal ends everything that is wrong.
func (c *chaos) heal() {
	c.town.mu.Lock()
	defer c.town.mu.Unlock()
	for _, l := range c.town.links {
		l.Set(faults.Fault{})
	}
	for _, s := range c.town.servers {
		c.setClock(s, 0)
	}
}

// breakLink lets the next thing happen while the link is still broken.
func (c *chaos) breakLink(while time.Duration) {
	c.town.mu.Lock()
	link := c.town.links[pick(c, slices.Sorted(maps.Keys(c.town.links)))]
	c.town.mu.Unlock()
	link.Set(pick(c, []faults.Fault{
		{Delay: time.Duration(5+c.random.IntN(200)) * time.Millisecond}, {Cut: true}, {Silent: true}, {Deaf: true},
		{Limit: 1 + c.random.IntN(20_000)},
	}))
	c.healing.Go(func() {
		time.Sleep(2 * while)
		link.Set(faults.Fault{})
	})
}

func freeze(m *member, while time.Duration) {
	m.signal(syscall.SIGSTOP)
	time.Sleep(while)
	m.signal(syscall.SIGCONT)
}

func (c *chaos) killDatabase(while time.Duration) {
	c.town.database.Kill()
	time.Sleep(while)
	c.town.database.Start(c.town.t)
}

// stepClock makes a server's clock wrong by up to two hours, until the next step.
func (c *chaos) stepClock(time.Duration) {
	wrong := time.Duration(c.random.IntN(4*3600)-2*3600) * time.Second
	if c.random.IntN(2) == 0 {
		wrong = 0
	}
	c.setClock(pick(c, c.town.servers), wrong)
}

func (c *chaos) setClock(s *member, wrong time.Duration) {
	if err := os.WriteFile(s.clock, []byte(wrong.String()), 0o600); err != nil {
		c.town.t.Error(err)
	}
}

func (c *chaos) fillDisk(while time.Duration) {
	path := filepath.Join(c.town.smallDisk, "rubbish")
	file, err := os.Create(path)
	if err != nil {
		c.town.t.Error(err)
		return
	}
	chunk := make([]byte, 64<<10)
	for err == nil {
		_, err = file.Write(chunk)
	}
	_ = file.Close()
	time.Sleep(while)
	if err := os.Remove(path); err != nil {
		c.town.t.Error(err)
	}
}

func (c *chaos) String() string {
	var said []string
	for _, name := range slices.Sorted(maps.Keys(c.counts)) {
		said = append(said, fmt.Sprintf("%s %d", name, c.counts[name]))
	}
	return "what happened: " + strings.Join(said, ", ")
}
