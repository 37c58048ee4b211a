package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Format is that of everything published, see [Head].
const Format = 1

// Head describes what is published at one position.
//
// A Head that was read keeps its [Fields] as they were. A Head that was put
// together is complete after [Keys.SignHead]; do not change it afterwards.
type Head struct {
	Format    int    // 1, see [Format]
	Store     string // UUID of the catalog that it comes from
	Position  Position
	Mark      catalog.Mark // of the catalog's commit at Position.Revision
	Counts    Counts       // documents per kind, an entry for every kind that the renderer knows
	Digest    Digests      // per kind, see [Keys.Digest]; the same kinds as Counts
	Seal      string       // id of the sync key that sealed the secrets and signed; empty without
	Renderer  int          // version of the code that rendered the documents, see [Renderer]
	UpdatedAt time.Time    // of the catalog's commit at Position.Revision; whole microseconds, UTC
	Forced    bool         // lost documents, or is empty, because somebody wanted that
	Sig       string       // hex; empty without a sync key

	fields Fields // as read, or as signed; nil before
}

// Base identifies a published head by the text of some of its fields, for compare-and-set. It also
// identifies a head that cannot be read, or whose signature is wrong. The zero Base stands for no
// head at all.
type Base struct {
	// The fields' values, as they are.
	Epoch    string `json:"epoch" doc:"The epoch, as the head has it."`
	Revision string `json:"revision" doc:"The revision, as the head has it."`
	Sig      string `json:"sig" doc:"The signature, as the head has it. Without a sync key it is empty."`
}

// Base returns the [Base] that identifies the head; for the zero Head, the zero Base.
func (h Head) Base() Base {
	if h.fields == nil && h.Format == 0 && h.Position == (Position{}) {
		return Base{}
	}
	if h.fields != nil {
		return Base{Epoch: h.fields["epoch"], Revision: h.fields["revision"], Sig: h.fields[fieldSig]}
	}
	return Base{Epoch: decimal(int64(h.Position.Epoch)), Revision: decimal(int64(h.Position.Revision)), Sig: h.Sig}
}

// Fields returns the names and values that are published. For a head that was read, they are
// exactly those that were read. The caller may keep them.
func (h Head) Fields() Fields {
	if h.fields != nil {
		return maps.Clone(h.fields)
	}
	return h.encode()
}

// Equal reports whether two heads have the same fields. A kind without documents may be
// absent from the counts of a head that was put together.
func (h Head) Equal(other Head) bool { return maps.Equal(h.Fields(), other.Fields()) }

// encode returns the fields of a head that was put together.
func (h Head) encode() Fields {
	f := Fields{
		"format":     strconv.Itoa(h.Format),
		"store":      h.Store,
		"epoch":      decimal(int64(h.Position.Epoch)),
		"revision":   decimal(int64(h.Position.Revision)),
		"mark":       string(h.Mark),
		"counts":     encodeKinds(h.Counts),
		"digest":     encodeKinds(h.Digest),
		"renderer":   strconv.Itoa(h.Renderer),
		"updated_at": h.UpdatedAt.UTC().Format(time.RFC3339Nano),
		"forced":     "0",
		fieldSeal:    h.Seal,
		fieldSig:     h.Sig,
	}
	if h.Forced {
		f["forced"] = "1"
	}
	return f
}

