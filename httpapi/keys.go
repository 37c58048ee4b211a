package httpapi

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

// keys are served with what they have used, and with a token where one was made.
func (h *Handler) keys() noun[catalog.Key, keyWithUsage, keyWithToken] {
	return noun[catalog.Key, keyWithUsage, keyWithToken]{
		h, h.plane.Keys.Table, "a client key", []string{"group", "namespace"},
		h.withUsage, func(k catalog.Key) keyWithUsage { return keyWithUsage{Key: k} }, withToken,
	}
}

// A keyWithUsage is a key, and what it has used. That is derived from the
// access logs each time, and no part of the ETag.
type keyWithUsage struct {
	catalog.Key
	LastUsedAt *time.Time       `json:"last_used_at,omitempty" readOnly:"true" doc:"The beginning of the last hour in which the key was used. A key that was never used has none."`
	Spend      *catalog.NanoUSD `json:"spend,omitempty" readOnly:"true" doc:"What the key has cost in the current budget window, in USD. Without a window it is what the key has ever cost. It is absent when usage cannot be read."`
}

// withUsage adds to keys what they have used. When the logs cannot be asked,
// the keys are shown without.
func (h *Handler) withUsage(ctx context.Context, keys []catalog.Key) []keyWithUsage {
	shown := make([]keyWithUsage, len(keys))
	since := make(map[int64]time.Time, len(keys))
	now := time.Now()
	for i, k := range keys {
		shown[i].Key = k
		since[k.ID] = catalog.WindowStart(k.BudgetWindow, now)
	}
	archive, err := h.archive()
	if err != nil || len(keys) == 0 {
		return shown
	}
	used, err := archive.KeyUsage(ctx, since)
	if err != nil {
		h.log.WarnContext(ctx, "keys are shown without their usage", "error", err)
		return shown
	}
	for i := range shown {
		u := used[shown[i].ID]
		spend := catalog.NanoUSD(u.CostNanoUSD)
		shown[i].Spend = &spend
		if !u.LastUsed.IsZero() {
			at := u.LastUsed // the beginning of a quarter of an hour, in which the key may have been made
			if created := shown[i].CreatedAt; at.Before(created) {
				at = created
			}
			shown[i].LastUsedAt = &at
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

type rotating struct {
	request.ID
	request.Match
	request.Wait
	Content request.Body
}

// rotation is the body of a rotation; there may be none.
type rotation struct {
	GraceSeconds request.Whole `json:"grace_seconds,omitempty" minimum:"0" maximum:"2592000" default:"0" doc:"How many seconds the current tokens stay valid."`
}

func (h *Handler) rotate(ctx context.Context, in *rotating) (*shown[keyWithToken], error) {
	id, match, wait, err := aim(in.ID, in.Match, in.Wait)
	if err != nil {
		return nil, err
	}
	var r rotation
	if !in.Content.Empty() {
		if err := in.Content.Decode(&r); err != nil {
			return nil, err
		}
	}
	key, err := h.plane.Keys.Rotate(ctx, id, grace(int64(r.GraceSeconds)), match)
	if err != nil {
		return nil, matched(in.Match, err)
	}
	out := &shown[keyWithToken]{ETag: request.ETag(key.Revision), Body: withToken(key)}
	out.Progress = h.follow(ctx, in.Wait.Wait, wait, key.Revision)
	return out, nil
}

// grace makes a duration of seconds, out of range when they are.
func grace(seconds int64) time.Duration {
	if seconds < 0 || seconds > int64(catalog.MaxGrace/time.Second) {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// lookup is the body of a search for the key of a token.
type lookup struct {
	Token string `json:"token,omitempty" writeOnly:"true" maxLength:"1024" doc:"The token. It is not stored and not logged."`
	Hash  string `json:"hash,omitempty" pattern:"^[0-9a-f]{64}$" doc:"The SHA-256 of the token, in lower-case hex."`
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
	case !isHash(l.Hash):
		return "", &catalog.FieldError{Field: "hash", Message: "must be a SHA-256 in 64 lower-case hexadecimal characters"}
	}
	return l.Hash, nil
}

func isHash(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 64
}
