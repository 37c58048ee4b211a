package redisstore

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// closing are the three digits of a publish's last part, after the revision.
const closing = 999

// entryID returns the id of a part in the stream: the position and three digits, as a number.
func entryID(at snapshot.Position, digits int) string {
	return fmt.Sprintf("%d-%d", at.Epoch, int64(at.Revision)*1000+int64(digits))
}

// The values of op in the stream.
const (
	opPut    = "put"
	opDelete = "delete"
)

// change is one element of the field changes in the stream.
type change struct {
	Kind catalog.Kind `json:"kind"`
	Key  string       `json:"key"`
	Op   string       `json:"op"`
	Doc  string       `json:"doc,omitempty"`
}

func encodeChanges(changes []snapshot.Change) ([]byte, error) {
	list := make([]change, len(changes))
	for i, c := range changes {
		list[i] = change{Kind: c.Kind, Key: c.Key, Op: opPut, Doc: string(c.Doc)}
		if c.Doc == nil {
			list[i].Op = opDelete
		}
	}
	return json.Marshal(list)
}

// entry is one entry of the stream: a part of a publish. The fields of the head are those of the last part.
type entry struct {
	from, to    snapshot.Position
	chain       string
	part        int // from 1
	last, reset bool
	changes     []snapshot.Change
	size        int // of changes as they stand in the stream, bytes
	head        snapshot.Head
}

// The fields of an entry that are not the head's.
const (
	fieldFrom    = "from"
	fieldTo      = "to"
	fieldChain   = "chain"
	fieldPart    = "part"
	fieldLast    = "last"
	fieldReset   = "reset"
	fieldChanges = "changes"
	fieldBytes   = "bytes"
)

func newChain() string {
	chain := make([]byte, 16)
	_, _ = rand.Read(chain) // never fails
	return hex.EncodeToString(chain)
}

// fields returns names and values as they are written, and how many bytes they are. before is the
// size of the chain's entries before this one.
func (e entry) fields(before int) (fields []any, size int, err error) {
	text, err := encodeChanges(e.changes)
	if err != nil {
		return nil, 0, err
	}
	add := func(name string, value any) { fields = append(fields, name, value) }
	add(fieldFrom, e.from.String())
	add(fieldTo, e.to.String())
	add(fieldChain, e.chain)
	add(fieldPart, strconv.Itoa(e.part))
	add(fieldLast, flag(e.last))
	add(fieldReset, flag(e.reset))
	add(fieldChanges, text)
	if e.last {
		fields = append(fields, headFields(e.head)...)
	}
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			size += len(f)
		case []byte:
			size += len(f)
		}
	}
	if e.last {
		add(fieldBytes, strconv.Itoa(before+size))
	}
	return fields, size, nil
}

// headFields returns names and values of what is published of a head, sorted.
func headFields(h snapshot.Head) []any {
	published := h.Fields()
	fields := make([]any, 0, 2*len(published))
	for _, name := range slices.Sorted(maps.Keys(published)) {
		fields = append(fields, name, published[name])
	}
	return fields
}

// parseEntry reads an entry of the stream. Whatever is no part of a publish gives an error that wraps
// [snapshot.ErrCorrupt].
func parseEntry(m redis.XMessage) (entry, error) {
	fields := make(snapshot.Fields, len(m.Values))
	for name, v := range m.Values {
		fields[name], _ = v.(string)
	}
	bad := func(field string) (entry, error) {
		return entry{}, fmt.Errorf("field %s of an entry cannot be read: %w", field, snapshot.ErrCorrupt)
	}
	e := entry{chain: fields[fieldChain], last: fields[fieldLast] == "1", reset: fields[fieldReset] == "1"}
	var err error
	if e.from, err = snapshot.ParsePosition(fields[fieldFrom]); err != nil {
		return bad(fieldFrom)
	}
	if e.to, err = snapshot.ParsePosition(fields[fieldTo]); err != nil {
		return bad(fieldTo)
	}
	if len(e.chain) != 32 {
		return bad(fieldChain)
	}
	if e.part, err = strconv.Atoi(fields[fieldPart]); err != nil || e.part < 1 || e.part > snapshot.MaxParts {
		return bad(fieldPart)
	}
	var list []change
	if err = json.Unmarshal([]byte(fields[fieldChanges]), &list); err != nil {
		return bad(fieldChanges)
	}
	e.size = len(fields[fieldChanges])
	e.changes = make([]snapshot.Change, len(list))
	for i, c := range list {
		e.changes[i] = snapshot.Change{Kind: c.Kind, Key: c.Key}
		switch c.Op {
		case opPut:
			e.changes[i].Doc = []byte(c.Doc)
		case opDelete:
		default:
			return bad(fieldChanges)
		}
	}
	if e.last {
		for _, name := range []string{
			fieldFrom, fieldTo, fieldChain, fieldPart, fieldLast, fieldReset, fieldChanges, fieldBytes,
		} {
			delete(fields, name)
		}
		if e.head, err = snapshot.ParseHead(fields); err != nil || e.head.Position != e.to {
			return bad("head")
		}
	}
	return e, nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
