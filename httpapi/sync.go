package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

// head is a snapshot.Head as the API shows it.
type head struct {
	Format    int               `json:"format" doc:"The format of everything that is published."`
	Store     string            `json:"store" doc:"The UUID of the catalog that it comes from."`
	Position  snapshot.Position `json:"position" doc:"The position, <epoch>-<revision>."`
	Epoch     int64             `json:"epoch" doc:"The epoch of the position."`
	Revision  int64             `json:"revision" doc:"The revision of the position."`
	Mark      string            `json:"mark" doc:"The random name of the commit at this revision."`
	Digest    snapshot.Digests  `json:"digest" doc:"Over the documents of each kind, in hex."`
	Sig       string            `json:"sig,omitempty" doc:"The signature in hex. Without a sync key there is none."`
	Seal      string            `json:"seal,omitempty" doc:"The id of the sync key. Without one it is absent."`
	Renderer  int               `json:"renderer" doc:"The version of the code that made the documents."`
	Counts    snapshot.Counts   `json:"counts" doc:"How many documents of each kind there are."`
	UpdatedAt time.Time         `json:"updated_at" doc:"When the catalog committed this revision."`
	Forced    bool              `json:"forced" doc:"Whether a forced re-synchronisation has published it."`
}

func newHead(h snapshot.Head) head {
	counts, digest := h.Counts, h.Digest
	if counts == nil {
		counts, digest = snapshot.Counts{}, snapshot.Digests{}
	}
	return head{
		Format: h.Format, Store: h.Store, Position: h.Position, Epoch: int64(h.Position.Epoch), Revision: int64(
			h.Position.Revision),
		Mark: string(h.Mark), Digest: digest, Sig: h.Sig, Seal: h.Seal, Renderer: h.Renderer,
		Counts: counts, UpdatedAt: h.UpdatedAt, Forced: h.Forced,
	}
}

type resyncing struct {
	request.Wait
	NewEpoch bool `query:"new_epoch" doc:"Whether a new epoch begins, which every balancer takes for newer than all before."`
	Force    bool `query:"force" doc:"Whether to overwrite what another catalog has published, and to lose more than half of a kind."`
}

type resynced struct {
	request.Progress
	Body head
}

func (h *Handler) resync(ctx context.Context, in *resyncing) (*resynced, error) {
	wait, err := in.Wait.Limit()
	if err != nil {
		return nil, err
	}
	at, err := h.plane.Relay().Resync(ctx, snapshot.ResyncOptions{NewEpoch: in.NewEpoch, Force: in.Force})
	if err != nil {
		return nil, err
	}
	out := &resynced{Body: newHead(at)}
	out.Progress = h.follow(ctx, in.Wait.Wait, wait, at.Position.Revision)
	return out, nil
}

// statusNodes bounds the balancers that an answer shows.
const statusNodes = 1000

// syncStatus answers with how far everybody has come.
type syncStatus struct {
	Body struct {
		Store      string       `json:"store" doc:"The UUID of the catalog."`
		Revision   int64        `json:"revision" doc:"The revision of the catalog."`
		Published  *head        `json:"published,omitempty" doc:"What is published. It is absent when nothing is published, or when that cannot be read."`
		Lag        int64        `json:"lag" doc:"How many revisions are not published yet."`
		Error      string       `json:"error,omitempty" doc:"What keeps the catalog from being published, and what helps."`
		Trouble    string       `json:"trouble,omitempty" doc:"What keeps the catalog from being published, in a word."`
		Warnings   []string     `json:"warnings,omitempty" doc:"What does not work beside publishing."`
		Nodes      []nodeStatus `json:"nodes" doc:"How far each balancer is, those first that were heard of last; at most 1000."`
		Total      int          `json:"total" doc:"How many balancers were heard of within a day."`
		Applied    int          `json:"applied" doc:"How many live balancers have what is published."`
		Lagging    int          `json:"lagging" doc:"How many live balancers have it not, or refuse it."`
		Lost       int          `json:"lost" doc:"How many balancers were not heard of for 15 s."`
		Unverified int          `json:"unverified" doc:"How many reports are not signed with a sync key. They count for nothing."`
		Crowded    bool         `json:"crowded,omitempty" doc:"Whether there are too many balancers to know all live ones. Nothing is answered as applied then."`
	}
}

