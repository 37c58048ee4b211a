package chstore

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// logColumns are the columns of access_logs in the order in which rows are written and read.
const logColumns = `ts, id, version, request_id, balancer, key_id, project, provider_id, namespace,
    model, upstream_model, route_group, endpoint, status, error, attempts, stream, latency_ms, ttft_ms,
    input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd, priced_revision,
    client_ip, user_agent, end_user, tags, failures, revision`

// A version says which of the rows of one entry counts: the greatest. Its upper bits count how
// often the entry was priced anew; below them is the time at which the row was written, inverted,
// so that the first counts, whatever is sent later under its identity.
const (
	versionBits = 52 // microseconds until the year 2112
	versionMask = 1<<versionBits - 1
)

// firstVersion is that of an entry that is written now.
func firstVersion(now time.Time) uint64 { return versionMask - uint64(now.UnixMicro())&versionMask }

// nextVersion is that of an entry that had another and is priced anew.
func nextVersion(before uint64, now time.Time) (uint64, error) {
	times := before>>versionBits + 1
	if times >= 1<<(64-versionBits) {
		return 0, fmt.Errorf("an entry cannot be priced anew more than %d times", times-1)
	}
	return times<<versionBits | firstVersion(now), nil
}

// minTime and maxTime bound the times of entries: beyond them the functions of ClickHouse that cut
// times wrap around.
func minTime() time.Time { return time.Unix(0, 0).UTC() }
func maxTime() time.Time { return time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC) }

// A refusal says why an entry would not fit the table.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// fits reports whether the table can hold an entry; everything else fits by its type.
func fits(e *logbuf.Entry) error {
	switch {
	case e.Time.Before(minTime()) || !e.Time.Before(maxTime()):
		return &refusal{"the time of the entry is not between 1970 and 2105"}
	case int(int32(e.Status)) != e.Status:
		return &refusal{"the status does not fit into 32 bits"}
	case int(int32(e.Attempts)) != e.Attempts:
		return &refusal{"the number of attempts does not fit into 32 bits"}
	}
	return nil
}

// appendLog appends the row of an entry that fits.
func appendLog(b []byte, e *logbuf.Entry, version uint64) ([]byte, error) {
	b = appendInt64(b, e.Time.UnixMicro())
	b = append(b, e.ID[:]...)
	b = appendUint64(b, version)
	b = appendString(b, e.RequestID)
	b = appendString(b, e.Balancer)
	b = appendInt64(b, e.KeyID)
	b = appendString(b, e.Project)
	b = appendInt64(b, e.ProviderID)
	b = appendString(b, e.Namespace)
	b = appendString(b, e.Model)
	b = appendString(b, e.UpstreamModel)
	b = appendString(b, e.Group)
	b = appendString(b, e.Endpoint)
	b = appendInt32(b, int32(e.Status)) //nolint:gosec // fits
	b = appendString(b, e.Error)
	b = appendInt32(b, int32(e.Attempts)) //nolint:gosec // fits
	b = appendBool(b, e.Stream)
	for _, n := range [...]int64{
		e.LatencyMS, e.TTFTMS, e.InputTokens, e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens,
	} {
		b = appendInt64(b, n)
	}
	if b = appendBool(b, e.CostNanoUSD == nil); e.CostNanoUSD != nil {
		b = appendInt64(b, *e.CostNanoUSD)
	}
	b = appendInt64(b, e.PricedRevision)
	b = appendString(b, e.ClientIP)
	b = appendString(b, e.UserAgent)
	b = appendString(b, e.User)
	b = appendTags(b, e.Tags)
	failures := ""
	if len(e.Failures) > 0 {
		text, err := json.Marshal(e.Failures)
		if err != nil {
			return b, err
		}
		failures = string(text)
	}
	b = appendString(b, failures)
	return appendString(b, e.Revision), nil
}

// appendLate appends the row of usage_late of an entry that fits.
func appendLate(b []byte, e *logbuf.Entry, version uint64) []byte {
	flag := func(is bool) int64 {
		if is {
			return 1
		}
		return 0
	}
	cost := int64(0)
	if e.CostNanoUSD != nil {
		cost = *e.CostNanoUSD
	}
	b = appendInt64(b, e.Time.UnixMicro())
	b = append(b, e.ID[:]...)
	b = appendUint64(b, version)
	b = appendInt64(b, e.KeyID)
	b = appendString(b, e.Project)
	b = appendInt64(b, e.ProviderID)
	b = appendString(b, e.Namespace)
	b = appendString(b, e.Model)
	b = appendString(b, e.Group)
	for _, n := range [...]int64{1, flag(e.Failed()), flag(e.CostNanoUSD == nil)} {
		b = appendInt64(b, n)
	}
	for _, n := range [...]int64{e.InputTokens, e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens, cost} {
		b = appendInt128(b, n)
	}
	return b
}

// appendTags appends a map; equal ones are equal bytes.
func appendTags(b []byte, tags map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(tags)))
	if len(tags) == 0 {
		return b
	}
	for _, name := range slices.SortedFunc(maps.Keys(tags), cmp.Compare[string]) {
		b = appendString(appendString(b, name), tags[name])
	}
	return b
}

// readLog reads a row of logColumns.
func readLog(r *rowReader) (e logbuf.Entry, version uint64) {
	e.Time = time.UnixMicro(r.int64()).UTC()
	copy(e.ID[:], r.bytes(16))
	version = r.uint64()
	e.RequestID, e.Balancer = r.string(), r.string()
	e.KeyID = r.int64()
	e.Project = r.string()
	e.ProviderID = r.int64()
	for _, s := range []*string{&e.Namespace, &e.Model, &e.UpstreamModel, &e.Group, &e.Endpoint} {
		*s = r.string()
	}
	e.Status = int(r.int32())
	e.Error = r.string()
	e.Attempts = int(r.int32())
	e.Stream = r.bool()
	for _, n := range []*int64{
		&e.LatencyMS, &e.TTFTMS, &e.InputTokens, &e.CacheReadTokens, &e.CacheWriteTokens, &e.OutputTokens,
	} {
		*n = r.int64()
	}
	if null := r.bool(); !null {
		e.CostNanoUSD = new(r.int64())
	}
	e.PricedRevision = r.int64()
	e.ClientIP, e.UserAgent, e.User = r.string(), r.string(), r.string()
	if n := r.length(); n > 0 {
		e.Tags = make(map[string]string, n)
		for range n {
			name := r.string()
			e.Tags[name] = r.string()
		}
	}
	if failures := r.string(); failures != "" && r.err == nil {
		r.err = json.Unmarshal([]byte(failures), &e.Failures)
	}
	e.Revision = r.string()
	return e, version
}

// readLogs reads all rows, and the versions of theirs.
func readLogs(answer []byte) (entries []logbuf.Entry, versions []uint64, err error) {
	r := rowReader{rest: answer}
	for r.more() {
		e, version := readLog(&r)
		entries, versions = append(entries, e), append(versions, version)
	}
	return entries, versions, r.err
}
