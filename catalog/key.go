package catalog

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Key is a client's permission to use the gateway. Names may repeat.
type Key struct {
	Meta
	Name string `json:"name" store:"-" create:"required" minLength:"1" maxLength:"256" doc:"The name of the key. Several keys may have the same name."`
	Credential
	Project          string    `json:"project,omitempty" store:"-" pattern:"^[a-z0-9][a-z0-9_-]{0,62}(/[a-z0-9][a-z0-9_-]{0,62}){0,2}$" doc:"The project that the key belongs to, by its path. The project must exist. A key without project has none of the limits of projects."`
	Group            string    `json:"group" store:"-" minLength:"1" maxLength:"64" default:"default" doc:"The route group of the key, which says which bindings are for it."`
	Namespaces       []string  `json:"namespaces" store:"-" maxItems:"10000" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" default:"[\"default\"]" doc:"The namespaces of the models that the key may use."`
	DefaultNamespace string    `json:"default_namespace" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"The namespace of models that are asked for without one. It is one of namespaces. When the key is created, the default is the first of them."`
	Models           []string  `json:"models" store:"-" maxItems:"10000" minLength:"1" maxLength:"256" doc:"The public names of the models that the key may use, without namespaces. A name may end in *, which stands for every ending. An empty list allows all."`
	Scopes           []string  `json:"scopes" maxItems:"10000" minLength:"1" maxLength:"64" doc:"Words of your own for what the key may do. Balancers get them as they are."`
	AllowIPs         []string  `json:"allow_ips" maxItems:"10000" minLength:"1" maxLength:"64" doc:"The addresses and networks (CIDR) that the key may be used from. An empty list allows all."`
	ExpiresAt        time.Time `json:"expires_at,omitzero" doc:"When the key ends, from 1970 on. Without it the key does not end."`
	Limits
	Budgets []Budget `json:"budgets" maxItems:"4" doc:"What the key may cost in a window of time. Each window of a time zone is there at most once."`
}

// storedKey is a Key with what of it is stored and not shown.
type storedKey struct {
	*plainKey
	Tokens *[]TokenHash `json:"tokens"`
}

type plainKey Key

func (*Key) kind() Kind { return KindKey }

func (*Key) naturalKey() string { return "" } // names may repeat

func (*Key) newToken() Secret { return NewToken() }

func (k *Key) normalize() {
	k.Meta.normalize()
	k.Name, k.Group = strings.TrimSpace(k.Name), strings.TrimSpace(k.Group)
	k.DefaultNamespace, k.Project = strings.TrimSpace(k.DefaultNamespace), strings.TrimSpace(k.Project)
	setDefault(&k.Group, defaultGroup)
	if k.Namespaces = trimAll(k.Namespaces); len(k.Namespaces) == 0 {
		k.Namespaces = []string{defaultNamespace}
	}
	setDefault(&k.DefaultNamespace, k.Namespaces[0])
	k.Models, k.Scopes, k.AllowIPs = trimAll(k.Models), trimAll(k.Scopes), trimAll(k.AllowIPs)
	for i, s := range k.AllowIPs {
		if p, err := ParsePrefix(s); err == nil {
			k.AllowIPs[i] = formatPrefix(p)
		}
	}
	k.Budgets = normalizeBudgets(k.Budgets)
	k.ExpiresAt = micros(k.ExpiresAt)
}

func (k *Key) check(rules) FieldErrors {
	var errs FieldErrors
	k.Meta.check(&errs)
	checkName(&errs, "name", k.Name)
	if k.Project != "" {
		checkPath(&errs, "project", k.Project)
	}
	checkGroup(&errs, "group", k.Group)
	checkList(&errs, "namespaces", k.Namespaces, checkNamespace)
	if !slices.Contains(k.Namespaces, k.DefaultNamespace) {
		errs.add("default_namespace", "must be one of namespaces")
	}
	checkList(&errs, "models", k.Models, checkPattern)
	checkList(&errs, "scopes", k.Scopes, func(errs *FieldErrors, field, v string) { checkWord(errs, field, v, maxWord) })
	checkList(&errs, "allow_ips", k.AllowIPs, func(errs *FieldErrors, field, v string) {
		if _, err := ParsePrefix(v); err != nil {
			errs.add(field, "must be an address or a network such as 192.0.2.0/24, without a zone")
		}
	})
	checkTogether(&errs, []string{"namespaces", "models", "scopes", "allow_ips"},
		k.Namespaces, k.Models, k.Scopes, k.AllowIPs)
	k.Limits.check(&errs)
	checkBudgets(&errs, k.Budgets)
	checkExpiry(&errs, k.ExpiresAt)
	return errs
}

// checkExpiry accepts a time that every store and JSON know, or none.
func checkExpiry(errs *FieldErrors, at time.Time) {
	if year := at.Year(); !at.IsZero() && (year < 1970 || year > 9999) {
		errs.add("expires_at", "must be a time from 1970 to 9999")
	}
}

// errZone refuses addresses such as fe80::1%eth0: eth0 is the name of a link on one machine.
var errZone = errors.New("catalog: an address must have no zone; leave out what begins with %")

// ParsePrefix reads a network in CIDR form or an address, which is a network
// of one. IPv4 addresses mapped into IPv6 become IPv4. A zone is an error.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		if a.Zone() != "" {
			return netip.Prefix{}, errZone
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// succeed gives a new key its tokens, those that it brings or a fresh one, and
// leaves a stored key those that it has.
func (k *Key) succeed(stored record, _ map[string]bool) FieldErrors {
	if before, ok := stored.(*Key); ok {
		if before.Damaged {
			return lostTokens()
		}
		return k.keep(before.Credential)
	}
	return k.begin(k.newToken)
}

func (k *Key) issued() Secret { return k.Token }

func (*Key) comeBack(now record, _ Revision) string {
	if now != nil {
		return ""
	}
	return "comes back with a new token"
}

func (k *Key) hidden() string { return k.state() }

// receive takes the members with which a key imports tokens, and leaves out what
// the API shows of a key besides its fields.
func (k *Key) receive(errs *FieldErrors, object map[string]any, form body) {
	delete(object, "last_used_at")
	delete(object, "spend")
	if form == newBody { // afterwards tokens change by rotation only
		k.receiveTokens(errs, object)
	}
}

func (k *Key) columns() Entity {
	e := k.entity(KindKey)
	e.Name, e.Ref, e.Groups = k.Name, k.Project, []string{k.Group}
	e.Namespaces, e.Mentions = slices.Clone(k.Namespaces), slices.Clone(k.Models)
	e.Hashes, e.DueAt = k.index()
	return e
}

func (k *Key) unseen(Keeper) ([]member, error) { return []member{{"tokens", k.Tokens}}, nil }

func (k *Key) decode(e Entity, _ Keeper) error {
	*k = Key{}
	if err := e.spec(&storedKey{(*plainKey)(k), &k.Tokens}); err != nil {
		return err
	}
	k.Name, k.Project, k.Group = e.Name, e.Ref, first(e.Groups)
	k.Namespaces, k.Models = slices.Clone(e.Namespaces), append([]string{}, e.Mentions...)
	k.load(e)
	return nil
}

func (k *Key) touches() Touches {
	return Touches{Refs: sortedSet(k.Project), Hashes: k.hashes(), Groups: sortedSet(k.Group)}
}
