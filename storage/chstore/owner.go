package chstore

import "context"

// Claim makes sure that the logs in the database belong to the catalog that [SinkOptions].Owner
// returns. It claims them for that catalog if they belong to none yet. If they belong to another
// one, the error wraps [logbuf.ErrForeign]. Whatever else a Sink does in the database begins with
// this check, except Clock.
func (s *Sink) Claim(ctx context.Context) error {
	return explain(ctx, "claim the log store", s.begin(ctx))
}

// sqlOwner finds whose logs these are. Of two that came at the same time, or to replicas that did not know of each
// other yet, the first has them: [claim.Claim] asks again.
const sqlOwner = "SELECT catalog FROM log_owner ORDER BY at, catalog LIMIT 1"

// own makes the logs those of a catalog unless they are another's, and returns whose they are.
func (s *Sink) own(ctx context.Context, catalog string) (owner string, err error) {
	if owner, err = s.owner(ctx); owner != "" || err != nil {
		return owner, err
	}
	if err := s.insert(ctx, "log_owner (catalog)", appendString(nil, catalog), ""); err != nil {
		return "", err
	}
	return s.owner(ctx)
}

// owner returns whose the logs are; empty where they are nobody's.
func (s *Sink) owner(ctx context.Context) (string, error) {
	answer, err := s.ask(ctx, sqlOwner)
	if err != nil || len(answer) == 0 {
		return "", err
	}
	r := rowReader{rest: answer}
	owner := r.string()
	return owner, r.err
}
