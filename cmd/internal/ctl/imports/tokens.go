package imports

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ez-api/ez-api/catalog"
)

// people makes projects of users, and keys of tokens.
func (m *mapper) people() {
	keys := map[string]int64{}
	for _, t := range m.tokens {
		keys[t.user]++
	}
	byName := map[string]*user{}
	for i := range m.users {
		u := &m.users[i]
		byName[u.name] = u
		m.project(u, keys[u.name])
	}
	for _, t := range m.tokens {
		m.key(t, byName[t.user])
	}
}

// path returns the path of a user's project. A name in other letters than Latin ones would
// lose them.
func (m *mapper) path(u *user) string {
	return m.paths.get(u.name, maxSlug, func(name string) string {
		if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
			return fmt.Sprintf("user-%d", u.id)
		}
		return slug(name)
	})
}

// project makes a project of a user.
func (m *mapper) project(u *user, keys int64) {
	path := m.path(u)
	subject := fmt.Sprintf("user %d", u.id)
	p := map[string]any{"name": path, "external_id": fmt.Sprintf("%s:user:%d", m.source, u.id)}
	if path != u.name {
		p["labels"] = map[string]any{"user": cut(plain(u.name), maxName)}
	}
	if !u.active {
		p["status"] = "disabled"
	}
	if u.maxKeys > 0 {
		if keys > u.maxKeys {
			m.notes.Add(subject, "has more keys than max_child_keys allows; max_keys is as many as there are")
		}
		p["max_keys"] = max(u.maxKeys, keys)
	}
	if u.qps > 0 {
		m.notes.Add("", "global_qps becomes rpm_limit: as many in a minute as in 60 seconds")
		p["rpm_limit"] = u.qps * 60
	}
	if u.quota != nil {
		if limit, ok := budget(*u.quota, m.opts.QuotaPerUSD); ok {
			p["budgets"] = []any{map[string]any{"limit": limit, "window": "total"}}
		} else {
			m.notes.Add(subject, "has a quota that no budget can hold, and has none")
		}
	}
	m.add(catalog.KindProject, p)
}

// key makes a key of a token.
func (m *mapper) key(t token, owner *user) {
	subject := fmt.Sprintf("token %d", t.id)
	if t.text == "" {
		m.notes.Add(subject, "has no token in this source, and is not imported")
		return
	}
	bare := strings.TrimPrefix(t.text, "sk-")
	hash := catalog.HashToken(bare)
	id := strconv.FormatInt(t.id, 10)
	if t.id == 0 {
		id = hash[:16]
		subject = "token " + id
	}
	name := plain(t.name)
	if name == "" {
		name = "token " + id
	}
	k := map[string]any{
		"external_id": m.source + ":token:" + id, "name": cut(name, maxName),
		// It was stored without the prefix that clients send, and accepted with and without.
		"token_hashes": []any{hash, catalog.HashToken("sk-" + bare)},
	}
	if owner != nil {
		k["project"] = m.path(owner)
	}
	m.keyGroup(k, t, owner, subject)
	switch t.status {
	case "active":
	case "":
		m.notes.Add(subject, "has a status that is not known here, and is disabled")
		k["status"] = "disabled"
	default:
		if t.status != "disabled" {
			m.notes.Add(subject, "is %s there; it is disabled here", plain(t.status))
		}
		k["status"] = "disabled"
	}
	if owner == nil && (t.orphan || t.user != "") {
		m.notes.Add(subject, "is of a user who is not there, so nobody could use it; it is disabled, and has no project")
		k["status"] = "disabled"
	}
	m.expiry(k, t, subject)
	if models := m.allowed(t.models, subject); len(models) > 0 {
		k["models"] = texts(models)
	} else if t.limited || len(t.models) > 0 {
		m.notes.Add(subject, "has a list of models with none that can be used; it is disabled")
		k["status"] = "disabled"
	}
	m.addresses(k, t, subject)
	if scopes := scopeList(t.scopes); len(scopes) > 0 {
		k["scopes"] = scopes
	}
	if !t.unlimited {
		if limit, ok := budget(t.remain, m.opts.QuotaPerUSD); ok {
			k["budgets"] = []any{map[string]any{"limit": limit, "window": "total"}}
		} else {
			m.notes.Add(subject, "has a quota that no budget can hold, and has none")
		}
	}
	m.add(catalog.KindKey, k)
}

// autoGroup is New API's name for "one group after the other".
const autoGroup = "auto"

// keyGroup sets the route group and the namespaces of a key. A token without group has that of
// its user.
func (m *mapper) keyGroup(k map[string]any, t token, owner *user, subject string) {
	own := "default"
	if owner != nil && strings.TrimSpace(owner.group) != "" {
		own = strings.TrimSpace(owner.group)
	}
	name := strings.TrimSpace(t.group)
	namespaces := t.namespaces
	switch {
	case name == "":
		name, namespaces = own, nil
	case name == autoGroup && m.served[autoGroup] == nil:
		m.notes.Add(subject, "has group auto, which tries several groups; it has the group of its user")
		name, namespaces = own, nil
	}
	if g := m.group(name); g.name != "default" {
		k["group"] = g.name
	}
	if len(namespaces) == 0 {
		namespaces = []string{m.spaces[name]}
	}
	var list []any
	for _, n := range namespaces {
		if n = m.namespace(n); !slices.Contains(list, any(n)) {
			list = append(list, n)
		}
	}
	if len(list) != 1 || list[0] != "default" {
		k["namespaces"] = list
	}
}

func (m *mapper) expiry(k map[string]any, t token, subject string) {
	if t.expires == "" {
		return
	}
	at, err := time.Parse(time.RFC3339, t.expires)
	if err != nil || at.Year() < 1970 || at.Year() > 9999 {
		m.notes.Add(subject, "has an expires_at that is no time; it is disabled")
		k["status"] = "disabled"
		return
	}
	k["expires_at"] = at.UTC().Format(time.RFC3339)
}

// allowed returns the allow-list of a key.
func (m *mapper) allowed(models []string, subject string) (list []string) {
	for _, name := range models {
		name = strings.TrimSpace(name)
		if i := strings.IndexByte(name, '*'); i >= 0 && i < len(name)-1 {
			m.notes.Add(subject, "allows a model with a * within its name, which is left out of its list")
			continue
		}
		if name != "" && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// addresses sets where a key may be used. There, an address that is none fits nobody. A list
// without any address would allow all here, so that such a key is disabled.
func (m *mapper) addresses(k map[string]any, t token, subject string) {
	var list []any
	named := false
	for _, text := range t.addresses {
		for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",; \t\r\n", r) }) {
			named = true
			if _, err := catalog.ParsePrefix(part); err != nil {
				m.notes.Add(subject, "allows an address that is none, which is left out of its list")
				continue
			}
			if !slices.Contains(list, any(part)) {
				list = append(list, part)
			}
		}
	}
	if len(list) > 0 {
		k["allow_ips"] = list
	} else if named {
		m.notes.Add(subject, "allows no address that is one, and could be used from nowhere; it is disabled")
		k["status"] = "disabled"
	}
}

// scopeList returns the scopes, as words.
func scopeList(list []string) (out []any) {
	for _, s := range list {
		s = cut(strings.Join(strings.Fields(plain(s)), "-"), maxGroup)
		if s != "" && !slices.Contains(out, any(s)) {
			out = append(out, s)
		}
	}
	return out
}