// nodeStatus is how far a balancer has come.
type nodeStatus struct {
	ID       string             `json:"id" doc:"The name of the balancer and a random part, which is new in each process."`
	State    snapshot.NodeState `json:"state" enum:"applied,lagging,lost,unverified" doc:"applied: has what is published; lagging: has not, or refuses it; lost: was not heard of for 15 s; unverified: its report is not signed with a sync key."`
	Position snapshot.Position  `json:"position" doc:"The position that it has applied, <epoch>-<revision>."`
	Lag      int64              `json:"lag" doc:"How many published revisions it has not applied."`
	Version  string             `json:"version,omitempty" doc:"The version that the balancer says it has."`
	Error    string             `json:"error,omitempty" doc:"The last problem of the balancer."`
	SeenAt   time.Time          `json:"seen_at" doc:"When it was last heard of."`
}

// syncStatus asks each store for no longer than a check of readiness: who looks for what is wrong must not wait until
// a store that has frozen is given up.
func (h *Handler) syncStatus(ctx context.Context, _ *struct{}) (*syncStatus, error) {
	out := &syncStatus{}
	b := &out.Body
	reading, done := context.WithTimeout(ctx, checkTimeout)
	defer done()
	err := h.plane.Store().Read(reading, func(r catalog.Reader) error {
		b.Store, b.Revision = r.Head().Store, int64(r.Head().Revision)
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.Nodes, b.Lag = []nodeStatus{}, b.Revision
	asking, done := context.WithTimeout(ctx, checkTimeout)
	defer done()
	at, err := h.plane.Publisher().Head(asking)
	switch {
	case errors.Is(err, snapshot.ErrNone):
	case ctx.Err() != nil: // who asked has left
		return nil, ctx.Err()
	case err != nil:
		h.log.WarnContext(ctx, "the publisher cannot be asked", "error", err)
		b.Error = "what is published cannot be read"
	default:
		published := newHead(at)
		b.Published, b.Lag = &published, max(0, b.Revision-published.Revision)
	}
	status := h.plane.Relay().Status()
	b.Trouble, b.Warnings = string(status.Trouble), warningsOf(status)
	if b.Error == "" {
		b.Error = troubleText(status)
	}
	fleet := h.plane.Relay().Fleet()
	if err := fleet.Refresh(asking); ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != nil && b.Error == "" {
		h.log.WarnContext(ctx, "the publisher cannot be asked for the reports of balancers", "error", err)
		b.Error = "what balancers report cannot be read"
	}
	standing := fleet.Standing(at)
	b.Applied, b.Lagging, b.Lost = standing.Applied, standing.Lagging, standing.Lost
	b.Unverified, b.Crowded = standing.Unverified, standing.Crowded
	nodes, total := fleet.Nodes(at, statusNodes)
	b.Total = total
	for _, n := range nodes {
		b.Nodes = append(b.Nodes, nodeStatus{
			ID: n.ID, State: n.State, Position: n.Position,
			Lag: max(0, int64(at.Position.Revision-n.Position.Revision)), Version: n.Version, Error: n.Error, SeenAt: n.SeenAt,
		})
	}
	return out, nil
}

// troubleText says what keeps a relay from publishing, and what helps. Where the cause is
// what is published, or that Redis takes no writes, the relay's own words say it, which hold no
// secret; other errors are in the log alone.
func troubleText(s snapshot.RelayStatus) string {
	switch s.Trouble {
	case snapshot.TroubleNone:
		return ""
	case snapshot.TroubleForeign, snapshot.TroubleOutrank, snapshot.TroubleShrinks, snapshot.TroubleWaiting,
		snapshot.TroubleRefused:
		return s.LastError
	case snapshot.TroubleBusy:
		return "other control planes publish all the time, or one has stopped in the middle; this ends by itself"
	case snapshot.TroubleDamaged:
		return "what is published does not add up, and is being mended"
	case snapshot.TroubleCatalog:
		return "the catalog's database cannot be read or written; see the server's log"
	case snapshot.TroubleUnsealed:
		return "some entities cannot be read and are not published; see the server's log"
	}
	return "what is published cannot be read or written; see the server's log"
}

// warningsOf says what does not work beside publishing.
func warningsOf(s snapshot.RelayStatus) (warnings []string) {
	for _, w := range []struct{ failed, text string }{
		{s.ScrubError, "what is published could not be compared with the catalog; see the server's log"},
		{s.BeatError, "the beat cannot be written, and balancers that have MaxStale will refuse; see the server's log"},
		{s.FleetError, "what balancers report cannot be read; see the server's log"},
	} {
		if w.failed != "" {
			warnings = append(warnings, w.text)
		}
	}
	if s.HintError != "" { // a right that is missing, or a word of Redis
		warnings = append(warnings, s.HintError)
	}
	return warnings
}
