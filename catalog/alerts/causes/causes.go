// Package causes has what people are told of by the control plane itself, beside what budgets and the health
// of providers raise.
package causes

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	patience     = time.Minute // publishing may fail for so long before anybody is told
	alertsAtOnce = 20          // of one kind in one look; beyond, one says how many there are

	keyNotice       = 7 * 24 * time.Hour // before a key expires
	keyInterval     = 6 * time.Hour      // between two looks at all keys
	keyPage         = 1000
	maxKeyAlerts    = 1000
	nodesLookedUpon = 10_000
)

// Watched is what is looked at. All of it is required.
type Watched struct {
	Relay    Relay
	Logs     Logs
	Unpriced Unpriced
	Keys     Keys
	Clock    func() time.Time
}

// Relay is what is looked at of a [snapshot.Relay].
type Relay interface {
	Status() snapshot.RelayStatus
	Fleet() *snapshot.Fleet
}

// Logs is what is looked at of a [logbuf.Buffer].
type Logs interface {
	Stats() logbuf.Stats
}

// Unpriced knows the models that entries were seen of whose cost is not known.
type Unpriced interface {
	List() []catalog.PriceKey
	Forget(told []catalog.PriceKey)
}

// Keys lists the keys of the catalog.
type Keys interface {
	List(ctx context.Context, q catalog.Query) ([]catalog.Key, error)
}

// Causes look at what is, not at what happens, so that nothing is missed while the catalog is away; the
// identities of alerts make two looks at the same thing one alert. They are for one goroutine at a time.
type Causes struct {
	of       Watched
	failing  time.Time // since when publishing fails; zero when it does not
	dead     int64     // entries that nobody could store, when people were last told of them
	damaged  int64
	keysSeen time.Time // when all keys were looked at

	next struct { // what is so once the alerts are kept
		dead, damaged int64
		keysSeen      time.Time
		unpriced      []catalog.PriceKey
	}
}

var _ alerts.Causes = (*Causes)(nil)

// New returns causes of which nobody was told yet.
func New(of Watched) *Causes { return &Causes{of: of} }

// Look returns an alert for each cause that there is.
func (c *Causes) Look(ctx context.Context) (found []alerts.Alert) {
	now := c.of.Clock()
	found = append(found, c.publishing(now)...)
	found = append(found, c.nodes(now)...)
	found = append(found, c.entries(now)...)
	found = append(found, c.prices(now)...)
	return append(found, c.keys(ctx, now)...)
}

// Told is called when what Look returned is kept.
func (c *Causes) Told() {
	c.dead, c.damaged, c.keysSeen = c.next.dead, c.next.damaged, c.next.keysSeen
	c.of.Unpriced.Forget(c.next.unpriced)
}

// publishing: changes do not reach data planes.
func (c *Causes) publishing(now time.Time) []alerts.Alert {
	s := c.of.Relay.Status()
	if s.LastError == "" && s.Trouble == "" {
		c.failing = time.Time{}
		return nil
	}
	if c.failing.IsZero() {
		c.failing = now
	}
	if now.Sub(c.failing) < patience {
		return nil
	}
	trouble := string(s.Trouble)
	if trouble == "" {
		trouble = "failing"
	}
	return []alerts.Alert{{
		Kind: alerts.PublishingFailing, Subject: "publishing", Identity: alerts.Hourly("publishing/"+trouble, now),
		Message: fmt.Sprintf("Changes of the catalog have not reached Redis since %s (%s). Balancers go on with what they "+
			"have; a key that is revoked now keeps working.", c.failing.UTC().Format(time.RFC3339), trouble),
	}}
}

// nodes: data planes that are not heard of any more, and did not say that they stop.
func (c *Causes) nodes(now time.Time) (found []alerts.Alert) {
	nodes, _ := c.of.Relay.Fleet().Nodes(snapshot.Head{}, nodesLookedUpon)
	lost := 0
	for _, n := range nodes {
		if n.State != snapshot.NodeLost {
			continue
		}
		if lost++; lost <= alertsAtOnce {
			found = append(found, alerts.Alert{
				Kind: alerts.NodeLost, Subject: "node/" + n.ID, Identity: fmt.Sprintf("node/%s/%d", n.ID, n.SeenAt.Unix()),
				Message: fmt.Sprintf("The balancer %s was last heard of at %s. What it serves now is not known.", n.ID,
					n.SeenAt.UTC().Format(time.RFC3339)),
			})
		}
	}
	if lost > alertsAtOnce {
		found = append(found, alerts.Alert{
			Kind: alerts.NodeLost, Subject: "nodes", Identity: alerts.Hourly("nodes", now),
			Message: fmt.Sprintf("%d balancers were heard of within a day, and are not any more.", lost),
		})
	}
	return found
}

