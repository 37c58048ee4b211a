package request

import (
	"errors"
	"math/big"
	"strings"
)

// Whole is a whole number. In JSON any number with a whole value is one: 60, 60.0, 6e1.
type Whole int64

var errNotWhole = errors.New("not a whole number")

// UnmarshalJSON implements json.Unmarshaler of encoding/json.
func (w *Whole) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.Trim(text, "0123456789+-.eE") != "" || len(text) > 40 {
		return errNotWhole
	}
	r := new(big.Float).SetPrec(256)
	if _, ok := r.SetString(text); !ok || !r.IsInt() || r.MantExp(nil) > 64 {
		return errNotWhole
	}
	n, accuracy := r.Int64()
	if accuracy != big.Exact {
		return errNotWhole
	}
	*w = Whole(n)
	return nil
}
