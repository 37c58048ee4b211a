package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func (s *script) nothing() error {
	for range 4 {
		at, _, err := s.reader.Position()
		if err != nil {
			return err
		}
		if at != (snapshot.Position{}) {
			return fmt.Errorf("the reader is at %s", at)
		}
		time.Sleep(250 * time.Millisecond)
	}
	return nil
}

func (s *script) first() error {
	_, err := s.tables.Update(s.ctx, func(tx *catalog.Tx) error {
		for i := range 3 {
			if _, err := tx.Providers.Create(s.ctx, catalog.Provider{
				Name: fmt.Sprint("provider ", i), Type: "openai", APIKey: catalog.NewSecret(fmt.Sprint("sk-conformance-", i)),
				Models: []string{"large-2026", fmt.Sprint("small-", i)}, Options: map[string]any{"note": "ünïcode \"quoted\" \\ <&>"},
			}); err != nil {
				return err
			}
			if _, err := tx.Models.Create(s.ctx, catalog.Model{Name: fmt.Sprint("small-", i)}); err != nil {
				return err
			}
		}
		if _, err := tx.Models.Create(s.ctx, catalog.Model{Name: "vendor/large.v2"}); err != nil {
			return err
		}
		if _, err := tx.Bindings.Create(s.ctx, catalog.Binding{Model: "vendor/large.v2", SelectorValue: "large-2026"}); err != nil {
			return err
		}
		return s.createKeys(tx, 50)
	})
	if err != nil {
		return err
	}
	return s.publish()
}

func (s *script) createKeys(tx *catalog.Tx, n int) error {
	for i := range n {
		if _, err := tx.Keys.Create(s.ctx, catalog.Key{Name: fmt.Sprint("clé ", i)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) changes() error {
	keys, err := s.tables.Keys.List(s.ctx, catalog.Query{Limit: 10})
	if err != nil {
		return err
	}
	for i, k := range keys {
		switch i % 3 {
		case 0:
			_, err = s.tables.Keys.Delete(s.ctx, k.ID, 0)
		case 1:
			_, err = s.tables.Keys.Rotate(s.ctx, k.ID, time.Hour, 0)
		default:
			_, err = s.tables.Keys.Edit(s.ctx, k.ID, func(k *catalog.Key) error { k.RPMLimit += 60; return nil })
		}
		if err != nil {
			return err
		}
		if err := s.publish(); err != nil {
			return err
		}
	}
	// Several before it looks, and one that changes no document.
	if err := s.reader.Pause(); err != nil {
		return err
	}
	for i := range 20 {
		if _, err := s.tables.Keys.Create(s.ctx, catalog.Key{Name: fmt.Sprint("later ", i)}); err != nil {
			return err
		}
		if _, err := s.relay.Sync(s.ctx); err != nil {
			return err
		}
	}
	if err := s.reader.Resume(); err != nil {
		return err
	}
	if _, err := s.tables.Providers.Edit(s.ctx, s.provider(), func(p *catalog.Provider) error { p.ExternalID = "not published"; return nil }); err != nil {
		return err
	}
	return s.publish()
}

// provider returns the id of one.
func (s *script) provider() int64 {
	for p, err := range s.tables.Providers.All(s.ctx, catalog.Query{}) {
		if err == nil {
			return p.ID
		}
	}
	return 0
}

func (s *script) future() error {
	if err := s.rdb.HSet(s.ctx, s.key("head"), "of_the_future", "1").Err(); err != nil {
		return err
	}
	if _, err := s.tables.Keys.Create(s.ctx, catalog.Key{Name: "after the future"}); err != nil {
		return err
	}
	return s.publish()
}

func (s *script) large() error {
	if _, err := s.tables.Update(s.ctx, func(tx *catalog.Tx) error { return s.createKeys(tx, 1500) }); err != nil {
		return err
	}
	return s.publish()
}

func (s *script) resync() error {
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{}); err != nil {
		return err
	}
	return s.follows()
}

func (s *script) epoch() error {
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{NewEpoch: true}); err != nil {
		return err
	}
	return s.follows()
}

// gap publishes while the reader sleeps, and trims that from the stream.
func (s *script) gap() error {
	if err := s.reader.Pause(); err != nil {
		return err
	}
	for range 3 {
		if err := s.change(); err != nil {
			return err
		}
	}
	if err := s.rdb.XTrimMaxLen(s.ctx, s.key("changes"), 0).Err(); err != nil {
		return err
	}
	if err := s.change(); err != nil {
		return err
	}
	if err := s.reader.Resume(); err != nil {
		return err
	}
	return s.follows()
}

// change changes one document and publishes it.
func (s *script) change() error {
	if _, err := s.tables.Keys.Create(s.ctx, catalog.Key{Name: "another"}); err != nil {
		return err
	}
	_, err := s.relay.Sync(s.ctx)
	return err
}

// moving makes the reader load, again and again, while changes are published.
func (s *script) moving() error {
	for round := range 3 {
		if err := s.reader.Pause(); err != nil {
			return err
		}
		if err := s.change(); err != nil {
			return err
		}
		if err := s.rdb.XTrimMaxLen(s.ctx, s.key("changes"), 0).Err(); err != nil {
			return err
		}
		if err := s.reader.Resume(); err != nil {
			return err
		}
		for range 100 + 50*round {
			if err := s.change(); err != nil {
				return err
			}
		}
		if err := s.follows(); err != nil {
			return err
		}
	}
	return nil
}

// wrongDelta puts an entry into the stream, and into the hash, that the head's digest does not cover.
func (s *script) wrongDelta() error {
	before, err := s.pub.Load(s.ctx)
	if err != nil {
		return err
	}
	next := before.Head.Position
	next.Revision++
	entries, err := s.rdb.XRevRangeN(s.ctx, s.key("changes"), "+", "-", 1).Result()
	if err != nil || len(entries) == 0 {
		return errors.Join(err, errors.New("the stream is empty"))
	}
	entry := entries[0].Values
	entry["from"], entry["to"] = before.Head.Position.String(), next.String()
	entry["changes"] = `[{"kind":"keys","key":"` + strings.Repeat("0", 64) + `","op":"put","doc":"{\"id\":1}"}]`
	if err := s.rdb.XAdd(s.ctx, &redis.XAddArgs{Stream: s.key("changes"), ID: next.String(), Values: entry}).Err(); err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{NewEpoch: true}); err != nil {
		return err
	}
	return s.follows()
}

