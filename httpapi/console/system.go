package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
)

// systemView is how the server and the balancers are.
type systemView struct {
	Sync   client.SyncStatus
	Counts []count
	Nodes  []nodeRow
	Ready  string
	Checks []checkRow
}

type count struct {
	Name string
	N    int
}

type nodeRow struct {
	client.NodeStatus
	Seen *moment
}

type checkRow struct {
	Name string
	client.Check
}

func (p *page) system() error {
	view, err := p.systemView()
	if err != nil {
		return err
	}
	return p.render("system", http.StatusOK, view)
}

func (p *page) systemView() (view systemView, err error) {
	if view.Sync, err = p.client.SyncStatus(p.ctx()); err != nil {
		return view, err
	}
	for _, n := range view.Sync.Nodes {
		view.Nodes = append(view.Nodes, nodeRow{n, p.at(n.SeenAt)})
	}
	if head := view.Sync.Published; head != nil {
		for _, kind := range slices.Sorted(maps.Keys(head.Counts)) {
			view.Counts = append(view.Counts, count{string(kind), int(head.Counts[kind])})
		}
	}
	ready, err := p.client.Ready(p.ctx())
	view.Ready = ready.Status
	for _, name := range slices.Sorted(maps.Keys(ready.Checks)) {
		view.Checks = append(view.Checks, checkRow{name, ready.Checks[name]})
	}
	return view, err
}

func (p *page) resync() error {
	if err := p.form(); err != nil {
		return err
	}
	var out outcome
	head, err := p.client.Resync(p.ctx(), client.ResyncOptions{
		NewEpoch: p.r.PostForm.Get("new_epoch") != "", Force: p.r.PostForm.Get("force") != "",
	}, out.options()...)
	if err != nil {
		return err
	}
	return p.done("system", out.flash("done.resynced", head.Revision))
}

// export sends the catalog as a file that can be applied again.
func (p *page) export() error {
	w := &startingWriter{page: p}
	err := p.client.Export(p.ctx(), w)
	if err != nil && w.begun {
		p.log.WarnContext(p.ctx(), "an export was broken off", "error", err)
		panic(http.ErrAbortHandler) // whoever reads it has to see that it has no end
	}
	return err
}

// startingWriter sends what comes, part by part. It says what it is with the first part, so that an
// error before can be a page.
type startingWriter struct {
	page  *page
	begun bool
}

func (w *startingWriter) Write(b []byte) (int, error) {
	if !w.begun {
		w.begun = true
		h := w.page.w.Header()
		h.Set("Content-Type", "application/json")
		h.Set(
			"Content-Disposition",
			fmt.Sprintf(`attachment; filename="ezapi-%s.json"`, w.page.now().UTC().Format("2006-01-02")),
		)
	}
	return outbox.Through(w.page.w).Write(b)
}
