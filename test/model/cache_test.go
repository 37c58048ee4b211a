package model

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

var errDown = errors.New("the publisher is down")

// A cache is a publisher that loses what such servers lose: its content, an
// answer, an entry of its stream, the last seconds before a failover.
type cache struct {
	server

	mu        sync.Mutex
	down      bool
	deaf      int // that many publishes are refused unseen
	mute      int // that many publishes are done, but the answer is lost
	forgetful int // that many stream entries are lost
}

// up returns an error while the cache is down.
func (c *cache) up() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return errDown
	}
	return nil
}

// set changes the cache.
func (c *cache) set(change func(*cache)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

// spend takes one of what is left of a disaster.
func (c *cache) spend(left *int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *left == 0 {
		return false
	}
	*left--
	return true
}

// publish does something that changes what is published.
func (c *cache) publish(do func() error) error {
	if err := c.up(); err != nil {
		return err
	}
	if c.spend(&c.deaf) {
		return errDown
	}
	err := do()
	if err == nil && c.spend(&c.mute) {
		return errDown
	}
	return err
}

func (c *cache) Head(ctx context.Context) (snapshot.Head, error) {
	if err := c.up(); err != nil {
		return snapshot.Head{}, err
	}
	return c.server.Head(ctx)
}

func (c *cache) Load(ctx context.Context, into snapshot.Loader) error {
	if err := c.up(); err != nil {
		return err
	}
	return c.server.Load(ctx, into)
}

func (c *cache) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	if err := c.up(); err != nil {
		return snapshot.Delta{}, err
	}
	d, err := c.server.Next(ctx, after)
	if err == nil && c.spend(&c.forgetful) {
		return c.server.Next(ctx, d.Head.Position) // the one after it, as if that one had never been
	}
	return d, err
}

func (c *cache) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	if err := c.up(); err != nil {
		return nil, err
	}
	return c.server.Lookup(ctx, k, keys...)
}

func (c *cache) Documents(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
	if err := c.up(); err != nil {
		return func(yield func(snapshot.Document, error) bool) { yield(snapshot.Document{}, err) }
	}
	return c.server.Documents(ctx, k)
}

func (c *cache) LastBeat(ctx context.Context) (snapshot.Beat, error) {
	if err := c.up(); err != nil {
		return snapshot.Beat{}, err
	}
	return c.server.LastBeat(ctx)
}

func (c *cache) SetBeat(ctx context.Context, b snapshot.Beat) error {
	if err := c.up(); err != nil {
		return err
	}
	return c.server.SetBeat(ctx, b)
}

func (c *cache) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	if err := c.up(); err != nil {
		return snapshot.Answer{}, err
	}
	return c.server.Report(ctx, n)
}

func (c *cache) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	if err := c.up(); err != nil {
		return snapshot.NodeList{}, err
	}
	return c.server.Nodes(ctx, q)
}

func (c *cache) Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	if err := c.up(); err != nil {
		return false, err
	}
	return c.server.Lease(ctx, name, holder, ttl)
}

func (c *cache) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	return c.publish(func() error { return c.server.Apply(ctx, over, d) })
}

func (c *cache) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	return c.publish(func() error { return c.server.Repair(ctx, over, changes) })
}

func (c *cache) Stage(ctx context.Context) (snapshot.Staging, error) {
	if err := c.up(); err != nil {
		return nil, err
	}
	s, err := c.server.Stage(ctx)
	if err != nil {
		return nil, err
	}
	return staging{s, c}, nil
}

type staging struct {
	snapshot.Staging
	c *cache
}

func (s staging) Publish(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
	return s.c.publish(func() error { return s.Staging.Publish(ctx, over, head) })
}
