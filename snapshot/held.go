package snapshot

import (
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// ErrHeld refuses a request because its key, or a project that the key is in, is held. Answer
// it with 429 and Retry-After. Match it with errors.As.
type ErrHeld struct {
	Target  string    // what is held, see catalog.HoldTarget
	Until   time.Time // zero is without an end
	Reason  string    // one of catalog.HoldReasons
	Message string    // for people; may be empty
}

// Error returns the reason in words that may be shown to the client.
func (e *ErrHeld) Error() string {
	what := "key is held"
	if t, ok := catalog.ParseHoldTarget(e.Target); ok && t.Project != "" {
		what = "project of this key is held"
	}
	if e.Reason == catalog.HoldBudget {
		what += " because its budget is used up"
	}
	if !e.Until.IsZero() {
		what += ", until " + e.Until.UTC().Format(time.RFC3339)
	}
	if e.Message != "" {
		what += ": " + e.Message
	}
	return what
}

// longestRetry is what is said at most: a hold may be deleted at any time.
const longestRetry = 24 * time.Hour

// RetryAfter returns how long to wait before the next try, in whole seconds, at least one and at
// most a day; an hour when the hold has no end.
func (e *ErrHeld) RetryAfter(now time.Time) time.Duration {
	if e.Until.IsZero() {
		return time.Hour
	}
	left := min(e.Until.Sub(now), longestRetry) // before it is rounded, which could overflow
	return max(time.Second, (left + time.Second - 1).Truncate(time.Second))
}

// Active reports whether the hold has not ended.
func (d *HoldDoc) Active(now time.Time) bool { return d.Until.IsZero() || now.Before(d.Until) }

// held returns the hold of a target that is in force, or nil.
func (v *View) held(t catalog.HoldTarget, now time.Time) *HoldDoc {
	if v.holds.table.n == 0 {
		return nil
	}
	if h := v.holds.get(t); h != nil && h.Active(now) {
		return h
	}
	return nil
}

// free returns why a key may not be used because of holds, or of the state of the projects
// that it is in.
func (v *View) free(key *Key, now time.Time, tell trace) error {
	if err := v.notHeld("key hold", catalog.HoldTarget{KeyID: key.ID}, now, tell); err != nil {
		return err
	}
	for path := key.Project; path != ""; path = catalog.ParentProject(path) {
		p := v.projects.get(path)
		if tell != nil {
			tell("project", p != nil, fmt.Sprintf("project %q is published", path))
		}
		if p == nil {
			return ErrUnknownProject
		}
		if tell != nil {
			tell("project status", p.Status == catalog.Active, fmt.Sprintf("project %q: %s", path, p.Status))
		}
		if p.Status != catalog.Active {
			return ErrProjectDisabled
		}
		if err := v.notHeld("project hold", catalog.HoldTarget{Project: path}, now, tell); err != nil {
			return err
		}
	}
	return nil
}

func (v *View) notHeld(check string, t catalog.HoldTarget, now time.Time, tell trace) error {
	h := v.held(t, now)
	if tell != nil {
		tell(check, h == nil, describeHold(t, h))
	}
	if h == nil {
		return nil
	}
	return &ErrHeld{Target: h.Target, Until: h.Until, Reason: h.Reason, Message: h.Message}
}

func describeHold(t catalog.HoldTarget, h *HoldDoc) string {
	switch {
	case h == nil:
		return fmt.Sprintf("%s is not held", t)
	case h.Until.IsZero():
		return fmt.Sprintf("%s is held until that is ended, reason %s", t, h.Reason)
	}
	return fmt.Sprintf("%s is held until %s, reason %s", t, h.Until.UTC().Format(time.RFC3339), h.Reason)
}

// allowedAbove returns why the projects that a key is in do not allow a model.
func (v *View) allowedAbove(key *Key, found meant, tell trace) error {
	for path := key.Project; path != ""; path = catalog.ParentProject(path) {
		p := v.projects.get(path)
		if p == nil {
			return ErrUnknownProject
		}
		for _, list := range []struct {
			check   string
			allowed bool
			refusal Refusal
		}{
			{"project namespace", len(p.Namespaces) == 0 || slices.Contains(p.Namespaces, found.Namespace), ErrProjectNamespace},
			{"project group", len(p.Groups) == 0 || slices.Contains(p.Groups, key.Group), ErrProjectGroup},
			{"project models", len(p.Models) == 0 || catalog.MatchesList(p.Models, found.asked), ErrProjectModel},
		} {
			if tell != nil {
				tell(list.check, list.allowed, fmt.Sprintf("the list of project %q; an empty one allows all", path))
			}
			if !list.allowed {
				return list.refusal
			}
		}
	}
	return nil
}

// providerHold returns the hold of a provider, or of one of its models, that is in force: the
// one that is not for health before the one that is.
func (v *View) providerHold(id int64, upstream string, now time.Time) *HoldDoc {
	whole := v.held(catalog.HoldTarget{ProviderID: id}, now)
	if whole != nil && whole.Reason != catalog.HoldHealth {
		return whole
	}
	if one := v.held(catalog.HoldTarget{ProviderID: id, UpstreamModel: upstream}, now); one != nil {
		return one
	}
	return whole
}
