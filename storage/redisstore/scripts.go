package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

//go:embed scripts/lib.lua
var libSource string

//go:embed scripts/apply.lua
var applySource string

//go:embed scripts/replace.lua
var replaceSource string

//go:embed scripts/report.lua
var reportSource string

//go:embed scripts/forget.lua
var forgetSource string

// Scripts are sent once and then called by their hash. They are constants in
// all but the language's eyes.
var (
	applyScript   = redis.NewScript(libSource + applySource)
	replaceScript = redis.NewScript(libSource + replaceSource)
	reportScript  = redis.NewScript(reportSource)
	forgetScript  = redis.NewScript(forgetSource)
)

// scriptKeys returns the KEYS that lib.lua describes.
func (p *Publisher) scriptKeys() []string {
	keys := []string{p.key("head"), p.key("changes")}
	for _, k := range p.kinds {
		keys = append(keys, p.hash(k))
	}
	return keys
}

// scriptArgs returns the ARGV that lib.lua describes.
func (p *Publisher) scriptArgs(from string, h snapshot.Head, reset bool, changes []byte) []any {
	args := []any{from, h.Position.String(), flag(reset), changes, p.entries, p.bytes}
	args = append(args, encodeHead(h)...)
	for _, k := range p.kinds {
		args = append(args, h.Counts[k])
	}
	return args
}

// run calls a script and returns the second part of its answer. Answers other
// than ok are errors.
func (p *Publisher) run(ctx context.Context, script *redis.Script, keys []string, args []any) (string, error) {
	answer, err := script.Run(ctx, p.client, keys, args...).StringSlice()
	if err != nil {
		return "", err
	}
	if len(answer) != 2 {
		return "", errors.New("a script's answer has no two parts")
	}
	switch status, detail := answer[0], answer[1]; status {
	case "ok":
		return detail, nil
	case "stale":
		return detail, fmt.Errorf("the head is %s: %w", detail, snapshot.ErrStale)
	case "ahead":
		return "", fmt.Errorf("the stream is ahead of the head, a new epoch is needed: %w", snapshot.ErrStale)
	case "corrupt":
		return "", fmt.Errorf("%s: %w", detail, snapshot.ErrCorrupt)
	default:
		return "", fmt.Errorf("a script's answer is %q", status)
	}
}
