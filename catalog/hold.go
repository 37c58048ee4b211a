package catalog

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Hold keeps a key, a project or a provider from being used for a while, unique by target and
// reason. It ends at Until without another write: whoever reads it compares Until with the clock.
// It does not change the Status of its target, which only people set.
type Hold struct {
	Meta
	Target  string    `json:"target" store:"-" create:"required" minLength:"1" maxLength:"512" doc:"What is held: key/ID, project/PATH, provider/ID, or provider/ID/MODEL for one upstream model of a provider. It must exist, and cannot be changed."`
	Reason  string    `json:"reason" enum:"admin,budget,health" default:"admin" doc:"Why it is held. Only admin can be sent: budget and health are made, changed and ended by the control plane."`
	Until   time.Time `json:"until,omitzero" doc:"When the hold ends. Without it the hold lasts until it is deleted."`
	Message string    `json:"message,omitempty" minLength:"1" maxLength:"256" doc:"A text for people. Clients may be shown it."`
	Cause   string    `json:"cause,omitempty" readOnly:"true" doc:"What a hold for health was made for: failures (too many attempts failed), rate (the provider asked to wait), auth (it refuses its credential), billing (it is not paid) or models (several of its models are held). One that is over has none once it works again."`
	Strikes int       `json:"strikes,omitzero" readOnly:"true" doc:"Which hold in a row a hold for health is, without successes in between. Each is longer than the one before."`
}

// What a hold for health is made for.
const (
	CauseFailures = "failures" // too many attempts failed
	CauseRate     = "rate"     // the provider asked to wait
	CauseAuth     = "auth"     // the provider refuses its credential
	CauseBilling  = "billing"  // the provider is not paid
	CauseModels   = "models"   // several models of the provider are held
)

// HealthMemory is how long a hold for health is kept after its end. By it is known what came before,
// when the provider fails again.
const HealthMemory = time.Hour

// The reasons of holds, the strongest first.
const (
	HoldAdmin  = "admin"  // a person has made it
	HoldBudget = "budget" // a budget is used up
	HoldHealth = "health" // a provider fails
)

// HoldReasons lists the values of Hold.Reason, the strongest first.
func HoldReasons() []string { return []string{HoldAdmin, HoldBudget, HoldHealth} }

// A HoldTarget is what a hold is about. One of KeyID, Project and ProviderID is set.
type HoldTarget struct {
	KeyID         int64
	Project       string
	ProviderID    int64
	UpstreamModel string // of the provider; "" for all of it
}

// String returns the target as Hold.Target has it: "provider/3/gpt-4o".
func (t HoldTarget) String() string {
	switch {
	case t.KeyID != 0:
		return "key/" + strconv.FormatInt(t.KeyID, 10)
	case t.Project != "":
		return "project/" + t.Project
	case t.UpstreamModel != "":
		return "provider/" + strconv.FormatInt(t.ProviderID, 10) + "/" + t.UpstreamModel
	}
	return "provider/" + strconv.FormatInt(t.ProviderID, 10)
}

// ParseHoldTarget reads what String writes, and nothing else.
func ParseHoldTarget(s string) (t HoldTarget, ok bool) {
	noun, name, _ := strings.Cut(s, "/")
	switch noun {
	case KindKey.Noun():
		t.KeyID, ok = parseID(name)
	case KindProject.Noun():
		t.Project, ok = name, IsProjectPath(name)
	case KindProvider.Noun():
		id, model, ofModel := strings.Cut(name, "/")
		t.UpstreamModel = model
		t.ProviderID, ok = parseID(id)
		ok = ok && ofModel == (model != "")
	}
	return t, ok
}

// Active reports whether the hold holds at a time.
func (h *Hold) Active(now time.Time) bool {
	return h.Status == Active && (h.Until.IsZero() || now.Before(h.Until))
}

func (*Hold) kind() Kind { return KindHold }

func (h *Hold) naturalKey() string { return HoldKey(h.Target, h.Reason) }

func (h *Hold) normalize() {
	h.Meta.normalize()
	for _, s := range []*string{&h.Target, &h.Reason, &h.Message} {
		*s = strings.TrimSpace(*s)
	}
	setDefault(&h.Reason, HoldAdmin)
	h.Until = micros(h.Until)
}

