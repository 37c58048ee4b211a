package catalog

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Key is a client's permission to use the gateway. Its token is known only to
// the client: the catalog keeps the token's hash. Names may repeat.
type Key struct {
	Meta
	Name             string    `json:"name" store:"-" create:"required" minLength:"1" maxLength:"256" doc:"The name of the key. Several keys may have the same name."`
	TokenHint        string    `json:"token_hint,omitempty" readOnly:"true" doc:"The last four characters of the token. A key that was imported by its hash has none."`
	Group            string    `json:"group" store:"-" minLength:"1" maxLength:"64" default:"default" doc:"The route group of the key, which says which bindings are for it."`
	Namespaces       []string  `json:"namespaces" store:"-" maxItems:"10000" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" default:"[\"default\"]" doc:"The namespaces of the models that the key may use."`
	DefaultNamespace string    `json:"default_namespace" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"The namespace of models that are asked for without one. It is one of namespaces. When the key is created, the default is the first of them."`
	Models           []string  `json:"models" store:"-" maxItems:"10000" minLength:"1" maxLength:"256" doc:"The public names of the models that the key may use, without namespaces. A name may end in *, which stands for every ending. An empty list allows all."`
	Scopes           []string  `json:"scopes" maxItems:"10000" minLength:"1" maxLength:"64" doc:"Words of your own for what the key may do. Balancers get them as they are."`
	AllowIPs         []string  `json:"allow_ips" maxItems:"10000" minLength:"1" maxLength:"64" doc:"The addresses and networks (CIDR) that the key may be used from. An empty list allows all."`
	ExpiresAt        time.Time `json:"expires_at,omitzero" doc:"When the key ends, from 1970 on. Without it the key does not end."`
	RPMLimit         int64     `json:"rpm_limit,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of requests a minute. Without it there is no limit."`
	TPMLimit         int64     `json:"tpm_limit,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of tokens a minute. Without it there is no limit."`
	MaxParallel      int64     `json:"max_parallel,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of requests at the same time. Without it there is no limit."`
	BudgetLimit      *NanoUSD  `json:"budget_limit" doc:"The budget of a budget_window in USD. null means that there is no limit."`
	BudgetWindow     string    `json:"budget_window,omitempty" enum:"day,week,month,total" doc:"The time after which a budget begins anew. With a budget_limit the default is total."`
	RotatedAt        time.Time `json:"rotated_at,omitzero" readOnly:"true" doc:"When the key got its present token by rotation."`

	// Token is set in what Create and Rotate return, and may be given to
	// Create to import one. It is never stored.
	Token Secret `json:"-"`
	// Tokens are the hashes by which the key is found. Given to Create, they are
	// imported; else they are the catalog's own business.
	Tokens []TokenHash `json:"-"`
}

// TokenHash is one of a key's tokens.
type TokenHash struct {
	Hash      string    `json:"hash"`                // see HashToken
	ExpiresAt time.Time `json:"expires_at,omitzero"` // end of the grace of a rotated token; zero is a current one
}

// BudgetWindows lists the values of Key.BudgetWindow.
func BudgetWindows() []string { return []string{"day", "week", "month", "total"} }

