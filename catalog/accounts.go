package catalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"
)

// Accounts keeps in memory what requests are charged to, so that a look-up needs no database: which
// project each key is in, which budgets keys and projects have, and which of them are held because
// of their budgets. A [Follower] fills it and keeps it up to date; it is empty until then. It is
// safe for concurrent use.
type Accounts struct {
	mu       sync.RWMutex
	projects map[int64]string        // of the keys that are in one
	budgets  map[HoldTarget][]Budget // of those that have some
	holds    map[HoldTarget]BudgetHold
	ids      map[string]int64 // of the projects with budgets: one may take the path of another in the same revision
	newest   int64            // the highest id of a key that was ever seen

	changed map[HoldTarget]bool // since they were taken
	signal  chan struct{}       // of capacity 1: something has changed
	loaded  chan struct{}       // closed once the catalog was read
	load    sync.Once
}

var _ Copy = (*Accounts)(nil)

// A BudgetHold is the hold of a key or a project whose budget is used up.
type BudgetHold struct {
	ID     int64
	Until  time.Time // zero is without an end
	Status Status
}

// NewAccounts returns an empty copy.
func NewAccounts() *Accounts {
	a := &Accounts{signal: make(chan struct{}, 1), loaded: make(chan struct{}), changed: map[HoldTarget]bool{}}
	a.empty()
	return a
}

func (a *Accounts) empty() {
	a.ids = map[string]int64{}
	a.projects, a.budgets, a.holds = map[int64]string{}, map[HoldTarget][]Budget{}, map[HoldTarget]BudgetHold{}
}

// Project returns the project that a key is in; "" for none.
func (a *Accounts) Project(keyID int64) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.projects[keyID]
}

// Knows reports whether a key with the id can have been seen. Ids rise, so a higher one than all that
// were seen is of a key that was made since, or of none.
func (a *Accounts) Knows(keyID int64) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return keyID <= a.newest
}

// Budgets returns those of a key or a project, which MUST NOT be changed.
func (a *Accounts) Budgets(t HoldTarget) []Budget {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.budgets[t]
}

// Hold returns the hold that budgets have made of a key or a project.
func (a *Accounts) Hold(t HoldTarget) (h BudgetHold, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	h, ok = a.holds[t]
	return h, ok
}

// Len returns how many keys and projects have budgets.
func (a *Accounts) Len() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.budgets)
}

// Budgeted returns the keys and projects that have budgets or a hold because of them: first the
// projects, by path, then the keys, by id.
func (a *Accounts) Budgeted() []HoldTarget {
	a.mu.RLock()
	all := slices.AppendSeq(make([]HoldTarget, 0, len(a.budgets)), maps.Keys(a.budgets))
	for t := range a.holds {
		if _, listed := a.budgets[t]; !listed {
			all = append(all, t)
		}
	}
	a.mu.RUnlock()
	slices.SortFunc(all, CompareAccounts)
	return all
}

// CompareAccounts orders projects by path, and after them keys by id.
func CompareAccounts(a, b HoldTarget) int {
	return cmp.Or(cmp.Compare(a.KeyID, b.KeyID), strings.Compare(a.Project, b.Project))
}

// Changed returns a channel that gets a value when budgets, or holds because of them, have changed.
// Several changes may share one value, and each value goes to one receiver.
func (a *Accounts) Changed() <-chan struct{} { return a.signal }

// Loaded returns a channel that is closed once the catalog was read: until then nobody has budgets.
func (a *Accounts) Loaded() <-chan struct{} { return a.loaded }

// TakeChanged returns the keys and projects whose budgets, or holds because of them, may have
// changed since it was called last.
func (a *Accounts) TakeChanged() []HoldTarget {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := slices.Collect(maps.Keys(a.changed))
	clear(a.changed)
	return taken
}

// Kinds implements [Copy].
func (*Accounts) Kinds() []Kind { return []Kind{KindKey, KindProject, KindHold} }

