package conformance

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// content is everything that is published at a position. It is a [snapshot.Loader].
type content struct {
	head snapshot.Head
	docs map[name][]byte
}

func (c *content) Begin(head snapshot.Head) ([]catalog.Kind, error) {
	c.docs = map[name][]byte{}
	return slices.Collect(maps.Keys(head.Counts)), nil
}

func (c *content) Add(changes []snapshot.Change) error {
	for _, d := range changes {
		if d.Doc == nil {
			delete(c.docs, name{d.Kind, d.Key})
		} else {
			c.docs[name{d.Kind, d.Key}] = d.Doc
		}
	}
	return nil
}

func (c *content) End(head snapshot.Head) error { c.head = head; return nil }

// some returns the key of a document of a kind; the first, so that it is always the same.
func (c *content) some(kind catalog.Kind) string {
	var keys []string
	for n := range c.docs {
		if n.kind == kind {
			keys = append(keys, n.key)
		}
	}
	return slices.Min(keys)
}

func (s *script) read() (*content, error) {
	c := &content{}
	return c, s.pub.Load(s.ctx, c)
}

// forge publishes a whole that is what is published now but for what change does to it, at the
// next revision, signed with the keys. finish may change the head's fields; it signs again if it wants.
func (s *script) forge(keys *snapshot.Keys, change func(c *content), finish func(f snapshot.Fields)) error {
	c, err := s.read()
	if err != nil {
		return err
	}
	over := c.head.Base()
	c.head.Position.Revision++
	change(c)
	if err := c.sign(keys); err != nil {
		return err
	}
	var docs []snapshot.Change
	for n, doc := range c.docs {
		docs = append(docs, snapshot.Change{Kind: n.kind, Key: n.key, Doc: doc})
	}
	if finish != nil {
		f := c.head.Fields()
		finish(f)
		if c.head, err = snapshot.ParseHead(f); err != nil {
			return err
		}
	}
	staging, err := s.pub.Stage(s.ctx)
	if err != nil {
		return err
	}
	defer staging.Discard(s.ctx)
	if err := staging.Add(s.ctx, docs); err != nil {
		return err
	}
	return staging.Publish(s.ctx, over, c.head)
}

// refuses checks that the reader goes on with what it served before, and says so, and
// that it goes on when all is well again.
func (s *script) refuses(spoil func() error) error {
	before, err := s.read()
	if err != nil {
		return err
	}
	if err := spoil(); err != nil {
		return err
	}
	if err := s.keeps(before); err != nil {
		return err
	}
	if _, err := s.relay.Resync(s.ctx, snapshot.ResyncOptions{NewEpoch: true, Force: true}); err != nil {
		return err
	}
	return s.follows()
}

// keeps checks that the reader goes on with a whole, and reports that it refuses what there is.
func (s *script) keeps(before *content) error {
	if err := s.stays(before); err != nil {
		return err
	}
	if err := s.until(func() error { return s.reported(before.head.Position, true) }); err != nil {
		return err
	}
	return s.stays(before)
}

// forgeDelta publishes changes, signed, beside the catalog.
func (s *script) forgeDelta(changes ...snapshot.Change) error {
	c, err := s.read()
	if err != nil {
		return err
	}
	over, from := c.head.Base(), c.head.Position
	if err := c.Add(changes); err != nil {
		return err
	}
	c.head.Position.Revision++
	if err := c.sign(s.keys); err != nil {
		return err
	}
	return s.pub.Apply(s.ctx, over, snapshot.Delta{From: from, Head: c.head, Changes: changes})
}

// sign makes the head that of the documents, under the key that it names; nil keys do not sign.
func (c *content) sign(keys *snapshot.Keys) error {
	if keys != nil {
		var err error
		if keys, err = keys.Activate(c.head.Seal); err != nil {
			return err
		}
	}
	c.head.Counts, c.head.Digest = snapshot.Counts{}, snapshot.Digests{}
	sums := map[catalog.Kind]snapshot.Digest{}
	for _, kind := range snapshot.Kinds() {
		sums[kind] = snapshot.Digest{}
	}
	for n, doc := range c.docs {
		c.head.Counts[n.kind]++
		sums[n.kind] = sums[n.kind].Add(keys.Hash(n.kind, n.key, doc))
	}
	for kind, sum := range sums {
		c.head.Counts[kind] += 0
		c.head.Digest[kind] = keys.Digest(kind, sum)
	}
	keys.SignHead(&c.head)
	return nil
}

// sign signs fields with the sync key that they name, as the contract says.
func sign(what string, f snapshot.Fields) error {
	for item := range strings.SplitSeq(SyncKeys, ",") {
		id, text, _ := strings.Cut(item, ":")
		if id != f["seal"] {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		key, err := hkdf.Key(sha256.New, secret, nil, "ezapi sig", 32)
		if err != nil {
			return err
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s\n", what)
		for _, n := range slices.Sorted(maps.Keys(f)) {
			if n != "sig" {
				fmt.Fprintf(mac, "%s=%s\n", n, f[n])
			}
		}
		f["sig"] = hex.EncodeToString(mac.Sum(nil))
	}
	return nil
}
