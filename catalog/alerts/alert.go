// Package alerts has what people are told of when nobody is looking: an [Alert] is kept in an
// [Outbox], which a store implements, and a [Webhook] delivers it from there.
//
// An alert is raised by whichever process sees its cause, at least once. Its identity makes it one
// alert: those that are known already are not kept again. So what raises alerts needs no memory, and any number
// of processes may see the same.
package alerts

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ez-api/ez-api/catalog"
)

// Kind says what an alert is about.
type Kind string

// The kinds.
const (
	BudgetThreshold   Kind = "budget_threshold"   // a share of a budget is spent
	BudgetExhausted   Kind = "budget_exhausted"   // all of it is
	ProviderHeld      Kind = "provider_held"      // a provider failed, and is not asked for a while
	ProviderFailing   Kind = "provider_failing"   // a provider failed, and is asked all the same: its auto_ban is false
	ProviderRecovered Kind = "provider_recovered" // it serves again
	NodeLost          Kind = "node_lost"          // a balancer is not heard of any more
	PublishingFailing Kind = "publishing_failing" // changes do not reach balancers
	DeadLetters       Kind = "dead_letters"       // log entries that the database refuses
	UnknownPrice      Kind = "unknown_price"      // requests whose cost is not known
	KeyExpiring       Kind = "key_expiring"       // a key expires within 7 days
	Test              Kind = "test"               // somebody tries whether alerts arrive
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{
		BudgetThreshold, BudgetExhausted, ProviderHeld, ProviderFailing, ProviderRecovered, NodeLost,
		PublishingFailing, DeadLetters, UnknownPrice, KeyExpiring, Test,
	}
}

// Hourly returns an identity that is another one each hour, for what nothing else tells apart.
func Hourly(what string, now time.Time) string { return what + "/" + now.UTC().Format("2006-01-02T15") }

// Severity says how soon somebody should look.
type Severity string

// The severities.
const (
	Info     Severity = "info"     // good to know
	Warning  Severity = "warning"  // look today
	Critical Severity = "critical" // look now: requests are refused, or something is lost
)

// Severity returns how soon somebody should look after an alert of the kind.
func (k Kind) Severity() Severity {
	switch k {
	case ProviderRecovered, Test:
		return Info
	case BudgetExhausted, PublishingFailing, DeadLetters:
		return Critical
	case BudgetThreshold, ProviderHeld, ProviderFailing, NodeLost, UnknownPrice, KeyExpiring:
		return Warning
	}
	return Warning
}

// Alert is something that people should know. It holds no secret.
type Alert struct {
	ID       int64     `json:"id" doc:"The number of the alert. Later ones have higher ones."`
	Kind     Kind      `json:"kind" doc:"What the alert is about."`
	Severity Severity  `json:"severity" enum:"info,warning,critical" doc:"How soon somebody should look."`
	Subject  string    `json:"subject" doc:"What it is about: key/12, project/acme, provider/3, node/NAME, logs, or publishing."`
	Project  string    `json:"project,omitempty" doc:"The project that it is of, if any."`
	Message  string    `json:"message" doc:"What happened, in one sentence or two."`
	At       time.Time `json:"at" doc:"When it was raised."`

	State       State     `json:"state" enum:"pending,delivered,expired" doc:"Whether the alert was delivered. One that could not be delivered within a day is expired."`
	DeliveredAt time.Time `json:"delivered_at,omitzero" doc:"When it was delivered."`
	Tries       int       `json:"tries" doc:"How often delivery was tried."`
	Error       string    `json:"error,omitempty" doc:"Why it could not be delivered when that was tried last."`

	// Identity makes alerts that are raised twice one. It is not shown.
	Identity string `json:"-"`

	// Lasting says that the cause may be seen again at any time, so that the identity must never be forgotten.
	Lasting bool `json:"-"`
}

// State says what became of an alert.
type State string

// The states.
const (
	Pending   State = "pending"
	Delivered State = "delivered"
	Expired   State = "expired"
)

// Patience is how long delivery is tried.
const Patience = 24 * time.Hour

// StateAt returns the state at a time.
func (a *Alert) StateAt(now time.Time) State {
	switch {
	case !a.DeliveredAt.IsZero():
		return Delivered
	case now.Sub(a.At) >= Patience:
		return Expired
	}
	return Pending
}

const (
	maxIdentity = 512  // bytes
	maxText     = 1024 // bytes
)

// Check returns an error that wraps catalog.ErrInvalid where an alert cannot be kept.
func (a *Alert) Check() error {
	for _, f := range []struct {
		name, text string
		max        int
	}{
		{"identity", a.Identity, maxIdentity}, {"kind", string(a.Kind), maxText}, {"severity", string(a.Severity), maxText},
		{"subject", a.Subject, maxText}, {"message", a.Message, maxText},
	} {
		if f.text == "" || len(f.text) > f.max || !utf8.ValidString(f.text) || strings.ContainsRune(f.text, 0) {
			return fmt.Errorf("alert: %s must be text of 1 to %d bytes: %w", f.name, f.max, catalog.ErrInvalid)
		}
	}
	if len(a.Project) > maxText || a.At.IsZero() {
		return fmt.Errorf("alert: needs a time, and a project of at most %d bytes: %w", maxText, catalog.ErrInvalid)
	}
	return nil
}

// Cut makes the texts of an alert, which may repeat names, such that every store keeps them.
func (a *Alert) Cut() {
	a.Subject, a.Message = catalog.PlainText(a.Subject, maxText), catalog.PlainText(a.Message, maxText)
	a.Identity = catalog.PlainText(a.Identity, maxIdentity)
}

// Query selects alerts.
type Query struct {
	Before  int64  // only ids below; 0: all
	Kind    Kind   // "": all
	Project string // only those of this project and all below it; "": all
	Limit   int    // at most; required
}

// OldestFirst sorts alerts by their ids.
func OldestFirst(list []Alert) {
	slices.SortFunc(list, func(a, b Alert) int { return cmp.Compare(a.ID, b.ID) })
}

// Outcome is what came of an attempt to deliver an alert.
type Outcome struct {
	DeliveredAt time.Time // zero when it failed
	Error       string    // why it failed; holds no secret
	Again       time.Time // when to try again after it failed
}

// Outbox keeps alerts. It is what a store implements; storage/storagetest has the tests that it must pass.
// Implementations are safe for concurrent use, by several processes too.
type Outbox interface {
	// RaiseAlerts keeps those of the alerts whose identity is not kept yet, all or none, and returns how many
	// those are. It gives them their ids, which rise. It MUST return an error that wraps catalog.ErrInvalid where
	// [Alert.Check] does.
	RaiseAlerts(ctx context.Context, alerts []Alert) (int, error)

	// Alerts returns those that q selects, newest first. State is not filled in.
	Alerts(ctx context.Context, q Query) ([]Alert, error)

	// ClaimAlerts returns at most limit alerts that are not delivered, are not older than [Patience] and are due, by now,
	// oldest first. They are not due again before until, so that another process does not get them, too.
	ClaimAlerts(ctx context.Context, now, until time.Time, limit int) ([]Alert, error)

	// SettleAlert records the outcome of an attempt, and counts it. An alert that is not kept any more is
	// no error, and one that was delivered stays so.
	SettleAlert(ctx context.Context, id int64, o Outcome) error

	// PruneAlerts forgets alerts that were raised before a time, but for lasting ones, and returns how many.
	PruneAlerts(ctx context.Context, before time.Time) (int64, error)
}
