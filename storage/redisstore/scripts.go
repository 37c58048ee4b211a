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

//go:embed scripts/publish_lib.lua
var publishLibSource string

//go:embed scripts/head.lua
var headSource string

//go:embed scripts/part.lua
var partSource string

//go:embed scripts/repair.lua
var repairSource string

//go:embed scripts/whole.lua
var wholeSource string

//go:embed scripts/nodes_lib.lua
var nodesLibSource string

//go:embed scripts/report.lua
var reportSource string

//go:embed scripts/nodes.lua
var nodesSource string

//go:embed scripts/forget.lua
var forgetSource string

//go:embed scripts/rights.lua
var rightsSource string

//go:embed scripts/lease.lua
var leaseSource string

// Scripts are sent once and then called by their hash. They are constants in
// all but the language's eyes.
var (
	headScript   = redis.NewScript(libSource + headSource)
	partScript   = redis.NewScript(libSource + publishLibSource + partSource)
	repairScript = redis.NewScript(libSource + publishLibSource + repairSource)
	wholeScript  = redis.NewScript(libSource + publishLibSource + wholeSource)
	reportScript = redis.NewScript(libSource + nodesLibSource + reportSource)
	nodesScript  = redis.NewScript(libSource + nodesLibSource + nodesSource)
	forgetScript = redis.NewScript(libSource + nodesLibSource + forgetSource)
	leaseScript  = redis.NewScript(leaseSource)
	rightsScript = redis.NewScript(libSource + rightsSource)
)

// What a script answers, as lib.lua describes it.
const (
	statusOK      = "ok"
	statusStale   = "stale"
	statusBusy    = "busy"
	statusCorrupt = "corrupt"
	statusRefused = "refused"
)

// ask calls a script and returns its answer without the status. Answers other than ok are errors;
// those of stale and busy come with where things are.
func (p *Publisher) ask(
	ctx context.Context,
	script *redis.Script,
	keys []string,
	args []any,
) ([]string, error) {
	answer, err := p.call(ctx, script, keys, args)
	if err != nil {
		return nil, err
	}
	status, rest := answer[0], answer[1:]
	if status == statusOK {
		return rest, nil
	}
	if len(rest) == 0 {
		return nil, fmt.Errorf("a script's answer is %q", status)
	}
	switch detail := rest[0]; status {
	case statusStale:
		return rest, fmt.Errorf("the head is %s: %w", detail, snapshot.ErrStale)
	case statusBusy:
		return rest, fmt.Errorf("the stream ends in %s: %w", detail, snapshot.ErrBusy)
	case statusCorrupt:
		return nil, fmt.Errorf("%s: %w", detail, snapshot.ErrCorrupt)
	case statusRefused:
		return nil, refused(detail)
	default:
		return nil, fmt.Errorf("a script's answer is %q", status)
	}
}

// call calls a script and returns its answer, which has a status at least.
func (p *Publisher) call(
	ctx context.Context,
	script *redis.Script,
	keys []string,
	args []any,
) ([]string, error) {
	answer, err := script.Run(ctx, p.client, keys, args...).StringSlice()
	p.noteMaster(err)
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		return nil, errors.New("a script has no answer")
	}
	return answer, nil
}
