package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// SyncStatus says how far publishing and the balancers are.
type SyncStatus struct {
	Store      string           `json:"store"`
	Revision   catalog.Revision `json:"revision"`            // of the catalog
	Published  *PublishedHead   `json:"published,omitempty"` // nil when there is nothing, or it cannot be read
	Lag        int64            `json:"lag"`                 // revisions that are not published yet
	Error      string           `json:"error,omitempty"`     // what keeps the catalog from being published
	Trouble    string           `json:"trouble,omitempty"`   // the same in a word
	Warnings   []string         `json:"warnings,omitempty"`
	Nodes      []NodeStatus     `json:"nodes"` // at most 1000, those first that were heard of last
	Total      int              `json:"total"`
	Applied    int              `json:"applied"`
	Lagging    int              `json:"lagging"`
	Lost       int              `json:"lost"`
	Unverified int              `json:"unverified"`
	Crowded    bool             `json:"crowded,omitempty"` // too many balancers to know all live ones
}

// PublishedHead is what is published.
type PublishedHead struct {
	Position  snapshot.Position `json:"position"`
	Epoch     catalog.Epoch     `json:"epoch"`
	Revision  catalog.Revision  `json:"revision"`
	Digest    snapshot.Digests  `json:"digest"`
	Counts    snapshot.Counts   `json:"counts"`
	UpdatedAt time.Time         `json:"updated_at"`
}

// NodeStatus is how far a balancer has come.
type NodeStatus struct {
	ID       string             `json:"id"`
	State    snapshot.NodeState `json:"state"`
	Position snapshot.Position  `json:"position"`
	Lag      int64              `json:"lag"`
	Version  string             `json:"version,omitempty"`
	Error    string             `json:"error,omitempty"`
	SeenAt   time.Time          `json:"seen_at"`
}

// SyncStatus asks how far publishing and the balancers are.
func (c *Client) SyncStatus(ctx context.Context) (s SyncStatus, err error) {
	_, err = c.do(ctx, call{method: http.MethodGet, path: "sync/status", again: againAlways}, &s)
	return s, err
}

// Readiness says what works.
type Readiness struct {
	Status string           `json:"status"` // ok, degraded or unavailable
	Checks map[string]Check `json:"checks"`
}

// Check is one thing that a server needs.
type Check struct {
	Status string `json:"status"` // ok or failed
	Note   string `json:"note,omitempty"`
}

// Ready asks what works, once. That a server is unavailable is an answer, not an error.
func (c *Client) Ready(ctx context.Context) (r Readiness, err error) {
	answer, err := c.send(ctx, call{method: http.MethodGet, path: "readyz"}, nil)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusServiceUnavailable {
		if json.Unmarshal(e.body, &r) == nil && r.Status != "" {
			return r, nil
		}
	}
	if err != nil {
		return r, err
	}
	return r, answer.decode(&r)
}
