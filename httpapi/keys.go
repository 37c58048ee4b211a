package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

// keys are served with what they have used, and with a token where one was made.
func (h *Handler) keys() noun[catalog.Key, keyWithUsage, keyWithToken] {
	return noun[catalog.Key, keyWithUsage, keyWithToken]{
		h, h.plane.Keys.Table, "a client key", []string{"group", "namespace", "project"},
		h.withUsage, func(k catalog.Key) keyWithUsage { return keyWithUsage{Key: k} }, withToken,
	}
}

// A keyWithUsage is a key, and what it has used. That is derived from the
// access logs each time, and no part of the ETag.
type keyWithUsage struct {
	catalog.Key
	LastUsedAt *time.Time `json:"last_used_at,omitempty" readOnly:"true" doc:"When the key was last used, to the minute. A key that was never used has none."`
	Spend      []spend    `json:"spend,omitempty" readOnly:"true" doc:"What the key has spent of each of its budgets, in their order. It is absent when there are none, and when usage cannot be read."`
}

// spend is what was spent of a budget in the window that lasts now.
type spend struct {
	Window   string          `json:"window" doc:"The window of the budget."`
	Timezone string          `json:"timezone" doc:"The time zone of the budget."`
	Spent    catalog.NanoUSD `json:"spent" doc:"What the requests in the window have cost, in USD."`
	Unpriced int64           `json:"unpriced_requests" doc:"How many requests in the window have a cost that is not known."`
}

// keyUsageTimeout is how long keys wait for what they have used, before they are shown without.
const keyUsageTimeout = 5 * time.Second

// withUsage adds to keys what they have used. When the logs cannot be asked,
// the keys are shown without.
func (h *Handler) withUsage(ctx context.Context, keys []catalog.Key) []keyWithUsage {
	shown := make([]keyWithUsage, len(keys))
	since := make(map[int64][]time.Time, len(keys)) // for each budget when its window begins, and when it ends
	now := h.plane.LogTime()
	for i, k := range keys {
		shown[i].Key, since[k.ID] = k, nil
		for _, b := range k.Budgets {
			w, err := budgets.WindowOf(b, now)
			if err != nil {
				h.log.WarnContext(ctx, "a budget has a time zone that is not known", "key_id", k.ID, "error", err)
			}
			if w.Ends.IsZero() {
				w.Ends = now.AddDate(1, 0, 0) // after all that can be logged
			}
			since[k.ID] = append(since[k.ID], w.Begins, w.Ends)
		}
	}
	archive, err := h.archive()
	if err != nil || len(keys) == 0 {
		return shown
	}
	limited, cancel := context.WithTimeout(ctx, keyUsageTimeout)
	defer cancel()
	used, err := archive.KeyUsage(limited, since)
	if err != nil {
		if ctx.Err() != nil { // who asked has left
			return shown
		}
		h.log.WarnContext(ctx, "keys are shown without their usage", "error", err)
		return shown
	}
	for i := range shown {
		u := used[shown[i].ID]
		for n, b := range shown[i].Budgets {
			of := spend{Window: b.Window, Timezone: b.Timezone}
			if 2*n+1 < len(u.Spent) {
				spent, after := u.Spent[2*n], u.Spent[2*n+1]
				of.Spent = catalog.NanoUSD(spent.CostNanoUSD - after.CostNanoUSD)
				of.Unpriced = spent.Unpriced - after.Unpriced
			}
			shown[i].Spend = append(shown[i].Spend, of)
		}
		if !u.LastUsed.IsZero() {
			shown[i].LastUsedAt = new(u.LastUsed)
		}
	}
	return shown
}

// A keyWithToken is a key in the answers that may hold its token.
type keyWithToken struct {
	catalog.Key
	Token string `json:"token,omitempty" readOnly:"true" doc:"The secret by which the client is known. Only this answer shows it. It is absent when no token was made."`
}

func withToken(k catalog.Key) keyWithToken { return keyWithToken{k, k.Token.Reveal()} }

// lookup is the body of a search for the key of a token.
type lookup struct {
	Token string `json:"token,omitempty" writeOnly:"true" maxLength:"1024" doc:"The token. It is not stored and not logged."`
	Hash  string `json:"hash,omitempty" pattern:"^[0-9a-f]{64}$" patternDescription:"a SHA-256 in 64 lower-case hexadecimal characters" doc:"The SHA-256 of the token, in lower-case hex."`
}

type lookingUp struct{ Content request.Body }

// lookUp finds the key of a token, such as one that was found where it should not be.
func (h *Handler) lookUp(ctx context.Context, in *lookingUp) (*shown[keyWithUsage], error) {
	var body lookup
	if err := in.Content.Decode(&body); err != nil {
		return nil, err
	}
	hash, err := body.hash()
	if err != nil {
		return nil, err
	}
	key, err := h.plane.Keys.Find(ctx, catalog.ByHash, hash)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, errNoSuchToken
	}
	if err != nil {
		return nil, err
	}
	return &shown[keyWithUsage]{ETag: request.ETag(key.Revision), Body: h.withUsage(ctx, []catalog.Key{key})[0]}, nil
}

// hash returns the hash to look for.
func (l lookup) hash() (string, error) {
	switch {
	case (l.Token == "") == (l.Hash == ""):
		return "", &catalog.FieldError{Field: "token", Message: "is required, or else hash; send one of the two"}
	case l.Token != "":
		return catalog.HashToken(l.Token), nil
	}
	return l.Hash, nil
}
