package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

// batch collects changes to staging hashes, in order for each hash, and sends
// them in transactions of bounded size. Each transaction also sets the TTL of the hashes it
// touches, so that there is never one without.
type batch struct {
	st    *staging
	cmds  []batchCmd
	last  map[string]int // by key, its last among cmds
	docs  int
	bytes int
}

// batchCmd is one HSET or HDEL of many fields.
type batchCmd struct {
	key    string
	delete bool
	fields []any
}

func (st *staging) batch() *batch { return &batch{st: st, last: make(map[string]int)} }

// add appends a change, and sends what there is when that is enough.
func (b *batch) add(ctx context.Context, c snapshot.Change) error {
	kind := b.st.p.index[c.Kind]
	if kind == 0 {
		return unknownKind("stage", c.Kind)
	}
	if err := checkText(c.Kind, c.Key, c.Doc); err != nil {
		return err
	}
	key := b.st.keys[kind-1]
	last, ok := b.last[key]
	if !ok || b.cmds[last].delete != (c.Doc == nil) {
		last = len(b.cmds)
		b.last[key] = last
		b.cmds = append(b.cmds, batchCmd{key: key, delete: c.Doc == nil})
	}
	cmd := &b.cmds[last]
	cmd.fields = append(cmd.fields, c.Key)
	if c.Doc != nil {
		cmd.fields = append(cmd.fields, c.Doc)
	}
	b.docs++
	b.bytes += len(c.Key) + len(c.Doc)
	if b.docs < batchDocs && b.bytes < batchBytes {
		return nil
	}
	return b.flush(ctx)
}

// flush sends what there is.
func (b *batch) flush(ctx context.Context) error {
	if len(b.cmds) == 0 {
		return nil
	}
	_, err := b.st.p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, c := range b.cmds {
			if c.delete {
				pipe.Do(ctx, append([]any{"HDEL", c.key}, c.fields...)...)
			} else {
				pipe.HSet(ctx, c.key, c.fields...)
			}
		}
		for key := range b.last {
			pipe.PExpire(ctx, key, b.st.p.stagingTTL)
		}
		return nil
	})
	b.cmds, b.docs, b.bytes = nil, 0, 0
	clear(b.last)
	return err
}
