package logbuf

import (
	"time"

	"github.com/google/uuid"
)

// An Entry is one request that a balancer served, or refused. Its identity is
// (Time truncated to microseconds, ID): an entry that comes again is stored once.
//
// It marshals to the form that POST /logs takes and GET /logs answers with.
type Entry struct {
	ID               uuid.UUID `json:"id"`
	Time             time.Time `json:"ts"` // event time, UTC, microseconds
	RequestID        string    `json:"request_id,omitempty"`
	Balancer         string    `json:"balancer,omitempty"`
	KeyID            int64     `json:"key_id,omitzero"`
	ProviderID       int64     `json:"provider_id,omitzero"`
	Namespace        string    `json:"namespace"`
	Model            string    `json:"model,omitempty"`
	UpstreamModel    string    `json:"upstream_model,omitempty"`
	Group            string    `json:"group,omitempty"`
	Endpoint         string    `json:"endpoint,omitempty"`
	Status           int       `json:"status,omitzero"` // HTTP status given to the client
	Error            string    `json:"error,omitempty"`
	Attempts         int       `json:"attempts,omitzero"`
	Stream           bool      `json:"stream,omitzero"`
	LatencyMS        int64     `json:"latency_ms,omitzero"`
	TTFTMS           int64     `json:"ttft_ms,omitzero"`      // time to first token
	InputTokens      int64     `json:"input_tokens,omitzero"` // without what the cache read and wrote
	CacheReadTokens  int64     `json:"cache_read_tokens,omitzero"`
	CacheWriteTokens int64     `json:"cache_write_tokens,omitzero"`
	OutputTokens     int64     `json:"output_tokens,omitzero"`   // reasoning included
	CostNanoUSD      *int64    `json:"cost_nano_usd"`            // nil: not known
	PricedRevision   int64     `json:"priced_revision,omitzero"` // of the catalog whose prices made the cost
	ClientIP         string    `json:"client_ip,omitempty"`
	UserAgent        string    `json:"user_agent,omitempty"`
	Revision         string    `json:"revision,omitempty"` // position the balancer had applied
}