// WindowStart returns when the current budget window of a kind began: days,
// weeks (which begin on Monday) and months are those of UTC; total, and what is
// not known, began at the zero time.
func WindowStart(window string, now time.Time) time.Time {
	year, month, day := now.UTC().Date()
	switch window {
	case "day":
	case "week":
		day -= (int(now.UTC().Weekday()) + 6) % 7
	case "month":
		day = 1
	default:
		return time.Time{}
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

const (
	maxTokenHashes = 4
	minToken       = 16 // characters of an imported token
	maxToken       = 256
)

// storedKey is a Key with what of it is stored and not shown.
type storedKey struct {
	*plainKey
	Tokens *[]TokenHash `json:"tokens"`
}

type plainKey Key

func (*Key) kind() Kind { return KindKey }

func (*Key) naturalKey() string { return "" } // names may repeat

func (k *Key) normalize() {
	k.Meta.normalize()
	k.Name, k.Group = strings.TrimSpace(k.Name), strings.TrimSpace(k.Group)
	k.DefaultNamespace = strings.TrimSpace(k.DefaultNamespace)
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
	if k.BudgetLimit != nil {
		setDefault(&k.BudgetWindow, "total")
	}
	k.ExpiresAt = micros(k.ExpiresAt)
}

func (k *Key) check(rules) FieldErrors {
	var errs FieldErrors
	k.Meta.check(&errs)
	checkName(&errs, "name", k.Name)
	checkGroup(&errs, "group", k.Group)
	checkList(&errs, "namespaces", k.Namespaces, checkNamespace)
	if !slices.Contains(k.Namespaces, k.DefaultNamespace) {
		errs.add("default_namespace", "must be one of namespaces")
	}
	checkList(&errs, "models", k.Models, checkPattern)
	checkList(&errs, "scopes", k.Scopes, func(errs *FieldErrors, field, v string) { checkWord(errs, field, v, maxWord) })
	checkList(&errs, "allow_ips", k.AllowIPs, func(errs *FieldErrors, field, v string) {
		if _, err := ParsePrefix(v); err != nil {
			errs.add(field, "must be an address or a network such as 192.0.2.0/24")
		}
	})
	checkLimit(&errs, "rpm_limit", k.RPMLimit)
	checkLimit(&errs, "tpm_limit", k.TPMLimit)
	checkLimit(&errs, "max_parallel", k.MaxParallel)
	checkPrice(&errs, "budget_limit", k.BudgetLimit)
	if k.BudgetWindow != "" && !slices.Contains(BudgetWindows(), k.BudgetWindow) {
		errs.add("budget_window", "must be one of %s", strings.Join(BudgetWindows(), ", "))
	}
	if year := k.ExpiresAt.Year(); !k.ExpiresAt.IsZero() && (year < 1970 || year > 9999) {
		errs.add("expires_at", "must be a time from 1970 to 9999")
	}
	return errs
}

// ParsePrefix reads a network in CIDR form or an address, which is a network
// of one. IPv4 addresses mapped into IPv6 become IPv4.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap().WithZone("")
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

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// succeed gives a new key its tokens, those that it brings or a fresh one, and
// leaves a stored key those that it has.
func (k *Key) succeed(stored record, _ map[string]bool) FieldErrors {
	if before, ok := stored.(*Key); ok {
		k.Token, k.Tokens, k.TokenHint, k.RotatedAt = Secret{}, before.Tokens, before.TokenHint, before.RotatedAt
		return nil
	}
	k.RotatedAt = time.Time{}
	var errs FieldErrors
	switch token := k.Token.Reveal(); {
	case token != "" && len(k.Tokens) > 0:
		errs.add("token_hashes", "must not come together with token")
	case token != "":
		if len(token) < minToken || len(token) > maxToken || strings.ContainsFunc(token,
			func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs.add("token", "must be %d to %d printable ASCII characters without spaces", minToken, maxToken)
		}
		k.setToken(k.Token)
	case len(k.Tokens) > 0:
		k.TokenHint = ""
		checkTokenHashes(&errs, k.Tokens)
	default:
		k.setToken(NewToken())
	}
	return errs
}

func (k *Key) issued() Secret { return k.Token }

func (*Key) comeBack() string { return "comes back with a new token" }

func (k *Key) hidden() string {
	text, _ := json.Marshal(k.Tokens) // strings and times always marshal
	return string(text)
}

// receive takes the members with which a key imports tokens, and leaves out what
// the API shows of a key besides its fields.
func (k *Key) receive(errs *FieldErrors, object map[string]any, form body) {
	delete(object, "last_used_at")
	delete(object, "spend")
	if form == patchBody {
		return // tokens change by rotation only
	}
	if token, ok := object["token"]; ok {
		assign(errs, "token", reflect.ValueOf(&k.Token).Elem(), token)
		if token == "" {
			errs.add("token", "must not be empty; leave it out to have one made")
		}
		delete(object, "token")
	}
	if list, ok := object["token_hashes"]; ok {
		var hashes []string
		assign(errs, "token_hashes", reflect.ValueOf(&hashes).Elem(), list)
		for _, h := range hashes {
			k.Tokens = append(k.Tokens, TokenHash{Hash: h})
		}
		delete(object, "token_hashes")
	}
}

func checkTokenHashes(errs *FieldErrors, tokens []TokenHash) {
	if len(tokens) > maxTokenHashes {
		errs.add("token_hashes", "must be at most %d", maxTokenHashes)
	}
	hashes := make([]string, len(tokens))
	for i, t := range tokens {
		hashes[i] = t.Hash
	}
	checkList(errs, "token_hashes", hashes, func(errs *FieldErrors, field, v string) {
		if !hashForm.MatchString(v) {
			errs.add(field, "must be a SHA-256 in 64 lower-case hexadecimal characters")
		}
	})
}

func (k *Key) setToken(token Secret) {
	k.Token, k.TokenHint = token, token.Hint()
	k.Tokens = append(k.Tokens, TokenHash{Hash: HashToken(token.Reveal())})
}

// rotate gives the key a fresh token. Current ones live on for grace; those
// that an earlier rotation had left end now.
func (k *Key) rotate(now time.Time, grace time.Duration) {
	var kept []TokenHash
	for _, t := range k.Tokens {
		if t.ExpiresAt.IsZero() && grace > 0 {
			t.ExpiresAt = micros(now.Add(grace))
			kept = append(kept, t)
		}
	}
	k.Tokens, k.RotatedAt = kept, now
	k.setToken(NewToken())
}

// expire removes the tokens whose grace is over.
func (k *Key) expire(now time.Time) {
	k.Tokens = slices.DeleteFunc(k.Tokens,
		func(t TokenHash) bool { return !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) })
}

func (k *Key) encode(Keeper) (Entity, error) {
	e := k.entity(KindKey)
	e.Name, e.Namespaces, e.Groups, e.Mentions = k.Name, slices.Clone(k.Namespaces), []string{k.Group},
		slices.Clone(k.Models)
	for _, t := range k.Tokens {
		e.Hashes = append(e.Hashes, t.Hash)
		if !t.ExpiresAt.IsZero() && (e.DueAt.IsZero() || t.ExpiresAt.Before(e.DueAt)) {
			e.DueAt = t.ExpiresAt
		}
	}
	return e.withSpec(k, member{"tokens", k.Tokens})
}

func (k *Key) decode(e Entity, _ Keeper) error {
	*k = Key{}
	if err := e.spec(&storedKey{(*plainKey)(k), &k.Tokens}); err != nil {
		return err
	}
	k.Name, k.Group, k.Namespaces, k.Models = e.Name, first(e.Groups), slices.Clone(e.Namespaces),
		append([]string{}, e.Mentions...)
	k.load(e)
	return nil
}

func (k *Key) touches() Touches {
	t := Touches{Groups: sortedSet(k.Group)}
	for _, token := range k.Tokens {
		t.Hashes = append(t.Hashes, token.Hash)
	}
	slices.Sort(t.Hashes)
	return t
}

// micros is t as every store keeps it.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
