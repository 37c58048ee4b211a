package redisstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

// nodeTTL is how long a node is remembered after its last report.
const nodeTTL = 24 * time.Hour

// Report implements [snapshot.Source]. The time is that of Redis, so that
// nodes with wrong clocks compare.
func (p *Publisher) Report(ctx context.Context, n snapshot.Node) error {
	n.Version = strings.ToValidUTF8(n.Version, "\ufffd")
	n.Error = strings.ToValidUTF8(n.Error, "\ufffd")
	text, err := encodeNode(n)
	if err != nil {
		return wrap("report", err)
	}
	if _, err := p.run(ctx, reportScript, []string{p.key("nodes")}, []any{n.ID, text}); err != nil {
		return wrap("report", err)
	}
	return nil
}

// Nodes implements [snapshot.Publisher]. When a node was seen is converted
// from Redis' clock to this machine's.
func (p *Publisher) Nodes(ctx context.Context) ([]snapshot.Node, error) {
	var all *redis.MapStringStringCmd
	var clock *redis.TimeCmd
	_, err := p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		all = pipe.HGetAll(ctx, p.key("nodes"))
		clock = pipe.Time(ctx)
		return nil
	})
	if err != nil {
		return nil, wrap("nodes", err)
	}
	// How far Redis' clock is ahead of ours. Less than a second is how long the answer took.
	fast := time.Until(clock.Val()).Round(time.Second)
	var nodes []snapshot.Node
	var gone []any
	for id, text := range all.Val() {
		n, err := parseNode(id, text)
		switch {
		case err != nil:
			p.log.WarnContext(ctx, "a node's report cannot be read", "node", id, "error", err)
		case clock.Val().Sub(n.SeenAt) > nodeTTL:
			gone = append(gone, id, text)
		default:
			n.SeenAt = n.SeenAt.Add(-fast)
			nodes = append(nodes, n)
		}
	}
	if len(gone) > 0 {
		if _, err := p.run(ctx, forgetScript, []string{p.key("nodes")}, gone); err != nil {
			return nil, wrap("nodes", err)
		}
	}
	slices.SortFunc(nodes, func(a, b snapshot.Node) int { return strings.Compare(a.ID, b.ID) })
	return nodes, nil
}
