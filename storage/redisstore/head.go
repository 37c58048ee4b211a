package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

const (
	// maxHeadFields and maxHeadBytes bound a head that is read. Beyond, it is damage.
	maxHeadFields = 64
	maxHeadBytes  = 64 << 10
)

// Head implements [snapshot.Source]. It takes one round trip, and another one while
// listeners could not be told of what is published.
func (p *Publisher) Head(ctx context.Context) (snapshot.Head, error) {
	head, err := p.head(ctx)
	if err == nil && p.hint.Err() != nil {
		p.announce(ctx, head.Position)
	}
	return head, wrap("head", err)
}

func (p *Publisher) head(ctx context.Context) (snapshot.Head, error) {
	answer, err := p.call(
		ctx,
		headScript,
		p.keys(keyNodes),
		[]any{p.key(keyHead), maxHeadFields + 1, maxHeadBytes},
	)
	if err != nil {
		return snapshot.Head{}, err
	}
	rest := answer[1:]
	switch answer[0] {
	case "none":
		return snapshot.Head{}, snapshot.ErrNone
	case "wrong":
		return damagedHead(snapshot.Base{}, fmt.Errorf("%s is no hash: %w", p.key(keyHead), snapshot.ErrCorrupt))
	case "huge":
		if len(rest) == 3 {
			base := snapshot.Base{Epoch: rest[0], Revision: rest[1], Sig: rest[2]}
			return damagedHead(
				base,
				fmt.Errorf("%s is far too large for a head: %w", p.key(keyHead), snapshot.ErrCorrupt),
			)
		}
	case statusOK:
		fields := make(snapshot.Fields, len(rest)/2)
		for i := 0; i+1 < len(rest); i += 2 {
			fields[rest[i]] = rest[i+1]
		}
		if len(fields) == 0 {
			return damagedHead(snapshot.Base{}, fmt.Errorf("the head has no fields: %w", snapshot.ErrCorrupt))
		}
		head, err := snapshot.ParseHead(fields)
		base := comparable(head.Base())
		if err == nil && base != head.Base() {
			err = fmt.Errorf("a field of the head is far too long: %w", snapshot.ErrCorrupt)
		}
		if err != nil {
			return damagedHead(base, err)
		}
		return head, nil
	}
	return snapshot.Head{}, errors.New("the script that reads the head has an answer that makes no sense")
}

// maxCompared is MAX_VALUE of lib.lua: longer values of a head are compared as a question mark.
const maxCompared = 256

func comparable(b snapshot.Base) snapshot.Base {
	for _, value := range []*string{&b.Epoch, &b.Revision, &b.Sig} {
		if len(*value) > maxCompared {
			*value = "?"
		}
	}
	return b
}

// damagedHead returns a head of which nothing is known but by what it is found again, and err.
func damagedHead(base snapshot.Base, err error) (snapshot.Head, error) {
	head, _ := snapshot.ParseHead(
		snapshot.Fields{"epoch": base.Epoch, "revision": base.Revision, "sig": base.Sig},
	)
	return head, err
}

// position returns where the head is; a head that is missing or makes no sense
// is at the zero position.
func (p *Publisher) position(ctx context.Context) (snapshot.Position, error) {
	values, err := p.client.HMGet(ctx, p.key(keyHead), "epoch", "revision").Result()
	p.noteMaster(err)
	if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return snapshot.Position{}, err
	}
	if len(values) != 2 {
		return snapshot.Position{}, nil
	}
	epoch, _ := values[0].(string)
	revision, _ := values[1].(string)
	at, _ := positionOf(epoch, revision)
	return at, nil
}

// positionOf reads a position as it stands in the head. Of one that makes no sense it returns the zero position.
func positionOf(epoch, revision string) (snapshot.Position, bool) {
	if len(epoch)+len(revision) > maxCompared || strings.ContainsAny(epoch+revision, "+-") {
		return snapshot.Position{}, false
	}
	at, err := snapshot.ParsePosition(epoch + "-" + revision)
	return at, err == nil
}
