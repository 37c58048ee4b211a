package redisstore

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// The values of op in the stream.
const (
	opPut    = "put"
	opDelete = "delete"
)

// encodeHead returns the values of the head's fields in the order of HEAD in
// lib.lua: all but the position.
func encodeHead(h snapshot.Head) []any {
	return []any{
		h.Format, h.Store, string(h.Mark), h.Digest.String(), h.Sig, h.Seal, h.Renderer,
		encodeCounts(h.Counts), h.UpdatedAt.UTC().Format(time.RFC3339Nano), flag(h.Forced),
	}
}

// parseHead reads the fields of the head. Fields without a position are no head.
func parseHead(fields map[string]string) (snapshot.Head, error) {
	if len(fields) == 0 {
		return snapshot.Head{}, snapshot.ErrNone
	}
	return parseHeadAt(fields["epoch"]+"-"+fields["revision"], fields)
}

// parseHeadAt reads the fields that the head and an entry of the stream share.
func parseHeadAt(position string, fields map[string]string) (snapshot.Head, error) {
	var errs []error
	check := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s cannot be read", name))
		}
	}
	number := func(name string) int {
		n, err := strconv.Atoi(fields[name])
		check(name, err)
		return n
	}
	h := snapshot.Head{
		Format:   number("format"),
		Store:    fields["store"],
		Mark:     catalog.Mark(fields["mark"]),
		Sig:      fields["sig"],
		Seal:     fields["seal"],
		Renderer: number("renderer"),
		Counts:   snapshot.Counts{},
		Forced:   fields["forced"] == "1",
	}
	var err error
	h.Position, err = snapshot.ParsePosition(position)
	check("epoch or revision", err)
	check("digest", h.Digest.UnmarshalText([]byte(fields["digest"])))
	check("counts", json.Unmarshal([]byte(fields["counts"]), &h.Counts))
	h.UpdatedAt, err = time.Parse(time.RFC3339Nano, fields["updated_at"])
	check("updated_at", err)
	if len(errs) > 0 {
		return snapshot.Head{}, fmt.Errorf("%w: %w", snapshot.ErrCorrupt, errors.Join(errs...))
	}
	return h, nil
}

// encodeCounts leaves out kinds without documents, and sorts.
func encodeCounts(c snapshot.Counts) []byte {
	present := make(snapshot.Counts, len(c))
	for k, n := range c {
		if n != 0 {
			present[k] = n
		}
	}
	text, err := json.Marshal(present, json.Deterministic(true))
	if err != nil {
		panic(err) // a map of words to integers
	}
	return text
}

// change is one element of the field changes in the stream.
type change struct {
	Kind catalog.Kind `json:"kind"`
	Key  string       `json:"key"`
	Op   string       `json:"op"`
	Doc  string       `json:"doc,omitempty"`
}

// encodeChanges returns an error that wraps ErrInvalid for documents that JSON
// cannot carry byte for byte.
func encodeChanges(changes []snapshot.Change) ([]byte, error) {
	list := make([]change, len(changes))
	for i, c := range changes {
		if err := checkText(c.Kind, c.Key, c.Doc); err != nil {
			return nil, err
		}
		list[i] = change{Kind: c.Kind, Key: c.Key, Op: opPut, Doc: string(c.Doc)}
		if c.Doc == nil {
			list[i].Op = opDelete
		}
	}
	return json.Marshal(list)
}

// checkText refuses what is not UTF-8, and so not JSON. It does not name the
// key, which may be a token's hash.
func checkText(k catalog.Kind, key string, doc []byte) error {
	if !utf8.ValidString(key) || !utf8.Valid(doc) {
		return fmt.Errorf("a document among the %s is not UTF-8: %w", k, catalog.ErrInvalid)
	}
	return nil
}

// parseEntry reads an entry of the stream.
func parseEntry(values map[string]any) (snapshot.Delta, error) {
	fields := make(map[string]string, len(values))
	for name, v := range values {
		fields[name], _ = v.(string)
	}
	d := snapshot.Delta{Reset: fields["reset"] == "1"}
	var err error
	if d.Head, err = parseHeadAt(fields["to"], fields); err != nil {
		return snapshot.Delta{}, err
	}
	if d.From, err = snapshot.ParsePosition(fields["from"]); err != nil {
		return snapshot.Delta{}, fmt.Errorf("%w: field from cannot be read", snapshot.ErrCorrupt)
	}
	var list []change
	if err = json.Unmarshal([]byte(fields["changes"]), &list); err != nil {
		return snapshot.Delta{}, fmt.Errorf("%w: field changes cannot be read", snapshot.ErrCorrupt)
	}
	d.Changes = make([]snapshot.Change, len(list))
	for i, c := range list {
		d.Changes[i] = snapshot.Change{Kind: c.Kind, Key: c.Key}
		if c.Op != opDelete {
			d.Changes[i].Doc = []byte(c.Doc)
		}
	}
	return d, nil
}

// node is what the hash of nodes holds.
type node struct {
	Position snapshot.Position `json:"position"`
	Digest   snapshot.Digest   `json:"digest"`
	Version  string            `json:"version"`
	Error    string            `json:"error"`
	SeenAt   float64           `json:"seen_at"` // unix seconds
}

// parseNode reads one field of the hash of nodes.
func parseNode(id, text string) (snapshot.Node, error) {
	var n node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return snapshot.Node{}, err
	}
	return snapshot.Node{
		ID: id, Position: n.Position, Digest: n.Digest, Version: n.Version, Error: n.Error,
		SeenAt: time.UnixMicro(int64(n.SeenAt*1e6 + 0.5)).UTC(),
	}, nil
}

// encodeNode leaves the value of seen_at and the closing brace to report.lua.
func encodeNode(n snapshot.Node) ([]byte, error) {
	text, err := json.Marshal(node{Position: n.Position, Digest: n.Digest, Version: n.Version, Error: n.Error})
	if err != nil {
		return nil, err
	}
	return text[:len(text)-len("0}")], nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