// Load implements [Copy].
func (a *Accounts) Load(ctx context.Context, r Reader) error {
	fresh := NewAccounts()
	for _, kind := range []Kind{KindProject, KindKey, KindHold} {
		err := eachEntity(ctx, r, kind, func(e Entity) { fresh.put(kind, e.ID, accountOf(e)) })
		if err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, before := range []*Accounts{a, fresh} {
		for t := range before.budgets {
			a.changed[t] = true
		}
		for t := range before.holds {
			a.changed[t] = true
		}
	}
	a.projects, a.budgets, a.holds, a.ids = fresh.projects, fresh.budgets, fresh.holds, fresh.ids
	a.newest = max(a.newest, fresh.newest)
	a.load.Do(func() { close(a.loaded) })
	a.wake()
	return nil
}

// Apply implements [Copy].
func (a *Accounts) Apply(_ context.Context, _ Reader, changes []Change, _ Revision) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		switch c.Kind {
		case KindKey, KindProject, KindHold:
			var before, after account
			if len(c.Before) > 0 {
				_ = json.Unmarshal(c.Before, &before) // what cannot be read has nothing
				a.remove(c.Kind, c.ID, before)
			}
			if len(c.After) > 0 {
				_ = json.Unmarshal(c.After, &after)
				a.put(c.Kind, c.ID, after)
			}
		}
	}
	a.wake()
	return nil
}

// Arrive implements [Copy].
func (a *Accounts) Arrive(Head) {}

// wake says that something has changed. It needs the lock.
func (a *Accounts) wake() {
	if len(a.changed) == 0 {
		return
	}
	select {
	case a.signal <- struct{}{}:
	default: // it is said already
	}
}

// An account is what matters here of a key, a project or a hold, as the feed shows it.
type account struct {
	Name    string    `json:"name"`    // of a project
	Project string    `json:"project"` // of a key
	Budgets []Budget  `json:"budgets"`
	Target  string    `json:"target"` // of a hold, and what follows
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until"`
	Status  Status    `json:"status"`
}

// accountOf reads a stored entity. What cannot be read has nothing, and holds up no other.
func accountOf(e Entity) account {
	var a account
	if e.Kind == KindHold || !bytes.Contains(e.Spec, []byte(`"budgets":[]`)) { // most have none
		_ = e.spec(&a)
	}
	a.Name, a.Status = e.Name, Status(e.Status)
	switch e.Kind {
	case KindKey:
		a.Project = e.Ref
	case KindHold:
		a.Target = e.Name
	}
	return a
}

// targetOf returns what an account is charged for; ok is false where that is neither a key nor a
// project.
func (v account) targetOf(kind Kind, id int64) (t HoldTarget, ok bool) {
	switch kind {
	case KindKey:
		return HoldTarget{KeyID: id}, true
	case KindProject:
		return HoldTarget{Project: v.Name}, v.Name != ""
	}
	t, ok = ParseHoldTarget(v.Target)
	return t, ok && v.Reason == HoldBudget && t.ProviderID == 0
}

// put adds what remove has taken away. It needs the lock.
func (a *Accounts) put(kind Kind, id int64, v account) {
	t, ok := v.targetOf(kind, id)
	if !ok {
		return
	}
	if kind == KindHold {
		a.holds[t] = BudgetHold{ID: id, Until: v.Until, Status: v.Status}
		a.changed[t] = true
		return
	}
	if kind == KindKey {
		a.newest = max(a.newest, id)
	}
	if kind == KindKey && v.Project != "" {
		a.projects[id] = unique.Make(v.Project).Value() // keys of a project share its path
	}
	if len(v.Budgets) > 0 {
		a.budgets[t] = v.Budgets
		a.changed[t] = true
		if kind == KindProject {
			a.ids[t.Project] = id
		}
	}
}

// remove forgets an entity. It needs the lock.
func (a *Accounts) remove(kind Kind, id int64, v account) {
	t, ok := v.targetOf(kind, id)
	if !ok {
		return
	}
	if kind == KindHold {
		if a.holds[t].ID == id {
			delete(a.holds, t)
			a.changed[t] = true
		}
		return
	}
	if kind == KindKey {
		delete(a.projects, id)
	} else if a.ids[t.Project] != id {
		return
	}
	if _, had := a.budgets[t]; had {
		delete(a.budgets, t)
		delete(a.ids, t.Project)
		a.changed[t] = true
	}
}
