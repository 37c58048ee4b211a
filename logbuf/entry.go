package logbuf

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// An Entry is one request that a balancer served, or refused. Its identity is
// (Time truncated to microseconds, ID): an entry that comes again is stored once.
//
// It marshals to the form that POST /logs takes and GET /logs answers with. Strings are
// stored as [Decoder] and [Queue.Append] clean them: in valid UTF-8 without NUL, at most
// 256 bytes in Project, Namespace, Model and Group, 8 KiB in Error, and 1 KiB elsewhere.
type Entry struct {
	ID               uuid.UUID         `json:"id"`
	Time             time.Time         `json:"ts"` // event time, UTC, microseconds
	RequestID        string            `json:"request_id,omitempty"`
	Balancer         string            `json:"balancer,omitempty"`
	KeyID            int64             `json:"key_id,omitzero"`
	Project          string            `json:"project,omitempty"` // path of the key's project
	ProviderID       int64             `json:"provider_id,omitzero"`
	Namespace        string            `json:"namespace"`
	Model            string            `json:"model,omitempty"` // as it was asked for, without namespace
	UpstreamModel    string            `json:"upstream_model,omitempty"`
	Group            string            `json:"group,omitempty"`
	Endpoint         string            `json:"endpoint,omitempty"`
	Status           int               `json:"status,omitzero"` // HTTP status given to the client
	Error            string            `json:"error,omitempty"`
	Attempts         int               `json:"attempts,omitzero"`
	Stream           bool              `json:"stream,omitzero"`
	LatencyMS        int64             `json:"latency_ms,omitzero"`
	TTFTMS           int64             `json:"ttft_ms,omitzero"`      // time to first token
	InputTokens      int64             `json:"input_tokens,omitzero"` // without what the cache read and wrote
	CacheReadTokens  int64             `json:"cache_read_tokens,omitzero"`
	CacheWriteTokens int64             `json:"cache_write_tokens,omitzero"`
	OutputTokens     int64             `json:"output_tokens,omitzero"`   // reasoning included
	CostNanoUSD      *int64            `json:"cost_nano_usd"`            // nil: not known
	PricedRevision   int64             `json:"priced_revision,omitzero"` // of the catalog whose prices made the cost
	ClientIP         string            `json:"client_ip,omitempty"`
	UserAgent        string            `json:"user_agent,omitempty"`
	User             string            `json:"user,omitempty"`     // the client's own end user
	Tags             map[string]string `json:"tags,omitempty"`     // at most 8, names of 64 bytes, values of 256
	Failures         []Failure         `json:"failures,omitempty"` // attempts before the answer, at most 8
	Revision         string            `json:"revision,omitempty"` // position the balancer had applied
}

// A Failure is an attempt at a provider that failed before a request was answered.
type Failure struct {
	ProviderID    int64        `json:"provider_id,omitzero"`
	UpstreamModel string       `json:"upstream_model,omitempty"`
	Status        int          `json:"status,omitzero"` // HTTP status of the provider; 0: it gave none
	Class         FailureClass `json:"class"`
	LatencyMS     int64        `json:"latency_ms,omitzero"`
}

// FailureClass says why an attempt failed.
type FailureClass string

// The classes of failures. Canceled and client ones are not the provider's fault.
const (
	FailedAuth     FailureClass = "auth"
	FailedBilling  FailureClass = "billing"
	FailedRate     FailureClass = "rate"
	FailedOverload FailureClass = "overload"
	FailedServer   FailureClass = "server"
	FailedTimeout  FailureClass = "timeout"
	FailedNetwork  FailureClass = "network"
	FailedClient   FailureClass = "client"
	FailedCanceled FailureClass = "canceled"
)

// FailureClasses lists all classes.
func FailureClasses() []FailureClass {
	return []FailureClass{
		FailedAuth, FailedBilling, FailedRate, FailedOverload, FailedServer,
		FailedTimeout, FailedNetwork, FailedClient, FailedCanceled,
	}
}

// Failed reports whether the entry counts as an error: its status is 400 or more, or it
// has an error.
func (e *Entry) Failed() bool { return e.Status >= 400 || e.Error != "" }

// Clone returns a copy that shares no memory with the entry but its strings.
func (e *Entry) Clone() Entry {
	c := *e
	if e.CostNanoUSD != nil {
		c.CostNanoUSD = new(*e.CostNanoUSD)
	}
	c.Tags = maps.Clone(e.Tags)
	c.Failures = slices.Clone(e.Failures)
	return c
}
