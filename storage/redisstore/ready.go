package redisstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

// The errors that say why Redis does not do what it is asked for, matched with errors.Is.
var (
	// ErrEvicts says that Redis may drop keys when its memory is full.
	ErrEvicts = errors.New("redis may evict documents")

	// ErrMemory says that Redis' memory is used up: reads work, writes do not.
	ErrMemory error = refusal("the memory of redis is used up")

	// ErrRights says that the user lacks a right, which the message names.
	ErrRights error = refusal("the redis user lacks a right")

	// ErrReadOnly says that it is a replica, or does not take writes for another reason of its own.
	ErrReadOnly error = refusal("redis takes no writes")
)

// refusal is an error that wraps [snapshot.ErrRefused].
type refusal string

func (r refusal) Error() string { return string(r) }
func (r refusal) Unwrap() error { return snapshot.ErrRefused }

// placeInScript is what Redis adds to the error of a script.
var placeInScript = regexp.MustCompile(` script: [0-9a-f]{40}`)

// refused returns the error for one with which Redis refuses a write, as a script has found it.
func refused(text string) error {
	text = strings.TrimPrefix(text, "ERR ")
	if at := placeInScript.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case has("NOPERM", "has no permissions", "can't run this command", "can't publish", "ACL failure", "can't access"):
		return fmt.Errorf("%w: %s", ErrRights, text)
	case has("OOM command not allowed"):
		return fmt.Errorf("%w: raise maxmemory, or make room: %s", ErrMemory, text)
	case has("READONLY", "read only replica", "MISCONF", "NOREPLICAS", "Not enough good replicas"):
		return fmt.Errorf("%w: %s", ErrReadOnly, text)
	}
	return errors.New(text)
}

// refusedBy adds what an error of Redis means.
func refusedBy(err error) error {
	if errors.Is(err, snapshot.ErrRefused) {
		return err
	}
	var answer redis.Error
	if !errors.As(err, &answer) || errors.Is(err, redis.Nil) {
		return err
	}
	if cause := refused(answer.Error()); errors.Is(cause, ErrRights) || errors.Is(cause, ErrMemory) ||
		errors.Is(cause, ErrReadOnly) {
		return &refusedError{cause, err}
	}
	return err
}

// refusedError is what an error of Redis means, and the error.
type refusedError struct{ cause, answer error }

func (e *refusedError) Error() string   { return e.cause.Error() }
func (e *refusedError) Unwrap() []error { return []error{e.cause, e.answer} }

// PolicyUnknown is what [Publisher.Ready] returns where Redis does not tell.
const PolicyUnknown = "Redis does not tell its eviction policy; it must be noeviction"

// Ready asks Redis whether it is there and fit for a control plane, and returns a note that holds no
// secret: its maxmemory-policy. Any policy but noeviction is an error that wraps
// [ErrEvicts]. Where Redis answers but cannot be asked for the policy (it is
// forbidden, or the server does not know it), that is [PolicyUnknown] and no error.
//
// It also finds out why publishing would fail: [ErrMemory], [ErrReadOnly], or [ErrRights] with the
// names of all commands that the user may not run. It tries the commands without changing anything.
// It fails, too, when the last message on the channel [Channel] could not be sent. The note repeats
// these errors.
func (p *Publisher) Ready(ctx context.Context) (note string, err error) {
	note, err = p.fit(ctx)
	err = refusedBy(err)
	if errors.Is(err, snapshot.ErrRefused) {
		note = strings.TrimPrefix(note+"; "+err.Error(), "; ")
	}
	return note, wrap("ready", err)
}

// fit returns the policy, and what is wrong.
func (p *Publisher) fit(ctx context.Context) (policy string, err error) {
	if err := p.client.Exists(ctx, p.key(keyHead)).Err(); err != nil {
		p.noteMaster(err)
		return "", err
	}
	if policy, err = p.policy(ctx); err != nil {
		return policy, err
	}
	if err := p.rights(ctx); err != nil {
		return policy, err
	}
	if policy != "noeviction" && policy != PolicyUnknown {
		return policy, fmt.Errorf("set maxmemory-policy to noeviction, it is %s: %w", policy, ErrEvicts)
	}
	return policy, p.hint.Err()
}

// policy returns the maxmemory-policy.
func (p *Publisher) policy(ctx context.Context) (string, error) {
	var asked interface {
		Info(ctx context.Context, section ...string) *redis.StringCmd
	} = p.client
	if cluster, ok := p.client.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, p.key(keyHead))
		if err != nil {
			return "", err
		}
		asked = node
	}
	info, err := asked.Info(ctx, "memory").Result()
	var answer redis.Error
	switch {
	case errors.As(err, &answer):
		return PolicyUnknown, nil
	case err != nil:
		return "", err
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:"); ok {
			return policy, nil
		}
	}
	return PolicyUnknown, nil
}

// rights tries all commands that a control plane runs.
func (p *Publisher) rights(ctx context.Context) error {
	return p.try(ctx, func(string) bool { return true })
}

// try tries those commands of a control plane that matter.
func (p *Publisher) try(ctx context.Context, matters func(command string) bool) error {
	answer, err := p.call(
		ctx,
		rightsScript,
		p.keys(keyProbe, keyHead, keyChanges, keyNodes, keySeen, keyBeat),
		nil,
	)
	if err != nil {
		return err
	}
	missing, other := []string{}, ""
	for i := 1; i+1 < len(answer); i += 2 {
		err := refused(answer[i+1])
		switch {
		case errors.Is(err, ErrRights) && !matters(answer[i]):
		case errors.Is(err, ErrRights):
			missing = append(missing, answer[i])
		case other == "":
			other = answer[i+1]
		}
	}
	// A transaction fails, too, while memory is used up, and does not say why.
	if other == "" {
		_, err := p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			return pipe.Exists(ctx, p.key(keyProbe)).Err()
		})
		switch {
		case redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "EXECABORT"):
			missing = append(missing, "multi, exec")
		case err != nil:
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf(
			"%w: it may not run %s on the keys %s*",
			ErrRights,
			strings.Join(missing, ", "),
			p.key(""),
		)
	}
	if other != "" {
		return refused(other)
	}
	return nil
}

var _ snapshot.Checker = (*Publisher)(nil)

// Check implements [snapshot.Checker]. It takes two round trips. What only reports and readers need is no reason not to
// publish, and what a server answers that nobody expects is left to publishing itself.
func (p *Publisher) Check(ctx context.Context) error {
	err := wrap("check", p.try(ctx, func(command string) bool {
		return command[0] != 'z' && !slices.Contains([]string{"getrange", "hscan", "xread"}, command)
	}))
	if errors.Is(err, snapshot.ErrRefused) {
		return err
	}
	return nil
}
