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
	ID               uuid.UUID         `json:"id" doc:"With ts the identity of the entry: an entry that is sent again is stored once. It is a UUID. Without it one is made."`
	Time             time.Time         `json:"ts" doc:"When the request was made. Without it the time in a UUIDv7 id counts, or else now."` // event time, UTC, microseconds
	RequestID        string            `json:"request_id,omitempty" maxLength:"1024" doc:"The id of the request, by which logs are found."`
	Balancer         string            `json:"balancer,omitempty" maxLength:"1024" doc:"The balancer that served the request."`
	KeyID            int64             `json:"key_id,omitzero" minimum:"0" doc:"The id of the key. Without it the key is unknown."`
	Project          string            `json:"project,omitempty" maxLength:"256" doc:"The path of the project. Without it the project of the key counts."`
	ProviderID       int64             `json:"provider_id,omitzero" minimum:"0" doc:"The id of the provider."`
	Namespace        string            `json:"namespace" maxLength:"256" doc:"The namespace of the model. Without it the namespace is default."`
	Model            string            `json:"model,omitempty" maxLength:"256" doc:"The name that the client asked for, without namespace."`
	UpstreamModel    string            `json:"upstream_model,omitempty" maxLength:"1024" doc:"The name of the model at the provider."`
	Group            string            `json:"group,omitempty" maxLength:"256" doc:"The route group of the key."`
	Endpoint         string            `json:"endpoint,omitempty" maxLength:"1024" doc:"The path that the client called."`
	Status           int               `json:"status,omitzero" minimum:"0" maximum:"999" doc:"The HTTP status that the client got."`
	Error            string            `json:"error,omitempty" maxLength:"8192" doc:"What went wrong."`
	Attempts         int               `json:"attempts,omitzero" minimum:"0" doc:"How many providers were tried."`
	Stream           bool              `json:"stream,omitzero" doc:"Whether the answer was streamed."`
	LatencyMS        int64             `json:"latency_ms,omitzero" minimum:"0" doc:"How many milliseconds it took."`
	TTFTMS           int64             `json:"ttft_ms,omitzero" minimum:"0" doc:"The milliseconds from the request to the first token."`
	InputTokens      int64             `json:"input_tokens,omitzero" minimum:"0" doc:"The input tokens, without cache_read_tokens and cache_write_tokens."`
	CacheReadTokens  int64             `json:"cache_read_tokens,omitzero" minimum:"0" doc:"The input tokens that the provider read from its cache."`
	CacheWriteTokens int64             `json:"cache_write_tokens,omitzero" minimum:"0" doc:"The input tokens that the provider wrote to its cache."`
	OutputTokens     int64             `json:"output_tokens,omitzero" minimum:"0" doc:"The output tokens, those of reasoning included."`
	CostNanoUSD      *int64            `json:"cost_nano_usd" minimum:"0" doc:"The cost in billionths of a US dollar. When it is not sent, it is computed from the prices. null means that it is not known."`
	PricedRevision   int64             `json:"priced_revision,omitzero" minimum:"0" doc:"The revision of the catalog whose prices made the cost. 0 means that the balancer sent the cost."`
	ClientIP         string            `json:"client_ip,omitempty" maxLength:"1024" doc:"The address of the client."`
	UserAgent        string            `json:"user_agent,omitempty" maxLength:"1024" doc:"The User-Agent of the client."`
	User             string            `json:"user,omitempty" maxLength:"1024" doc:"The end user of the client."`
	Tags             map[string]string `json:"tags,omitempty" maxProperties:"8" doc:"Names and values of your own. A name has at most 64 bytes, a value at most 256."`
	Failures         []Failure         `json:"failures,omitempty" maxItems:"8" doc:"The attempts that failed before the answer."`
	Revision         string            `json:"revision,omitempty" maxLength:"1024" doc:"The position that the balancer had applied, <epoch>-<revision>."`
}

// A Failure is an attempt at a provider that failed before a request was answered.
type Failure struct {
	ProviderID    int64        `json:"provider_id,omitzero" minimum:"0" doc:"The id of the provider."`
	UpstreamModel string       `json:"upstream_model,omitempty" maxLength:"1024" doc:"The name of the model at the provider."`
	Status        int          `json:"status,omitzero" minimum:"0" maximum:"999" doc:"The HTTP status of the provider. 0 means that it gave none."`
	Class         FailureClass `json:"class" pattern:"^[a-z][a-z0-9_]{0,31}$" doc:"Why the attempt failed: auth, billing, rate, overload, server, timeout, network, client or canceled. Another one is kept, and counts as no failure of the provider's."`
	LatencyMS     int64        `json:"latency_ms,omitzero" minimum:"0" doc:"How many milliseconds it took."`
	RetryAfterMS  int64        `json:"retry_after_ms,omitzero" minimum:"0" doc:"How many milliseconds the provider asked to wait, as its Retry-After said."`
}

// FailureClass says why an attempt failed. A class that is not known here comes from a newer balancer: it
// is kept, and whoever judges by classes leaves it alone.
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
