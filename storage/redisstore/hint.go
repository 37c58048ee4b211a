package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// Channel is the Pub/Sub channel that each publish sends a message to. It is a hint only: what is published
// is in the hashes and the stream.
const Channel = "dp:config:refresh"

// announce sends the message, once more after it was refused: what it tells of is published.
func (p *Publisher) announce(ctx context.Context, at snapshot.Position) {
	message := fmt.Sprintf(`{"resource":"snapshot","version":%q,"active_key":%q,"timestamp":%d}`,
		at, p.key(keyHead), time.Now().Unix())
	switch err := p.client.Publish(ctx, Channel, message).Err(); {
	case err == nil:
		p.hint.sent(ctx, p.log, nil)
	case errors.Is(refusedBy(err), snapshot.ErrRefused):
		p.hint.sent(ctx, p.log, []string{"", err.Error()})
	}
}

// hint is what came of the last message on the channel.
type hint struct {
	mu  sync.Mutex
	err error
}

// sent notes the answer of a script that has published: the id of the entry, and what Redis has refused the
// message with, if it has.
func (h *hint) sent(ctx context.Context, log *slog.Logger, answer []string) {
	var err error
	if len(answer) > 1 {
		err = fmt.Errorf("publish sends no message to the channel %s: %w", Channel, refused(answer[1]))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil && h.err == nil:
		log.WarnContext(ctx, "those who listen are not told of what is published", "error", err)
	case err == nil && h.err != nil:
		log.InfoContext(ctx, "those who listen are told again of what is published", "channel", Channel)
	}
	h.err = err
}

// Err returns why the last message could not be sent.
func (h *hint) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

var _ snapshot.Announcer = (*Publisher)(nil)

// Announced implements [snapshot.Announcer]: it tells of the messages on [Channel].
func (p *Publisher) Announced() error { return p.hint.Err() }
