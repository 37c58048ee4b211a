package conformance

import (
	"fmt"
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
			_, err := s.tables.Holds.Edit(s.ctx, holds[0].ID,
				func(h *catalog.Hold) error { h.Status = catalog.Disabled; return nil })
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