func (h *Hold) check(rules) FieldErrors {
	var errs FieldErrors
	h.Meta.check(&errs)
	switch t, ok := ParseHoldTarget(h.Target); {
	case h.Target == "":
		errs.add("target", "is required")
	case !ok:
		errs.add("target", "must be key/ID, project/PATH, provider/ID or provider/ID/MODEL")
	case strings.Contains(t.UpstreamModel, "*"):
		errs.add("target", "must name one model, without a *; hold provider/ID to hold all of its models")
	case t.UpstreamModel != "":
		checkName(&errs, "target", t.UpstreamModel)
	}
	if !slices.Contains(HoldReasons(), h.Reason) {
		errs.add("reason", "must be one of %s", strings.Join(HoldReasons(), ", "))
	}
	if year := h.Until.Year(); !h.Until.IsZero() && (year < 1970 || year > 9999) {
		errs.add("until", "must be a time from 1970 to 9999")
	}
	checkText(&errs, "message", h.Message, 0, maxName)
	return errs
}

// receive refuses that a person makes the hold of a machine.
func (h *Hold) receive(errs *FieldErrors, object map[string]any, form body) {
	if reason, ok := object["reason"].(string); ok && form == newBody && slices.Contains(HoldReasons(), reason) &&
		reason != HoldAdmin {
		errs.add("reason", "must be %s: the control plane alone makes holds for other reasons", HoldAdmin)
		delete(object, "reason")
	}
}

// succeed refuses that a person changes of a machine's hold what belongs to the machine.
func (h *Hold) succeed(stored record, _ map[string]bool) (errs FieldErrors) {
	before, ok := stored.(*Hold)
	if !ok {
		return nil
	}
	h.Cause, h.Strikes = before.Cause, before.Strikes // which nobody sends
	if before.Reason == HoldAdmin {
		return nil
	}
	const whose = "belongs to the control plane, which made the hold; set its status to disabled, or delete it"
	if !h.Until.Equal(before.Until) {
		errs.add("until", whose)
	}
	if h.Message != before.Message {
		errs.add("message", whose)
	}
	if protected(h.Labels) && !protected(before.Labels) {
		errs.add(memberPath("labels", LabelProtected), "is for the holds that people make: the control plane ends this one")
	}
	return errs
}

func (*Hold) reads() bool { return true }

// follow refuses another target or reason, an end that is over, and a target that is not there.
func (h *Hold) follow(ctx context.Context, tx *txn, before, after record) error {
	if after == nil {
		return nil
	}
	old, _ := before.(*Hold)
	switch {
	case old != nil && old.Target != h.Target:
		return stays("target")
	case old != nil && old.Reason != h.Reason:
		return stays("reason")
	case h.Reason != HoldHealth && !h.Until.IsZero() && !h.Until.After(tx.now) &&
		(old == nil || !old.Until.Equal(h.Until)): // one for health may end now, and be remembered
		return &FieldError{Field: "until", Message: "must be in the future; delete the hold to end it"}
	case old != nil:
		return nil
	}
	if err := h.takeOver(ctx, tx); err != nil {
		return err
	}
	t, _ := ParseHoldTarget(h.Target)
	if t.UpstreamModel == "" {
		return nil // whether it exists is for the store to say
	}
	e, err := tx.get(ctx, KindProvider, t.ProviderID)
	var listed struct{ Models []string }
	if err == nil {
		err = e.spec(&listed)
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return nil
	}
	if err == nil && !MatchesList(listed.Models, t.UpstreamModel) {
		err = &FieldError{Field: "target", Message: "names no model that the provider serves"}
	}
	return err
}

// takeOver removes the hold of a person that has the same target and has ended: a new one does not
// wait until maintenance has removed it.
func (h *Hold) takeOver(ctx context.Context, tx *txn) error {
	if h.Reason != HoldAdmin {
		return nil
	}
	e, err := tx.reader.Find(ctx, KindHold, ByNaturalKey, h.naturalKey())
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || e.DueAt.IsZero() || e.DueAt.After(tx.now) || tx.pending(KindHold, e.ID) != nil {
		return err
	}
	ended, err := show(e, tx.core.keeper)
	if err != nil {
		return err
	}
	return tx.remove(ended)
}

func (h *Hold) columns() Entity {
	e := h.entity(KindHold)
	e.NaturalKey, e.Name, e.DueAt = h.naturalKey(), h.Target, h.Until
	if h.Reason == HoldHealth && !h.Until.IsZero() {
		e.DueAt = h.Until.Add(HealthMemory)
	}
	t, _ := ParseHoldTarget(h.Target)
	t.UpstreamModel = ""
	e.Ref = t.String()
	e.Groups = []string{h.Reason} // by which lists select it
	return e
}

// HoldKey returns the natural key of a hold. A reason has no space, so no two holds share a key.
func HoldKey(target, reason string) string { return target + " " + reason }

func (h *Hold) decode(e Entity, _ Keeper) error {
	*h = Hold{}
	if err := e.spec(h); err != nil {
		return err
	}
	h.Target = e.Name
	h.load(e)
	return nil
}

func (h *Hold) touches() Touches { return Touches{NaturalKeys: sortedSet(h.Target)} }