// damaged changes a byte of a document, and makes the reader load.
func (s *script) damaged() error {
	if err := s.reader.Pause(); err != nil {
		return err
	}
	var good []*snapshot.Snapshot // the first change may have been on its way to the reader already
	for range 2 {
		before, err := s.pub.Load(s.ctx)
		if err != nil {
			return err
		}
		good = append(good, before)
		if err := s.change(); err != nil {
			return err
		}
	}
	if err := s.rdb.XTrimMaxLen(s.ctx, s.key("changes"), 0).Err(); err != nil {
		return err
	}
	doc := good[0].Docs[0]
	spoilt := strings.Replace(string(doc.Doc), `"status"`, `"statu5"`, 1)
	if spoilt == string(doc.Doc) {
		return errors.New("the document has no status")
	}
	if err := s.rdb.HSet(s.ctx, s.key(string(doc.Kind)), doc.Key, spoilt).Err(); err != nil {
		return err
	}
	if err := s.reader.Resume(); err != nil {
		return err
	}
	time.Sleep(time.Second)
	at, _, err := s.reader.Position()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(good, func(g *snapshot.Snapshot) bool { return g.Head.Position == at })
	if i < 0 {
		return fmt.Errorf("the reader is at %s, where nothing was whole", at)
	}
	if err := s.stays(good[i]); err != nil {
		return err
	}
	if err := s.until(func() error { return s.reported(at, true) }); err != nil {
		return err
	}
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{}); err != nil {
		return err
	}
	if err := s.follows(); err != nil {
		return err
	}
	head, err := s.pub.Head(s.ctx)
	if err != nil {
		return err
	}
	return s.until(func() error { return s.reported(head.Position, false) })
}

// reported checks what the reader says about itself in the hash of nodes.
func (s *script) reported(at snapshot.Position, trouble bool) error {
	nodes, err := s.pub.Nodes(s.ctx)
	if err != nil {
		return err
	}
	if len(nodes) != 1 {
		return fmt.Errorf("%d nodes have reported, want one", len(nodes))
	}
	switch n := nodes[0]; {
	case time.Since(n.SeenAt).Abs() > 6*time.Second:
		return fmt.Errorf("the last report is of %s, now is %s", n.SeenAt, time.Now())
	case n.Position != at:
		return fmt.Errorf("the reader reports %s, want %s", n.Position, at)
	case trouble != (n.Error != ""):
		return fmt.Errorf("the reader reports the error %q; want one: %t", n.Error, trouble)
	}
	return nil
}

// back restores an older state of Redis.
func (s *script) back() error {
	old := map[string]string{}
	for _, name := range []string{"head", "providers", "models", "bindings", "keys", "changes"} {
		dump, err := s.rdb.Dump(s.ctx, s.key(name)).Result()
		if err != nil {
			return err
		}
		old[name] = dump
	}
	for range 3 {
		if err := s.change(); err != nil {
			return err
		}
	}
	if err := s.follows(); err != nil {
		return err
	}
	newest, err := s.pub.Load(s.ctx)
	if err != nil {
		return err
	}
	for name, dump := range old {
		if err := s.rdb.RestoreReplace(s.ctx, s.key(name), 0, dump).Err(); err != nil {
			return err
		}
	}
	if err := s.stays(newest); err != nil {
		return err
	}
	return s.publish() // the feed leads from there to where the reader is
}

func (s *script) flushed() error {
	before, err := s.pub.Load(s.ctx)
	if err != nil {
		return err
	}
	if err := s.clear(); err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	return s.publish()
}

// empty publishes an empty catalog over the reader's, as a wrong database would.
func (s *script) empty() error {
	before, err := s.pub.Load(s.ctx)
	if err != nil {
		return err
	}
	head := before.Head
	head.Position.Epoch++
	head.Digest, head.Counts, head.Forced = snapshot.Digest{}, snapshot.Counts{}, false
	s.keys.Sign(&head)
	if err := s.pub.Replace(s.ctx, &snapshot.Snapshot{Head: head}, nil); err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{NewEpoch: true, Force: true}); err != nil {
		return err
	}
	return s.follows()
}

func (s *script) reports() error {
	head, err := s.pub.Head(s.ctx)
	if err != nil {
		return err
	}
	time.Sleep(6 * time.Second)
	return s.reported(head.Position, false)
}
