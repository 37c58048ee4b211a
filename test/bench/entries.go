package bench

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	batchSize = 5000 // the server's default
	arraySize = 100  // entries a request
	keys      = 520
)

// An entrySet is what every measurement writes: access logs as a busy gateway
// makes them, in the order in which requests end, which is not that in which they began; of
// two days in turn, so that each batch goes to two partitions. 520 keys make at least 1,000
// groups of usage in each batch of 5,000.
type entrySet struct {
	entries []logbuf.Entry
	bodies  [][]byte // the same as requests, each a JSON array
}

func newEntrySet(n int) *entrySet {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(-36 * time.Hour)
	s := &entrySet{entries: make([]logbuf.Entry, n)}
	for i := range s.entries {
		at := noon.Add(time.Duration(i/2) * 100 * time.Microsecond)
		if i%2 == 0 {
			at = at.Add(-24 * time.Hour)
		}
		key := i / 2 % keys
		cost := int64(1000 + random.IntN(1_000_000))
		e := logbuf.Entry{
			ID: uuidV7(at, random), Time: at, RequestID: fmt.Sprintf("req_%016x", random.Uint64()), Balancer: "balancer-1",
			KeyID: int64(1000 + key), ProviderID: int64(1 + key%10), Namespace: "default",
			Model: fmt.Sprintf("model-%d", key%20), UpstreamModel: fmt.Sprintf("vendor/model-%d-2026-01-01", key%20),
			Group: "default", Endpoint: "/v1/chat/completions", Status: 200, Attempts: 1, Stream: key%3 == 0,
			LatencyMS: int64(200 + random.IntN(5000)), TTFTMS: int64(50 + random.IntN(500)),
			InputTokens: int64(random.IntN(8000)), CacheReadTokens: int64(random.IntN(2000)),
			OutputTokens: int64(random.IntN(1500)),
			CostNanoUSD:  &cost, ClientIP: fmt.Sprintf("10.%d.%d.%d", key%4, key%250, random.IntN(250)),
			UserAgent: "openai-python/2.8.1", Revision: "3-12077",
		}
		if random.IntN(50) == 0 {
			e.Status, e.Error = 429, "upstream: rate limit reached for requests"
		}
		s.entries[i] = e
	}
	ended := func(e *logbuf.Entry) time.Duration {
		return e.Time.Sub(e.Time.Truncate(24*time.Hour)) + time.Duration(e.LatencyMS)*time.Millisecond
	}
	slices.SortStableFunc(s.entries, func(a, b logbuf.Entry) int { return cmp.Compare(ended(&a), ended(&b)) })
	for i := range s.entries { // side by side in memory, as a queue reads them
		for _, text := range []*string{&s.entries[i].RequestID, &s.entries[i].Model, &s.entries[i].UpstreamModel,
			&s.entries[i].ClientIP} {
			*text = strings.Clone(*text)
		}
	}
	for array := range slices.Chunk(s.entries, arraySize) {
		body, err := json.Marshal(array)
		if err != nil {
			panic(err) // of our own entries
		}
		s.bodies = append(s.bodies, body)
	}
	return s
}

// uuidV7 is the id that a balancer would have made at a time (RFC 9562).
func uuidV7(at time.Time, random *rand.Rand) (id uuid.UUID) {
	//nolint:gosec // after 1970
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|random.Uint64()&0xfff)
	binary.BigEndian.PutUint64(id[8:], 1<<63|random.Uint64()>>2)
	return id
}

// groups counts the groups of usage in the first batch.
func (s *entrySet) groups() int {
	type group struct {
		hour                    time.Time
		key, provider           int64
		namespace, model, route string
	}
	seen := map[group]bool{}
	for _, e := range s.entries[:min(batchSize, len(s.entries))] {
		seen[group{e.Time.Truncate(time.Hour), e.KeyID, e.ProviderID, e.Namespace, e.Model, e.Group}] = true
	}
	return len(seen)
}
