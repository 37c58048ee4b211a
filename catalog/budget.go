package catalog

import (
	"slices"
	"strings"
	"time"
)

// Limits are how much may be asked for. Balancers enforce them.
type Limits struct {
	RPMLimit    int64 `json:"rpm_limit,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of requests a minute. Without it there is no limit."`
	TPMLimit    int64 `json:"tpm_limit,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of tokens a minute. Without it there is no limit."`
	MaxParallel int64 `json:"max_parallel,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of requests at the same time. Without it there is no limit."`
}

func (l *Limits) check(errs *FieldErrors) {
	checkLimit(errs, "rpm_limit", l.RPMLimit)
	checkLimit(errs, "tpm_limit", l.TPMLimit)
	checkLimit(errs, "max_parallel", l.MaxParallel)
}

// Budget is what a key or a project may cost in a window of time. What was spent is a sum
// over the usage in the window, and is stored nowhere.
type Budget struct {
	Limit    *NanoUSD `json:"limit" create:"required" doc:"What may be spent in a window, in USD. With 0 and action block nothing may be spent."`
	Window   string   `json:"window" create:"required" enum:"hour,day,week,month,total" doc:"How long the budget is for. A week begins on Monday; total never ends."`
	Timezone string   `json:"timezone" minLength:"1" maxLength:"64" default:"UTC" doc:"The IANA time zone whose hours, days, weeks and months are meant."`
	Action   string   `json:"action" enum:"block,alert" default:"block" doc:"What happens when the budget is used up: block holds the key or the project until the window ends, alert only says so."`
	AlertAt  []int64  `json:"alert_at" maxItems:"10" minimum:"1" maximum:"1000" doc:"At which percentages of the limit an alert is given, once in each window."`
}

// The windows of budgets.
const (
	WindowHour  = "hour"
	WindowDay   = "day"
	WindowWeek  = "week" // from Monday
	WindowMonth = "month"
	WindowTotal = "total" // without an end
)

// BudgetWindows lists the values of Budget.Window.
func BudgetWindows() []string {
	return []string{WindowHour, WindowDay, WindowWeek, WindowMonth, WindowTotal}
}

// The actions of budgets.
const (
	BudgetBlock = "block"
	BudgetAlert = "alert"
)

// BudgetActions lists the values of Budget.Action.
func BudgetActions() []string { return []string{BudgetBlock, BudgetAlert} }

const (
	maxBudgets  = 4
	maxAlerts   = 10
	mostPercent = 1000
)

// Zone returns the time zone of the budget. It fails for one that was not checked.
func (b Budget) Zone() (*time.Location, error) { return LoadZone(b.Timezone) }

// normalizeBudgets returns a copy, each in its normal form.
func normalizeBudgets(budgets []Budget) []Budget {
	normal := make([]Budget, len(budgets))
	for i, b := range budgets {
		b.Window, b.Timezone = strings.TrimSpace(b.Window), strings.TrimSpace(b.Timezone)
		b.Action = strings.TrimSpace(b.Action)
		setDefault(&b.Timezone, "UTC")
		setDefault(&b.Action, BudgetBlock)
		b.AlertAt = append([]int64{}, b.AlertAt...)
		slices.Sort(b.AlertAt)
		normal[i] = b
	}
	return normal
}

func checkBudgets(errs *FieldErrors, budgets []Budget) {
	if len(budgets) > maxBudgets {
		errs.add("budgets", "must have at most %d elements", maxBudgets)
		return
	}
	seen := map[[2]string]bool{}
	for i, b := range budgets {
		at := elementPath("budgets", i)
		b.check(errs, at)
		if window := [2]string{b.Window, b.Timezone}; seen[window] {
			errs.add(at, "has the same window and timezone as one before it; a window may have one limit")
		} else {
			seen[window] = true
		}
	}
}

func (b *Budget) check(errs *FieldErrors, at string) {
	if b.Limit == nil {
		errs.add(at+".limit", "is required")
	}
	checkPrice(errs, at+".limit", b.Limit)
	if !slices.Contains(BudgetWindows(), b.Window) {
		errs.add(at+".window", "must be one of %s", strings.Join(BudgetWindows(), ", "))
	}
	if _, err := b.Zone(); err != nil {
		errs.add(at+".timezone", zoneRule)
	}
	if !slices.Contains(BudgetActions(), b.Action) {
		errs.add(at+".action", "must be one of %s", strings.Join(BudgetActions(), ", "))
	}
	if len(b.AlertAt) > maxAlerts {
		errs.add(at+".alert_at", "must be at most %d percentages", maxAlerts)
		return
	}
	for i, percent := range b.AlertAt {
		switch {
		case percent < 1 || percent > mostPercent:
			errs.add(elementPath(at+".alert_at", i), "must be a percentage from 1 to %d", mostPercent)
		case i > 0 && percent == b.AlertAt[i-1]:
			errs.add(elementPath(at+".alert_at", i), "occurs twice in the list; send it once")
		}
	}
}
