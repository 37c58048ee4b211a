package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/snapshot"
)

type statusCommand struct {
	printing
	Watch bool `short:"w" help:"Show it again every two seconds, until it is interrupted."`
}

const watchPause = 2 * time.Second

// serverStatus is what the command shows.
type serverStatus struct {
	Ready client.Readiness  `json:"ready"`
	Sync  client.SyncStatus `json:"sync"`
}

// Run shows how far publishing and the balancers are.
func (c *statusCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	for {
		var s serverStatus
		if s.Ready, err = api.Ready(ctx); err != nil {
			return err
		}
		if s.Sync, err = api.SyncStatus(ctx); err != nil {
			return err
		}
		if c.Watch && a.output == "table" && isTerminal(a.stdout) {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
		}
		if err := a.printStatus(s); err != nil || !c.Watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

func (a *app) printStatus(s serverStatus) error {
	if a.output != "table" {
		return a.print(s, nil)
	}
	w := a.stdout
	fmt.Fprintf(w, "server     %s\n", a.colored(s.Ready.Status))
	for _, name := range slices.Sorted(maps.Keys(s.Ready.Checks)) {
		if c := s.Ready.Checks[name]; c.Status != "ok" || c.Note != "" {
			fmt.Fprintf(w, "           %s: %s\n", name, strings.TrimSpace(a.colored(c.Status)+"  "+c.Note))
		}
	}
	fmt.Fprintf(w, "catalog    revision %d\n", s.Sync.Revision)
	published := "nothing"
	if p := s.Sync.Published; p != nil {
		published = fmt.Sprintf("revision %d (%s), %d documents", p.Revision, p.Position, documents(p.Counts))
	}
	fmt.Fprintf(w, "published  %s\n", published)
	if s.Sync.Error != "" {
		fmt.Fprintf(w, "           %s\n", a.style.red(printable(s.Sync.Error)))
	}
	for _, text := range s.Sync.Warnings {
		fmt.Fprintf(w, "           %s\n", a.style.yellow(printable(text)))
	}
	fmt.Fprintf(w, "balancers  %d applied, %d lagging, %d lost\n", s.Sync.Applied, s.Sync.Lagging, s.Sync.Lost)
	if len(s.Sync.Nodes) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := &table{titles: []string{"BALANCER", "STATE", "REVISION", "BEHIND", "VERSION", "SEEN", "ERROR"}, style: a.style}
	for _, n := range s.Sync.Nodes {
		t.add(n.ID, string(n.State), strconv.FormatInt(int64(n.Position.Revision), 10), strconv.FormatInt(n.Lag, 10),
			cell(n.Version), timeCell(n.SeenAt), n.Error)
	}
	return t.write(w)
}

// colored paints a word that says whether something works.
func (a *app) colored(word string) string {
	switch word {
	case "ok":
		return a.style.green(word)
	case "degraded":
		return a.style.yellow(word)
	}
	return a.style.red(word)
}

func documents(counts snapshot.Counts) (sum int64) {
	for _, n := range counts {
		sum += int64(n)
	}
	return sum
}

// waitText says how far a revision has come: "published 1842 · applied 3/4 · waiting for
// eu-2". done says that every live balancer has it.
func waitText(s client.SyncStatus, revision catalog.Revision) (text string, published, done bool) {
	var parts []string
	if s.Published != nil {
		published = s.Published.Revision >= revision
		parts = append(parts, fmt.Sprintf("published %d", s.Published.Revision))
	}
	live, applied := 0, 0
	var waiting []string
	for _, n := range s.Nodes {
		if n.State != snapshot.NodeApplied && n.State != snapshot.NodeLagging {
			continue
		}
		live++
		if n.State == snapshot.NodeApplied || n.Position.Revision >= revision && n.Error == "" {
			applied++
			continue
		}
		waiting = append(waiting, nodeName(n.ID))
	}
	parts = append(parts, fmt.Sprintf("applied %d/%d", applied, live))
	if len(waiting) > 0 {
		parts = append(parts, "waiting for "+joinSome(waiting))
	}
	return strings.Join(parts, " · "), published, published && len(waiting) == 0
}

// nodeName returns the name of a balancer without the random part at its end.
func nodeName(id string) string {
	if i := strings.LastIndexByte(id, '-'); i > 0 {
		return id[:i]
	}
	return id
}
