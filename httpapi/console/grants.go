package console

import (
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
)

// A grant is what somebody may do: a role, everywhere or in one project and all below it.
type grant struct {
	Role    httpapi.Role `json:"role"`
	Project string       `json:"project,omitempty"`
}

// parseGrant reads admin, viewer, admin:PROJECT or viewer:PROJECT.
func parseGrant(text string) (g grant, ok bool) {
	role, project, limited := strings.Cut(text, ":")
	g = grant{httpapi.Role(role), project}
	known := g.Role == httpapi.Admin || g.Role == httpapi.Viewer
	return g, known && (!limited || catalog.IsProjectPath(project))
}

// covers reports whether a grant gives all that another gives.
func (g grant) covers(other grant) bool {
	within := g.Project == "" || g.Project == other.Project || strings.HasPrefix(other.Project, g.Project+"/")
	return within && (g.Role == httpapi.Admin || g.Role == other.Role)
}

// A claimRule says what the values of a claim grant.
type claimRule struct {
	claim  string
	values []valueRule // none: a value is itself a grant, such as viewer:acme
}

// A valueRule grants something for a value. One that begins with * stands for all that end as it does.
type valueRule struct {
	value string
	grant grant
}

const claimForm = "must be the name of a claim such as groups, or with what its values grant, such as " +
	"groups; platform=admin; search=admin:acme/search; *=viewer"

// parseClaimRule reads what [OIDCOptions.Claim] says.
func parseClaimRule(text string) (rule claimRule, ok bool) {
	parts := strings.Split(text, ";")
	rule.claim = strings.TrimSpace(parts[0])
	if rule.claim == "" || strings.Contains(rule.claim, "=") {
		return rule, false
	}
	for _, part := range parts[1:] {
		if strings.TrimSpace(part) == "" {
			continue // a semicolon at the end
		}
		at := strings.LastIndex(part, "=") // names of directories have others before it
		if at < 0 {
			return rule, false
		}
		v := valueRule{value: strings.TrimSpace(part[:at])}
		if v.grant, ok = parseGrant(strings.TrimSpace(part[at+1:])); !ok || v.value == "" {
			return rule, false
		}
		rule.values = append(rule.values, v)
	}
	return rule, true
}

func (v valueRule) matches(value string) bool {
	if ending, any := strings.CutPrefix(v.value, "*"); any {
		return strings.HasSuffix(value, ending)
	}
	return v.value == value
}

// has reports whether claims hold the claim that the rule is about.
func (r claimRule) has(claims map[string]any) bool { return len(r.valuesIn(claims)) > 0 }

// valuesIn returns the values of the claim. Its name is looked up as it is, and then as a path whose parts
// are separated by dots, such as realm_access.roles.
func (r claimRule) valuesIn(claims map[string]any) (values []string) {
	found, ok := claims[r.claim]
	for at, rest := claims, r.claim; !ok; {
		first, more, dotted := strings.Cut(rest, ".")
		if found, ok = at[first]; !ok || !dotted {
			break
		}
		at, rest = asMap(found), more
		ok = false
	}
	switch v := found.(type) {
	case string:
		values = append(values, v)
	case []any:
		for _, one := range v {
			if text, ok := one.(string); ok {
				values = append(values, text)
			}
		}
	}
	return values
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// maxGrants bounds how many grants somebody may choose from.
const maxGrants = 50

// grantsOf returns what claims grant, without what other grants cover. An address of mail counts only
// where the identity provider says that it was verified: anybody could claim the others.
func (r claimRule) grantsOf(claims map[string]any) (all []grant) {
	if r.claim == "email" && !isVerified(claims) {
		return nil
	}
	var found []grant
	for _, value := range r.valuesIn(claims) {
		found = append(found, r.grantsFor(value)...)
	}
	for i, g := range found {
		covered := slices.ContainsFunc(found[:i], func(earlier grant) bool { return earlier.covers(g) }) ||
			slices.ContainsFunc(found[i+1:], func(later grant) bool { return later.covers(g) && later != g })
		if !covered && len(all) < maxGrants {
			all = append(all, g)
		}
	}
	return all
}

func (r claimRule) grantsFor(value string) (all []grant) {
	if len(r.values) == 0 {
		if g, ok := parseGrant(value); ok {
			all = append(all, g)
		}
	}
	for _, v := range r.values {
		if v.matches(value) {
			all = append(all, v.grant)
		}
	}
	return all
}

func isVerified(claims map[string]any) bool {
	return claims["email_verified"] == true || claims["email_verified"] == "true"
}

// actorOf returns by what name the change feed knows somebody. Only a verified address stands alone.
// Any other name may have been chosen by its bearer, so the subject stands beside it.
func actorOf(subject string, claims map[string]any) string {
	const most = 80
	name := ""
	for _, claim := range []string{"email", "preferred_username", "name"} {
		if text, _ := claims[claim].(string); text != "" && name == "" {
			name = catalog.PlainText(text, most)
		}
	}
	email, _ := claims["email"].(string)
	subject = catalog.PlainText(subject, most)
	switch {
	case email != "" && isVerified(claims):
		return "oidc:" + name
	case name == "":
		return "oidc:" + subject
	}
	return "oidc:" + name + " (" + subject + ")"
}
