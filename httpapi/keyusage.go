package httpapi

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// A keyWithUsage is a key, and what it has used. That is derived from the
// access logs each time, and no part of the ETag.
type keyWithUsage struct {
	catalog.Key
	LastUsedAt *time.Time       `json:"last_used_at,omitempty"`
	Spend      *catalog.NanoUSD `json:"spend,omitempty"`
}

// withUsage adds to keys what they have used. When the logs cannot be asked,
// the keys are shown without.
func (h *Handler) withUsage(ctx context.Context, keys []catalog.Key) []keyWithUsage {
	shown := make([]keyWithUsage, len(keys))
	since := make(map[int64]time.Time, len(keys))
	now := time.Now()
	for i, k := range keys {
		shown[i].Key = k
		since[k.ID] = catalog.WindowStart(k.BudgetWindow, now)
	}
	archive, err := h.archive()
	if err != nil || len(keys) == 0 {
		return shown
	}
	used, err := archive.KeyUsage(ctx, since)
	if err != nil {
		h.log.WarnContext(ctx, "keys are shown without their usage", "error", err)
		return shown
	}
	for i := range shown {
		u := used[shown[i].ID]
		spend := catalog.NanoUSD(u.CostNanoUSD)
		shown[i].Spend = &spend
		if !u.LastUsed.IsZero() {
			shown[i].LastUsedAt = &u.LastUsed
		}
	}
	return shown
}
