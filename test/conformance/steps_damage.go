package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/redis/go-redis/v9"
)

// entry returns the last entry of the stream, made to lead on from the head.
func (s *script) entry() (id string, fields map[string]any, err error) {
	head, err := s.pub.Head(s.ctx)
	if err != nil {
		return "", nil, err
	}
	at := head.Position
	to := snapshot.Position{Epoch: at.Epoch, Revision: at.Revision + 1}
	fields = map[string]any{
		"from": at.String(), "to": to.String(), "chain": strings.Repeat("0", 32), "part": "1", "last": "1", "reset": "0",
		"changes": "[]", "bytes": "0",
	}
	for n, v := range head.Fields() {
		fields[n] = v
	}
	fields["revision"] = fmt.Sprint(to.Revision)
	return to.String() + "999", fields, nil
}

func (s *script) addEntry(id string, fields map[string]any) error {
	return s.rdb.XAdd(s.ctx, &redis.XAddArgs{Stream: s.key("changes"), ID: id, Values: fields}).Err()
}

// unreadable puts an entry into the stream that is nobody's.
func (s *script) unreadable() error {
	before, err := s.read()
	if err != nil {
		return err
	}
	at := before.head.Position
	id := snapshot.Position{Epoch: at.Epoch, Revision: at.Revision + 1}.String() + "000"
	if err := s.addEntry(id, map[string]any{"changes": "["}); err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	return s.published()
}

// wrongDelta puts an entry into the stream that the digests in it do not cover.
func (s *script) wrongDelta() error {
	before, err := s.read()
	if err != nil {
		return err
	}
	id, fields, err := s.entry()
	if err != nil {
		return err
	}
	fields["changes"] = `[{"kind":"keys","key":"` + before.some(catalog.KindKey) + `","op":"delete"},` + // as many as before
		`{"kind":"keys","key":"` + strings.Repeat("0", 64) + `","op":"put","doc":"{\"id\":1}"}]`
	f := snapshot.Fields{}
	for n, v := range fields {
		if !slices.Contains([]string{"from", "to", "chain", "part", "last", "reset", "changes", "bytes"}, n) {
			f[n] = v.(string)
		}
	}
	if s.keys != nil {
		if err := sign("head", f); err != nil {
			return err
		}
		fields["sig"] = f["sig"]
	}
	if err := s.addEntry(id, fields); err != nil {
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

// wrongSignature publishes what nobody signed: in the stream alone, and as a whole.
func (s *script) wrongSignature() error {
	before, err := s.read()
	if err != nil {
		return err
	}
	id, fields, err := s.entry() // under the signature of the head before
	if err != nil {
		return err
	}
	if err := s.addEntry(id, fields); err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	return s.refuses(func() error {
		return s.forge(s.keys, func(*content) {}, func(f snapshot.Fields) { f["sig"] = strings.Repeat("0", 64) })
	})
}

// unsigned publishes a whole that is right but for that it names no key.
func (s *script) unsigned() error {
	return s.refuses(func() error { return s.forge(nil, func(*content) {}, nil) })
}

// damaged changes a byte of a document, and makes the reader load.
func (s *script) damaged() error {
	if err := s.forge(s.keys, func(*content) {}, nil); err != nil { // a whole: it has to load
		return err
	}
	if err := s.follows(); err != nil {
		return err
	}
	if err := s.reader.Pause(); err != nil {
		return err
	}
	before, err := s.read()
	if err != nil {
		return err
	}
	// A publish may have been on its way to the reader already, so there are two.
	for range 2 {
		if err := s.forge(s.keys, func(*content) {}, nil); err != nil {
			return err
		}
	}
	key := before.some(catalog.KindKey)
	spoilt := strings.Replace(string(before.docs[name{catalog.KindKey, key}]), `"status"`, `"statu5"`, 1)
	if err := s.rdb.HSet(s.ctx, s.key("keys"), key, spoilt).Err(); err != nil {
		return err
	}
	if err := s.reader.Resume(); err != nil {
		return err
	}
	return s.isDamaged(before)
}

// isDamaged checks that the reader stays where it was, reports damage, and goes on.
func (s *script) isDamaged(before *content) error {
	if err := s.stays(before); err != nil {
		return err
	}
	if err := s.until(func() error { return s.reported(before.head.Position, true) }); err != nil {
		return err
	}
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{NewEpoch: true}); err != nil {
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

func (s *script) notJSON() error {
	return s.refuses(func() error {
		return s.forge(s.keys, func(c *content) { c.docs[name{catalog.KindKey, c.some(catalog.KindKey)}] = []byte(`{"id":`) }, nil)
	})
}

func (s *script) format() error {
	return s.refuses(func() error { return s.forge(s.keys, func(c *content) { c.head.Format = 2 }, nil) })
}

func (s *script) foreign() error {
	return s.refuses(func() error {
		return s.forge(s.keys, func(c *content) { c.head.Store, c.head.Forced = "another", false }, nil)
	})
}

// samePosition publishes a whole that was made well, at the position of another. Without sync keys heads of equal
// position cannot be told apart before they are loaded.
func (s *script) samePosition() error {
	return s.refuses(func() error {
		return s.forge(s.keys, func(c *content) {
			c.head.Position.Revision--
			c.head.Mark = catalog.Mark(strings.Repeat("1", 32))
			delete(c.docs, name{catalog.KindKey, c.some(catalog.KindKey)})
		}, nil)
	})
}

// reported checks what the reader says about itself in the hash of nodes.
func (s *script) reported(at snapshot.Position, trouble bool) error {
	list, err := s.pub.Nodes(s.ctx, snapshot.NodeQuery{})
	if err != nil {
		return err
	}
	if len(list.Nodes) != 1 {
		return fmt.Errorf("%d nodes have reported, want one", len(list.Nodes))
	}
	switch n := list.Nodes[0]; {
	case list.Now.Sub(n.SeenAt) > 7*time.Second:
		return errors.New("the last report is more than 7 s old")
	case s.keys != nil && s.keys.VerifyNode(n) != nil:
		return errors.New("the signature of the report is wrong")
	case !slices.Equal(n.Kinds, snapshot.Kinds()):
		return fmt.Errorf("the reader reports the kinds %q, want %q", n.Kinds, snapshot.Kinds())
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
	newest, err := s.read()
	if err != nil {
		return err
	}
	for name, dump := range old {
		if err := s.rdb.RestoreReplace(s.ctx, s.key(name), 0, dump).Err(); err != nil {
			return err
		}
	}
	if err := s.keeps(newest); err != nil {
		return err
	}
	return s.published() // the feed leads from there to where the reader is
}
