package conformance

import (
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
