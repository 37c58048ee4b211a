package catalog

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// NanoUSD is money in billionths of a US dollar. In JSON it is a decimal
// string in dollars ("2.50"), and a number is accepted too.
type NanoUSD int64

const nano = 1_000_000_000

// ParseUSD reads an amount in dollars: decimal digits, at most nine of them
// after the point, an exponent allowed as in JSON numbers. Nothing is rounded.
func ParseUSD(s string) (NanoUSD, error) {
	if !isNumber(s) {
		return 0, fmt.Errorf("must be an amount in USD such as 2.50: %w", ErrInvalid)
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, fmt.Errorf("must be an amount in USD such as 2.50: %w", ErrInvalid)
	}
	r.Mul(r, big.NewRat(nano, 1))
	switch {
	case r.Sign() < 0:
		return 0, fmt.Errorf("must not be negative: %w", ErrInvalid)
	case !r.IsInt():
		return 0, fmt.Errorf("must have at most 9 decimals: %w", ErrInvalid)
	case !r.Num().IsInt64():
		return 0, fmt.Errorf("must be at most %d: %w", math.MaxInt64/nano, ErrInvalid)
	}
	return NanoUSD(r.Num().Int64()), nil
}

// isNumber reports whether s is a JSON number that is cheap to compute with.
func isNumber(s string) bool {
	if len(s) > 40 || strings.TrimSpace(s) != s || !json.Valid([]byte(s)) {
		return false
	}
	if c := s[0]; c != '-' && (c < '0' || c > '9') {
		return false
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(s), "e"); ok {
		n, err := strconv.Atoi(exponent)
		return err == nil && n >= -40 && n <= 40
	}
	return true
}

// String returns the amount in dollars without needless zeros: "2.5".
func (n NanoUSD) String() string {
	sign, abs := "", uint64(n)
	if n < 0 {
		sign, abs = "-", -abs
	}
	whole := sign + strconv.FormatUint(abs/nano, 10)
	if abs%nano == 0 {
		return whole
	}
	return whole + "." + strings.TrimRight(fmt.Sprintf("%09d", abs%nano), "0")
}

// MarshalText returns what String returns.
func (n NanoUSD) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalJSON reads a decimal string or a number.
func (n *NanoUSD) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	v, err := ParseUSD(text)
	if err == nil {
		*n = v
	}
	return err
}
