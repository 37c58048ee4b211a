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
	Format    int               `json:"format" doc:"Of everything published."`
	Store     string            `json:"store" doc:"UUID of the catalog that it comes from."`
	Position  snapshot.Position `json:"position" doc:"<epoch>-<revision>."`
	Epoch     int64             `json:"epoch"`
	Revision  int64             `json:"revision"`
	Mark      string            `json:"mark" doc:"Random name of the commit at this revision."`
	Digest    snapshot.Digest   `json:"digest" doc:"Over all documents, in hex."`
	Sig       string            `json:"sig,omitempty" doc:"Signature, in hex; absent without a sync key."`
	Seal      string            `json:"seal,omitempty" doc:"Id of the sync key; absent without one."`
	Renderer  int               `json:"renderer" doc:"Version of the code that made the documents."`
	Counts    snapshot.Counts   `json:"counts" doc:"Documents of each kind."`
	UpdatedAt time.Time         `json:"updated_at"`
	Forced    bool              `json:"forced" doc:"Published by a forced re-synchronisation."`
}

func newHead(h snapshot.Head) head {
	counts := h.Counts
	if counts == nil {
		counts = snapshot.Counts{}
	}
	return head{
		Format: h.Format, Store: h.Store, Position: h.Position, Epoch: int64(h.Position.Epoch), Revision: int64(h.Position.Revision),
		Mark: string(h.Mark), Digest: h.Digest, Sig: h.Sig, Seal: h.Seal, Renderer: h.Renderer,
		Counts: counts, UpdatedAt: h.UpdatedAt, Forced: h.Forced,
	}
}

type resyncing struct {
	request.Wait
	NewEpoch bool `query:"new_epoch" doc:"Begin a new epoch, which every balancer takes for newer than all before."`
	Force    bool `query:"force" doc:"Overwrite what another catalog has published, or lose more than half of a kind."`
}

type resynced struct {
	Sync  string `header:"EZ-Sync"`
	Nodes string `header:"EZ-Sync-Nodes"`
	Body  head
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
	out.Sync, out.Nodes = h.follow(ctx, in.Wait.Wait, wait, at.Position.Revision)
	return out, nil
}

// syncStatus answers with how far everybody has come.
type syncStatus struct {
	Body struct {
		Store     string       `json:"store" doc:"UUID of the catalog."`
		Revision  int64        `json:"revision" doc:"Of the catalog."`
		Published *head        `json:"published,omitempty" doc:"What is published; absent when nothing is, or when it cannot be asked."`
		Lag       int64        `json:"lag" doc:"Revisions that are not published yet."`
		Error     string       `json:"error,omitempty" doc:"Why publishing does not work."`
		Nodes     []nodeStatus `json:"nodes"`
	}
}

// nodeStatus is how far a balancer has come.
type nodeStatus struct {
	ID       string             `json:"id" doc:"Its name and a random part, new in each process."`
	State    snapshot.NodeState `json:"state" enum:"applied,lagging,lost" doc:"applied: has what is published; lagging: has not; lost: was not heard of for 15 s."`
	Position snapshot.Position  `json:"position" doc:"What it has applied, <epoch>-<revision>."`
	Lag      int64              `json:"lag" doc:"Published revisions that it has not applied."`
	Version  string             `json:"version,omitempty"`
	Error    string             `json:"error,omitempty" doc:"Its last problem."`
	SeenAt   time.Time          `json:"seen_at"`
}

func (h *Handler) syncStatus(ctx context.Context, _ *struct{}) (*syncStatus, error) {
	out := &syncStatus{}
	b := &out.Body
	err := h.plane.Store().Read(ctx, func(r catalog.Reader) error {
		b.Store, b.Revision = r.Head().Store, int64(r.Head().Revision)
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.Nodes, b.Lag = []nodeStatus{}, b.Revision
	at, err := h.plane.Publisher().Head(ctx)
	switch {
	case errors.Is(err, snapshot.ErrNone):
	case err != nil:
		h.log.WarnContext(ctx, "the publisher cannot be asked", "error", err)
		b.Error = "what is published cannot be read"
	default:
		published := newHead(at)
		b.Published, b.Lag = &published, max(0, b.Revision-published.Revision)
	}
	if h.plane.Relay().Status().LastError != "" && b.Error == "" {
		b.Error = "publishing fails, and is tried again: see the server's log"
	}
	nodes, err := h.plane.Publisher().Nodes(ctx)
	if err != nil && b.Error == "" {
		h.log.WarnContext(ctx, "the publisher cannot be asked for nodes", "error", err)
		b.Error = "what balancers report cannot be read"
	}
	for _, n := range nodes {
		b.Nodes = append(b.Nodes, nodeStatus{
			ID: n.ID, State: n.State(at.Position, time.Now()), Position: n.Position,
			Lag: max(0, int64(at.Position.Revision-n.Position.Revision)), Version: n.Version, Error: n.Error, SeenAt: n.SeenAt,
		})
	}
	return out, nil
}

type listingChanges struct {
	After int64 `query:"after" minimum:"0" default:"0" doc:"Only changes after this revision."`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"About so many; what belongs to one revision is never split."`
}

type changes struct {
	Body struct {
		Data      []catalog.Change `json:"data"`
		NextAfter int64            `json:"next_after" doc:"The after of the next page. Ask again with it for what comes later."`
	}
}

func (h *Handler) changes(ctx context.Context, in *listingChanges) (*changes, error) {
	out := &changes{}
	err := h.plane.Store().Read(ctx, func(r catalog.Reader) (err error) {
		out.Body.Data, err = r.Changes(ctx, catalog.Revision(in.After), in.Limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	out.Body.NextAfter = in.After
	if n := len(out.Body.Data); n > 0 {
		out.Body.NextAfter = int64(out.Body.Data[n-1].Revision)
	} else {
		out.Body.Data = []catalog.Change{}
	}
	return out, nil
}