// ParseHead reads the fields of a head. Fields that are not known are kept,
// [Head.Fields] returns them; stream_bytes, which an engine keeps beside them, is not. An error
// wraps [ErrNone] when there are no
// fields, else [ErrCorrupt]; the head that comes with it has a [Head.Base].
// Digests and signature are not verified here.
func ParseHead(fields Fields) (Head, error) {
	fields = fields.without(fieldStreamBytes)
	if len(fields) == 0 {
		return Head{}, ErrNone
	}
	h := Head{fields: fields}
	if err := fields.check(); err != nil {
		return h, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var errs []error
	check := func(name string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("field %s cannot be read", name))
		}
	}
	var ok bool
	h.Format, ok = small(fields["format"])
	check("format", ok && h.Format > 0)
	epoch, ok := number(fields["epoch"])
	check("epoch", ok)
	revision, ok := number(fields["revision"])
	check("revision", ok)
	h.Position = Position{catalog.Epoch(epoch), catalog.Revision(revision)}
	h.Store, h.Seal, h.Sig = fields["store"], fields[fieldSeal], fields[fieldSig]
	check("store", h.Store != "")
	h.Mark = catalog.Mark(fields["mark"])
	check("mark", isHex(fields["mark"], 32) || h.Mark == "" && revision == 0)
	check("counts", json.Unmarshal([]byte(fields["counts"]), &h.Counts) == nil && h.Counts.valid())
	check("digest", json.Unmarshal([]byte(fields["digest"]), &h.Digest) == nil && h.Digest.of(h.Counts))
	h.Renderer, ok = small(fields["renderer"])
	check("renderer", ok)
	at, err := time.Parse(time.RFC3339Nano, fields["updated_at"])
	check("updated_at", err == nil)
	h.UpdatedAt = at.UTC()
	h.Forced = fields["forced"] == "1"
	check("forced", h.Forced || fields["forced"] == "0")
	if len(errs) > 0 {
		return h, fmt.Errorf("%w: %w", ErrCorrupt, errors.Join(errs...))
	}
	return h, nil
}

// Counts holds the number of documents of each kind; an absent kind has none.
type Counts map[catalog.Kind]int

// maxCount bounds the documents of a kind, so that sums cannot overflow.
const maxCount = 1 << 40

func (c Counts) valid() bool {
	for kind, n := range c {
		if CheckKind(kind) != nil || n < 0 || n > maxCount {
			return false
		}
	}
	return len(c) <= maxFields
}

// Total returns the number of all documents.
func (c Counts) Total() (n int) {
	for _, m := range c {
		n += m
	}
	return n
}

// Equal compares; a kind without documents may be absent or 0.
func (c Counts) Equal(other Counts) bool {
	for kind, n := range c {
		if other[kind] != n {
			return false
		}
	}
	for kind, n := range other {
		if c[kind] != n {
			return false
		}
	}
	return true
}

// Digests holds the digest that is published of each kind's documents.
type Digests map[catalog.Kind]Digest

// of reports whether there is one for every kind that is counted, and no other.
func (d Digests) of(counts Counts) bool {
	for kind := range counts {
		if _, ok := d[kind]; !ok {
			return false
		}
	}
	return len(d) == len(counts)
}

// CheckKind returns an error that wraps [catalog.ErrInvalid] for what cannot be
// the name of a kind of documents: it would be taken for something else.
func CheckKind(k catalog.Kind) error {
	switch k {
	case "sum", "head", "changes", "beat", "nodes":
		return fmt.Errorf("no kind of documents is called %q: %w", k, catalog.ErrInvalid)
	}
	if !fieldName.MatchString(string(k)) {
		return fmt.Errorf("a kind of documents is named by 1 to 32 of a to z and _: %w", catalog.ErrInvalid)
	}
	return nil
}

// encodeKinds returns a JSON object in the order of the kinds.
func encodeKinds[V int | Digest](byKind map[catalog.Kind]V) string {
	if byKind == nil {
		byKind = map[catalog.Kind]V{}
	}
	text, err := json.Marshal(byKind) // sorts
	if err != nil {
		panic(err) // words, and integers or hex
	}
	return string(text)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// number reads a decimal number as [decimal] writes it, not below 0.
func number(s string) (n int64, ok bool) {
	if s == "" || s[0] == '0' && s != "0" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// small reads a number that is no count of anything.
func small(s string) (n int, ok bool) {
	m, ok := number(s)
	return int(m), ok && m <= 1<<30
}

func isHex(s string, length int) bool {
	if len(s) != length {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
