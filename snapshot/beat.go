package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// A Beat says that control planes are alive: everything that the catalog
// committed before At is in Position. It is signed like a head, so whoever
// can merely write to Redis cannot make it.
type Beat struct {
	Store    string
	Position Position
	At       time.Time // on the clock of the catalog's engine, see catalog.Reader.Now
	Seal     string    // id of the sync key that signed; empty without
	Sig      string    // hex

	fields Fields // as read, or as signed; nil before
}

// Encode returns the beat as a JSON object of strings.
func (b Beat) Encode() []byte {
	text, err := json.Marshal(b.text())
	if err != nil {
		panic(err) // strings
	}
	return text
}

// text returns the fields as they were read, or as they are to be written.
func (b Beat) text() Fields {
	if b.fields != nil {
		return b.fields
	}
	return Fields{
		"store": b.Store, "position": b.Position.String(), "at": b.At.UTC().Format(time.RFC3339Nano),
		fieldSeal: b.Seal, fieldSig: b.Sig,
	}
}

// Equal reports whether two beats have the same fields.
func (b Beat) Equal(other Beat) bool { return maps.Equal(b.text(), other.text()) }

// ParseBeat reads what [Beat.Encode] writes. The error wraps [ErrCorrupt]. The
// signature is not verified here.
func ParseBeat(text []byte) (Beat, error) {
	var f Fields
	if len(text) > maxFieldsSize || json.Unmarshal(text, &f) != nil {
		return Beat{}, fmt.Errorf("the beat is no JSON object of strings: %w", ErrCorrupt)
	}
	return parseBeat(f)
}

func parseBeat(f Fields) (Beat, error) {
	b := Beat{fields: f}
	if err := f.check(); err != nil {
		return Beat{}, fmt.Errorf("the beat: %w: %w", ErrCorrupt, err)
	}
	var err error
	if b.Position, err = ParsePosition(b.fields["position"]); err != nil {
		return Beat{}, fmt.Errorf("the beat's position cannot be read: %w", ErrCorrupt)
	}
	if b.At, err = time.Parse(time.RFC3339Nano, b.fields["at"]); err != nil {
		return Beat{}, fmt.Errorf("the beat's time cannot be read: %w", ErrCorrupt)
	}
	if year := b.At.Year(); year < 1970 || year > 2200 { // keeps nanoseconds within an int64
		return Beat{}, fmt.Errorf("the beat's time is out of range: %w", ErrCorrupt)
	}
	b.Store, b.Seal, b.Sig = b.fields["store"], b.fields[fieldSeal], b.fields[fieldSig]
	return b, nil
}
