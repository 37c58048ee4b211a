package model

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// A server is a publisher, and what somebody can do who may write to its data and holds no sync key.
type server interface {
	snapshot.Publisher
	snapshot.Leaser

	fields() snapshot.Fields // of the head; nil: there is none
	setFields(f snapshot.Fields)
	document(k catalog.Kind) (key string, doc []byte) // any of a kind; nil: there is none
	setDocument(k catalog.Kind, key string, doc []byte)
	setBeat(text string)
	stray(r int)            // puts something after what was published
	save() (restore func()) // keeps everything
	wipe()
}

// memory is the in-memory publisher.
type memory struct{ *memstore.Publisher }

func (m memory) fields() (f snapshot.Fields) {
	m.Tamper(func(c *memstore.Contents) { f = maps.Clone(c.Head) })
	return f
}

func (m memory) setFields(f snapshot.Fields) {
	m.Tamper(func(c *memstore.Contents) { c.Head = maps.Clone(f) })
}

func (m memory) document(k catalog.Kind) (key string, doc []byte) {
	m.Tamper(func(c *memstore.Contents) {
		if len(c.Docs[k]) > 0 {
			key = slices.Sorted(maps.Keys(c.Docs[k]))[0]
			doc = slices.Clone(c.Docs[k][key])
		}
	})
	return key, doc
}

func (m memory) setDocument(k catalog.Kind, key string, doc []byte) {
	m.Tamper(func(c *memstore.Contents) {
		if c.Docs[k] == nil {
			c.Docs[k] = make(map[string][]byte)
		}
		if c.Docs[k][key] = slices.Clone(doc); doc == nil {
			delete(c.Docs[k], key)
		}
	})
}

func (m memory) setBeat(text string) {
	m.Tamper(func(c *memstore.Contents) { c.Beat = []byte(text) })
}

// stray also forges: it lets a delta say something else, or repeat what was.
func (m memory) stray(r int) {
	m.Tamper(func(c *memstore.Contents) {
		c.Stray = fmt.Sprint("a stray ", r)
		if n := len(c.Deltas); n > 0 {
			forged := c.Deltas[r%n]
			forged.Changes = append(
				slices.Clone(forged.Changes),
				snapshot.Change{Kind: catalog.KindKey, Key: "forged", Doc: []byte(`{}`)},
			)
			c.Deltas[r%n] = forged
		}
	})
}

func (m memory) save() (restore func()) {
	var saved memstore.Contents
	m.Tamper(func(c *memstore.Contents) { saved = cloneContents(c) })
	return func() { m.Tamper(func(c *memstore.Contents) { *c = cloneContents(&saved) }) }
}

func cloneContents(c *memstore.Contents) memstore.Contents {
	docs := make(map[catalog.Kind]map[string][]byte)
	for kind, of := range c.Docs {
		docs[kind] = maps.Clone(of)
	}
	return memstore.Contents{
		Head:   maps.Clone(c.Head),
		Docs:   docs,
		Deltas: slices.Clone(c.Deltas),
		Stray:  c.Stray,
		Beat:   c.Beat,
	}
}

func (m memory) wipe() {
	m.Tamper(
		func(c *memstore.Contents) { *c = memstore.Contents{Docs: make(map[catalog.Kind]map[string][]byte)} },
	)
}

// remote is a prefix of a real Redis.
type remote struct {
	*redisstore.Publisher
	client *redis.Client
	tag    string
}

func newRemote(addr string) remote {
	client := redis.NewClient(&redis.Options{Addr: addr})
	prefix := "model-" + rand.Text()
	return remote{
		redisstore.New(client, &redisstore.Options{Prefix: prefix, Logger: quiet()}),
		client,
		"{" + prefix + "}:",
	}
}

func (m remote) close() {
	m.wipe()
	_ = m.client.Close()
}

func (m remote) fields() snapshot.Fields {
	return m.client.HGetAll(context.Background(), m.tag+"head").Val()
}

func (m remote) setFields(f snapshot.Fields) {
	ctx := context.Background()
	_, _ = m.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Unlink(ctx, m.tag+"head")
		for name, value := range f {
			p.HSet(ctx, m.tag+"head", name, value)
		}
		return nil
	})
}

func (m remote) document(k catalog.Kind) (key string, doc []byte) {
	keys := m.client.HKeys(context.Background(), m.tag+string(k)).Val()
	if len(keys) == 0 {
		return "", nil
	}
	slices.Sort(keys)
	doc, _ = m.client.HGet(context.Background(), m.tag+string(k), keys[0]).Bytes()
	return keys[0], doc
}

func (m remote) setDocument(k catalog.Kind, key string, doc []byte) {
	if doc == nil {
		m.client.HDel(context.Background(), m.tag+string(k), key)
		return
	}
	m.client.HSet(context.Background(), m.tag+string(k), key, doc)
}

func (m remote) setBeat(text string) { m.client.Set(context.Background(), m.tag+"beat", text, 0) }

// stray adds an entry of a later epoch, one that begins a publish, or one that repeats or forges the last.
func (m remote) stray(r int) {
	ctx := context.Background()
	add := func(id string, values any) {
		m.client.XAdd(ctx, &redis.XAddArgs{Stream: m.tag + "changes", ID: id, Values: values})
	}
	last := m.client.XRevRangeN(ctx, m.tag+"changes", "+", "-", 1).Val()
	head := m.fields()
	if r%3 == 0 || len(last) == 0 || head["epoch"] == "" {
		add("99999999999999-0", []any{"x", "y"})
		return
	}
	values := maps.Clone(last[0].Values)
	if r%3 == 1 {
		values["changes"] = `[{"kind":"keys","key":"forged","op":"put","doc":"{}"}]`
		values["from"] = head["epoch"] + "-" + head["revision"]
	}
	add(head["epoch"]+"-"+head["revision"]+"5999", values)
}

func (m remote) keys() []string { return m.client.Keys(context.Background(), m.tag+"*").Val() }

func (m remote) save() (restore func()) {
	ctx := context.Background()
	dumps := make(map[string]string)
	for _, key := range m.keys() {
		dumps[key] = m.client.Dump(ctx, key).Val()
	}
	return func() {
		m.wipe()
		for key, dump := range dumps {
			m.client.RestoreReplace(ctx, key, 0, dump)
		}
	}
}

func (m remote) wipe() {
	if keys := m.keys(); len(keys) > 0 {
		m.client.Unlink(context.Background(), keys...)
	}
}
