package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

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

// beatWindow is how long a beat stands there, so that a reader that looks at least every 6 s meets it.
const beatWindow = 6500 * time.Millisecond

// stale lets no control plane be heard of, until the reader refuses everything, and then shows it beats that say
// nothing. Another reader, which starts meanwhile, serves nothing before there is a good one.
func (s *script) stale() (err error) {
	before, err := s.read()
	if err != nil {
		return err
	}
	s.silent.Store(true)
	defer s.silent.Store(false)
	time.Sleep(2500 * time.Millisecond)
	began := time.Now()
	if err := s.writeBeat(s.ctx, func(*snapshot.Beat) {}); err != nil {
		return err
	}
	time.Sleep(beatWindow)
	old := func(b *snapshot.Beat) { b.At = b.At.Add(-time.Hour); s.signBeat(b) } // the greatest counts
	if err := s.writeBeat(s.ctx, old); err != nil {
		return err
	}
	if err := s.becomesOutdated(began); err != nil {
		return err
	}
	fresh, err := s.start(s.ctx, s.config)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := fresh.Stop(); err == nil {
			err = stopErr
		}
	}()
	wrong := map[string]func(*snapshot.Beat){
		"of a position that it has not reached": func(b *snapshot.Beat) { b.Position.Revision += 1000; s.signBeat(b) },
		"of another catalog":                    func(b *snapshot.Beat) { b.Store = "another"; s.signBeat(b) },
	}
	if s.keys != nil {
		wrong["with the signature of another"] = func(b *snapshot.Beat) {
			*b = snapshot.Beat{Store: b.Store, Position: b.Position, At: b.At.Add(time.Microsecond), Seal: b.Seal, Sig: b.Sig}
		}
	}
	for what, spoil := range wrong {
		for shown := time.Now(); time.Since(shown) < beatWindow; time.Sleep(250 * time.Millisecond) {
			if err := s.writeBeat(s.ctx, spoil); err != nil {
				return err
			}
			if got, err := s.reader.Position(); err != nil || !got.Outdated {
				return cmp.Or(err, fmt.Errorf("it serves because of a beat %s", what))
			}
			if got, err := fresh.Position(); err != nil || got.Position != (snapshot.Position{}) {
				return cmp.Or(err, fmt.Errorf("a reader that starts takes what no control plane confirms, beside a beat %s", what))
			}
		}
	}
	s.silent.Store(false)
	first := s.reader
	defer func() { s.reader = first }()
	for _, r := range []Reader{first, fresh} {
		s.reader = r
		if err := s.until(func() error { return s.at(before.head) }); err != nil {
			return err
		}
	}
	return nil
}

// becomesOutdated waits until the reader refuses everything, MaxStale after a time.
func (s *script) becomesOutdated(began time.Time) error {
	for {
		got, err := s.reader.Position()
		took := time.Since(began)
		switch {
		case err != nil:
			return err
		case got.Outdated && took < maxStale-8*time.Second:
			return fmt.Errorf("it refuses after %s, want %s", took, maxStale)
		case got.Outdated:
			return nil
		case took > maxStale+7*time.Second:
			return fmt.Errorf("it serves still after %s without a control plane", took)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// futureBeat shows a beat that is further ahead than MaxStale, and no other.
func (s *script) futureBeat() error {
	s.silent.Store(true)
	time.Sleep(2500 * time.Millisecond)
	spoil := func(b *snapshot.Beat) { b.At = b.At.Add(time.Hour); s.signBeat(b) }
	if err := s.writeBeat(s.ctx, spoil); err != nil {
		return err
	}
	return s.until(func() error {
		got, err := s.reader.Position()
		if err == nil && !got.Outdated {
			err = errors.New("it serves because of a beat of the future")
		}
		return err
	})
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
