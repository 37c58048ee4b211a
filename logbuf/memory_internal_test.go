package logbuf

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestMemoryKeepsOrder puts, reads and settles batches of every size, and expects each entry once, in
// order, whether its chunk was packed before it was read, between two reads, or never.
func TestMemoryKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory(1<<20, func(int) {})
		var put, read int64
		var unsettled []int
		long := strings.Repeat("x", rapid.IntRange(0, 8<<10).Draw(t, "length"))
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				p := &packed{}
				for range rapid.IntRange(1, 300).Draw(t, "entries") {
					p.add(&Entry{ID: uuid.New(), Time: time.UnixMicro(put), KeyID: put, Error: long})
					put++
				}
				if err := m.put(t.Context(), p, time.Time{}); err != nil {
					t.Fatal(err)
				}
			},
			"read": func(t *rapid.T) {
				if len(unsettled) == len(m.inflight.batches) {
					return // the third batch would use the memory of the first
				}
				b, err := m.read(t.Context(), rapid.IntRange(1, 700).Draw(t, "limit"))
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range b.Entries {
					if e.KeyID != read || e.Time.UnixMicro() != read || e.Error != long {
						t.Fatalf("entry %d of a batch is number %d, want %d", i, e.KeyID, read)
					}
					read++
				}
				unsettled = append(unsettled, len(b.Entries))
			},
			"settle": func(t *rapid.T) {
				if len(unsettled) == 0 {
					return
				}
				before := m.count
				if _, err := m.settle(); err != nil {
					t.Fatal(err)
				}
				if before-m.count != unsettled[0] {
					t.Fatalf("%d entries are settled, want %d", before-m.count, unsettled[0])
				}
				unsettled = unsettled[1:]
			},
			"": func(t *rapid.T) {
				waiting := 0
				for _, c := range m.chunks {
					waiting += c.count
				}
				if int64(waiting) != put-read {
					t.Fatalf("%d entries wait, want %d", waiting, put-read)
				}
			},
		})
	})
}

// TestMemoryPacksBacklog compares what a long backlog takes with the records in it.
func TestMemoryPacksBacklog(t *testing.T) {
	m := newMemory(1<<20, func(int) {})
	records, p := 0, &packed{}
	for i := range 50_000 {
		p.reset()
		p.add(&Entry{
			ID: uuid.New(), Time: time.Now(), KeyID: int64(i % 100), Model: "vendor/model", Status: 200,
			InputTokens: int64(i), RequestID: fmt.Sprintf("req-%d", i), UserAgent: "an-ordinary-client/2.8.1",
		})
		records += len(p.records)
		if err := m.put(t.Context(), p, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for i, c := range m.chunks {
		kept += cap(c.records)
		if wait := i < unpacked || i == len(m.chunks)-1; c.packed == wait {
			t.Errorf("chunk %d of %d: packed is %t", i, len(m.chunks), c.packed)
		}
	}
	if kept > records*3/4 {
		t.Errorf("%d bytes are kept for %d bytes of records", kept, records)
	}
}
