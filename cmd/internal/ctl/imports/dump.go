package imports

import (
	"encoding/json"
	"math/big"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/notes"
)

// Options are the settings of an import from New API or one-api.
type Options struct {
	// Owner becomes the owner of the file. It may be empty.
	Owner string

	// QuotaPerUSD is how much quota is worth a US dollar. Defaults to 500,000, as there.
	QuotaPerUSD int64

	// OneAPI says that numbers of channel types are those of one-api.
	OneAPI bool
}

const defaultQuotaPerUSD = 500_000

// dump is what a New API or one-api has.
type dump struct {
	source   string // begins the external ids: new-api
	channels []channel
	routes   []route
	users    []user
	tokens   []token
	notes    notes.List
}

// channel is a credential, or several, of an upstream.
type channel struct {
	id       int64
	name     string
	vendor   vendor
	known    bool   // the vendor
	typeName string // as the source has it
	keys     []credential
	baseURL  string
	version  string // "other": the version of Azure's API, a region, and more
	models   []string
	groups   []string
	weight   int64
	priority int64
	active   bool
	autoBan  bool
	mapping  string // JSON object: public name to upstream name
	org      string
	tag      string
	left     map[string]string // fields that have no place here, by name
}

// credential is one of the keys of a channel.
type credential struct {
	text     string
	number   int // from 1; 0 where there is only one
	disabled bool
}

// route says that the keys of a group may use a model (an "ability").
type route struct {
	namespace string
	group     string
	model     string
	active    bool
}

// user owns tokens; the exporter says "master".
type user struct {
	id      int64
	name    string
	group   string
	active  bool
	quota   *int64 // what remains; nil: not said
	maxKeys int64
	qps     int64
}

// token is a client key.
type token struct {
	id         int64
	user       string
	text       string
	name       string
	group      string
	status     string // active, or why it is not
	expires    string // RFC 3339; empty: never
	unlimited  bool
	remain     int64 // quota
	orphan     bool  // it has an owner who is not there
	limited    bool  // to models, also where there are none
	models     []string
	addresses  []string
	scopes     []string
	namespaces []string
}

// budget turns what remains of a quota into US dollars. It is not ok when that is more than
// a budget can be.
func budget(remain, perUSD int64) (string, bool) {
	if remain <= 0 {
		return "0", true
	}
	nano := new(big.Int).Mul(big.NewInt(remain), big.NewInt(1_000_000_000))
	nano.Quo(nano, big.NewInt(perUSD))
	if !nano.IsInt64() {
		return "", false
	}
	return catalog.NanoUSD(nano.Int64()).String(), true
}

// splitKeys returns the credentials of a channel: one a line, or the elements of a JSON list.
// A JSON object is one credential.
func splitKeys(text string) []string {
	text = strings.TrimSpace(text)
	var objects []json.RawMessage
	switch {
	case strings.HasPrefix(text, "{"):
		return splitObjects(text)
	case strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &objects) == nil:
		keys := make([]string, len(objects))
		for i, o := range objects {
			keys[i] = string(o)
		}
		return keys
	}
	var keys []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			keys = append(keys, line)
		}
	}
	return keys
}

// splitObjects returns the JSON objects that follow each other in a text. What is no JSON is
// one credential.
func splitObjects(text string) (keys []string) {
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		var o json.RawMessage
		if dec.Decode(&o) != nil {
			return []string{text}
		}
		keys = append(keys, string(o))
	}
	return keys
}
