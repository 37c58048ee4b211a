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
		got, err := s.reader.Position()
		if err != nil {
			return err
		}
		if got.Position != (snapshot.Position{}) {
			return fmt.Errorf("the reader is at %s", got.Position)
		}
		time.Sleep(250 * time.Millisecond)
	}
	return nil
}

func (s *script) first() error { return s.publish() }

func (s *script) documents() error {
	_, err := s.tables.Update(s.ctx, func(tx *catalog.Tx) error {
		for i := range 3 {
			if _, err := tx.Providers.Create(s.ctx, catalog.Provider{
				Name: fmt.Sprint("provider ", i), Type: "openai", APIKey: catalog.NewSecret(fmt.Sprint("sk-conformance-", i)),
				Models: []string{"large-2026", fmt.Sprint("small-",
					i)}, Options: map[string]any{"note": "ünïcode \"quoted\" \\ <&>"},
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
		if _, err := tx.Bindings.Create(s.ctx,
			catalog.Binding{Model: "vendor/large.v2", SelectorValue: "large-2026"}); err != nil {
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
	if err := s.projectsAndHolds(); err != nil {
		return err
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
	if _, err := s.tables.Providers.Edit(s.ctx, s.provider(),
		func(p *catalog.Provider) error { p.ExternalID = "not published"; return nil }); err != nil {
		return err
	}
	return s.publish()
}

// projectsAndHolds makes a project, a key in it, and holds of both and of a provider, changes them,
// and lets them go one after the other.
func (s *script) projectsAndHolds() error {
	p, err := s.tables.Projects.Create(s.ctx, catalog.Project{Name: "acme", Models: []string{"*"}})
	if err != nil {
		return err
	}
	key, err := s.tables.Keys.Create(s.ctx, catalog.Key{Name: "in a project", Project: p.Name})
	if err != nil {
		return err
	}
	var holds []catalog.Hold
	for _, target := range []catalog.HoldTarget{{Project: p.Name}, {KeyID: key.ID}, {ProviderID: s.provider()}} {
		h, err := s.tables.Holds.Create(s.ctx, catalog.Hold{Target: target.String(), Message: "à l'arrêt"})
		if err != nil {
			return err
		}
		holds = append(holds, h)
		if err := s.publish(); err != nil {
			return err
		}
	}
	for _, step := range []func() error{
		func() error {
			_, err := s.tables.Holds.Create(s.ctx, catalog.Hold{Target: holds[1].Target, Reason: catalog.HoldBudget})
			return err
		},
		func() error {
			_, err := s.tables.Holds.Edit(s.ctx, holds[0].ID, func(h *catalog.Hold) error { h.Status = catalog.Disabled; return nil })
			return err
		},
		func() error {
			_, err := s.tables.Projects.Edit(s.ctx, p.ID, func(p *catalog.Project) error { p.RPMLimit = 60; return nil })
			return err
		},
		func() error { _, err := s.tables.Keys.Delete(s.ctx, key.ID, 0); return err }, // its holds go, too
		func() error { _, err := s.tables.Projects.Delete(s.ctx, p.ID, 0); return err },
		func() error { _, err := s.tables.Holds.Delete(s.ctx, holds[2].ID, 0); return err },
	} {
		if err := step(); err != nil {
			return err
		}
		if err := s.publish(); err != nil {
			return err
		}
	}
	return nil
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
	if err := s.forge(s.keys, func(*content) {}, func(f snapshot.Fields) {
		f["of_the_future"] = "a=b"
		_ = sign("head", f) // SyncKeys can be read
	}); err != nil {
		return err
	}
	return s.follows()
}

func (s *script) large() error {
	if _, err := s.tables.Update(s.ctx, func(tx *catalog.Tx) error { return s.createKeys(tx, 1500) }); err != nil {
		return err
	}
	return s.publish()
}

// givenUp begins a publish in parts, which nobody ends, and lets another take over.
func (s *script) givenUp() error {
	before, err := s.read()
	if err != nil {
		return err
	}
	at := before.head.Position
	to := snapshot.Position{Epoch: at.Epoch, Revision: at.Revision + 1}
	err = s.rdb.XAdd(s.ctx, &redis.XAddArgs{Stream: s.key("changes"), ID: to.String() + "000", Values: []any{
		"from", at.String(), "to", to.String(), "chain", strings.Repeat("0", 32), "part", "1", "last", "0", "reset", "0",
		"changes", `[{"kind":"keys","key":"` + strings.Repeat("0", 64) + `","op":"put","doc":"{\"id\":1}"}]`,
	}}).Err()
	if err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	return s.published()
}

// published changes something, and publishes until that works: what somebody left is in the way for a while.
func (s *script) published() error {
	if _, err := s.tables.Keys.Create(s.ctx, catalog.Key{Name: "another"}); err != nil {
		return err
	}
	return s.until(s.publish)
}

func (s *script) unknownKind() error {
	err := s.forge(s.keys, func(c *content) {
		for i := range 5 {
			c.docs[name{"of_the_future", fmt.Sprint(i)}] = []byte("no JSON")
		}
	}, nil)
	if err != nil {
		return err
	}
	if err := s.follows(); err != nil {
		return err
	}
	if err := s.forgeDelta(snapshot.Change{Kind: "of_the_future", Key: "x", Doc: []byte("no JSON either")}); err != nil {
		return err
	}
	if err := s.follows(); err != nil {
		return err
	}
	return s.published()
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
		return fmt.Errorf("the last report is of %s, now is %s", n.SeenAt, list.Now)
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

func (s *script) flushed() error {
	before, err := s.read()
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
	return s.refuses(func() error {
		return s.forge(s.keys, func(c *content) { c.docs, c.head.Forced = map[name][]byte{}, false }, nil)
	})
}

func (s *script) forcedEmpty() error {
	err := s.forge(s.keys, func(c *content) { c.docs, c.head.Forced = map[name][]byte{}, true }, nil)
	if err != nil {
		return err
	}
	if err := s.follows(); err != nil {
		return err
	}
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{NewEpoch: true}); err != nil {
		return err
	}
	return s.follows()
}

// rotation publishes under the other key of the list.
func (s *script) rotation() error {
	first, second, _ := strings.Cut(SyncKeys, ",")
	keys, err := snapshot.ParseKeys(second + "," + first)
	if err != nil {
		return err
	}
	s.keys, s.relay = keys, s.newRelay(keys)
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{}); err != nil {
		return err
	}
	if err := s.follows(); err != nil {
		return err
	}
	return s.published()
}

func (s *script) connectionLost() error {
	for range 3 {
		s.proxy.cut()
		if err := s.published(); err != nil {
			return err
		}
	}
	return nil
}

// restart makes Redis refuse connections for a while, during which something is published.
func (s *script) restart() error {
	before, err := s.read()
	if err != nil {
		return err
	}
	start := s.proxy.stop()
	if err := s.change(); err != nil {
		return err
	}
	if err := s.stays(before); err != nil {
		return err
	}
	if err := start(); err != nil {
		return err
	}
	return s.follows()
}

// stale lets no control plane be heard of, but for beats that say nothing.
func (s *script) stale() error {
	before, err := s.read()
	if err != nil {
		return err
	}
	s.silent.Store(true)
	defer s.silent.Store(false)
	time.Sleep(2500 * time.Millisecond)
	began := time.Now()
	wrong := []func(*snapshot.Beat){
		func(b *snapshot.Beat) { b.Position.Revision += 1000; s.signBeat(b) }, // of what it has not reached
		func(b *snapshot.Beat) { b.Store = "another"; s.signBeat(b) },
		func(b *snapshot.Beat) { b.At = b.At.Add(-time.Hour); s.signBeat(b) },
	}
	if s.keys != nil {
		wrong = append(wrong, func(b *snapshot.Beat) { // with the signature of another
			*b = snapshot.Beat{Store: b.Store, Position: b.Position, At: b.At.Add(time.Microsecond), Seal: b.Seal, Sig: b.Sig}
		})
	}
	for i := 0; ; i++ {
		got, err := s.reader.Position()
		if err != nil {
			return err
		}
		took := time.Since(began)
		if got.Outdated {
			if took < maxStale-8*time.Second {
				return fmt.Errorf("it refuses after %s, want %s", took, maxStale)
			}
			break
		}
		if took > maxStale+7*time.Second {
			return fmt.Errorf("it serves still after %s without a control plane", took)
		}
		if err := s.writeBeat(s.ctx, wrong[i%len(wrong)]); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
	s.silent.Store(false)
	return s.until(func() error { return s.at(before.head) })
}

func (s *script) signBeat(b *snapshot.Beat) {
	head, err := s.pub.Head(s.ctx)
	if err != nil {
		return
	}
	if keys, err := s.keys.Activate(head.Seal); err == nil {
		keys.SignBeat(b)
	}
}

// left checks that there is no report any more.
func (s *script) left() error {
	return s.until(func() error {
		list, err := s.pub.Nodes(s.ctx, snapshot.NodeQuery{})
		if err == nil && len(list.Nodes) > 0 {
			err = errors.New("the report of a reader that ended is still there")
		}
		return err
	})
}

func (s *script) reports() error {
	head, err := s.pub.Head(s.ctx)
	if err != nil {
		return err
	}
	time.Sleep(6 * time.Second)
	return s.reported(head.Position, false)
}