// entries: access logs that no database takes, or that were damaged on disk.
func (c *Causes) entries(now time.Time) (found []alerts.Alert) {
	s := c.of.Logs.Stats()
	c.next.dead, c.next.damaged = s.Dead, s.Damaged
	if s.Dead > c.dead {
		found = append(found, alerts.Alert{
			Kind: alerts.DeadLetters, Subject: "logs", Identity: alerts.Hourly("dead", now),
			Message: fmt.Sprintf("The log store has refused entries, %d at one server since it started. They are kept as dead "+
				"letters, and are in no sum.", s.Dead),
		})
	}
	if s.Damaged > c.damaged {
		found = append(found, alerts.Alert{
			Kind: alerts.DeadLetters, Subject: "logs", Identity: alerts.Hourly("damaged", now),
			Message: fmt.Sprintf("Entries in the log spool were damaged and cannot be stored, %d at one server since it "+
				"started. Look at its disk.", s.Damaged),
		})
	}
	return found
}

// prices: requests whose cost is not known.
func (c *Causes) prices(now time.Time) (found []alerts.Alert) {
	unknown := c.of.Unpriced.List()
	c.next.unpriced = unknown
	for i, u := range unknown {
		if i == alertsAtOnce {
			return append(found, alerts.Alert{
				Kind: alerts.UnknownPrice, Subject: "logs", Identity: alerts.Hourly("prices", now),
				Message: fmt.Sprintf("Requests for %d models have an unknown cost, because prices are missing.", len(unknown)),
			})
		}
		subject, what := "logs", "the model "+catalog.SafeName(u.Model)
		if u.ProviderID != 0 {
			subject = fmt.Sprintf("provider/%d", u.ProviderID)
			what = fmt.Sprintf("the upstream model %s of provider %d", catalog.SafeName(u.UpstreamModel), u.ProviderID)
		}
		found = append(found, alerts.Alert{
			Kind: alerts.UnknownPrice, Subject: subject,
			Identity: fmt.Sprintf("price/%d/%x/%s", u.ProviderID, catalog.HashToken(u.UpstreamModel + "\x00" + u.Model)[:16],
				now.UTC().Format(time.DateOnly)),
			Message: fmt.Sprintf("Requests for %s have an unknown cost: it has no price, or not for all that was used. "+
				"Set it, then compute the costs anew.", what),
		})
	}
	return found
}

// keys: those that expire soon.
func (c *Causes) keys(ctx context.Context, now time.Time) (found []alerts.Alert) {
	c.next.keysSeen = c.keysSeen
	if now.Sub(c.keysSeen) < keyInterval {
		return nil
	}
	more := 0
	for after := int64(0); ; {
		page, err := c.of.Keys.List(ctx, catalog.Query{After: after, Limit: keyPage, Status: string(catalog.Active)})
		if err != nil {
			return found // those of the other pages are seen the next time
		}
		for i := range page {
			k := &page[i]
			after = k.ID
			if k.ExpiresAt.IsZero() || k.ExpiresAt.Before(now) || k.ExpiresAt.Sub(now) > keyNotice {
				continue
			}
			if len(found) == maxKeyAlerts {
				more++
				continue
			}
			found = append(found, alerts.Alert{
				Kind: alerts.KeyExpiring, Subject: fmt.Sprintf("key/%d", k.ID), Project: k.Project,
				Identity: fmt.Sprintf("expiry/%d/%d", k.ID, k.ExpiresAt.Unix()),
				Message: fmt.Sprintf("The key %s (id %d) expires at %s.", catalog.PlainText(k.Name, 200), k.ID,
					k.ExpiresAt.UTC().Format(time.RFC3339)),
			})
		}
		if len(page) < keyPage {
			break
		}
	}
	if more > 0 {
		found = append(found, alerts.Alert{
			Kind: alerts.KeyExpiring, Subject: "keys", Identity: "expiry/" + now.UTC().Format(time.DateOnly),
			Message: fmt.Sprintf("%d more keys expire within 7 days.", more),
		})
	}
	c.next.keysSeen = now
	return found
}
