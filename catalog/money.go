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
// string in dollars ("2.50"), taken exactly. A JSON number is accepted too, and
// rounded to nine decimals, because numbers come from programs that compute
// with floats: 0.30000000000000004 is meant to be 0.3.
type NanoUSD int64

const nano = 1_000_000_000

// maxExact is the largest whole number up to which a JSON reader that keeps
// numbers as floats loses nothing.
const maxExact = 1<<53 - 1

// ParseUSD reads an amount in dollars: decimal digits, at most nine of them
// after the point, an exponent allowed as in JSON numbers. Nothing is rounded.
func ParseUSD(s string) (NanoUSD, error) {
	r, err := nanoDollars(s)
	if err != nil {
		return 0, err
	}
	if !r.IsInt() {
		return 0, fmt.Errorf("must have at most 9 decimals: %w", ErrInvalid)
	}
	return toNanoUSD(r.Num())
}

// roundUSD reads an amount in dollars that was sent as a JSON number, and
// rounds it half to even where it has more than nine decimals. It refuses what would become 0.
func roundUSD(s string) (NanoUSD, error) {
	r, err := nanoDollars(s)
	if err != nil {
		return 0, err
	}
	whole, rest := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	half := rest.Lsh(rest, 1).Cmp(r.Denom())
	if half > 0 || half == 0 && whole.Bit(0) == 1 {
		whole.Add(whole, big.NewInt(1))
	}
	if whole.Sign() == 0 && r.Sign() > 0 { // what costs something is not to become free
		return 0, fmt.Errorf("is too small, the least amount above 0 is 0.000000001: %w", ErrInvalid)
	}
	return toNanoUSD(whole)
}

// nanoDollars returns billionths of the amount that s says, which is not negative.
func nanoDollars(s string) (*big.Rat, error) {
	r, ok := exactNumber(s)
	if !ok {
		return nil, fmt.Errorf("must be an amount in USD such as 2.50: %w", ErrInvalid)
	}
	if r.Sign() < 0 {
		return nil, fmt.Errorf("must not be negative: %w", ErrInvalid)
	}
	return r.Mul(r, big.NewRat(nano, 1)), nil
}

func toNanoUSD(n *big.Int) (NanoUSD, error) {
	if !n.IsInt64() {
		return 0, fmt.Errorf("must be at most %d: %w", math.MaxInt64/nano, ErrInvalid)
	}
	return NanoUSD(n.Int64()), nil
}

// maxDigits bounds the length and the exponent of numbers that are computed
// with exactly. Every 64-bit float is within it.
const maxDigits = 400

// exactNumber reads a JSON number, if it is cheap to compute with.
func exactNumber(s string) (*big.Rat, bool) {
	if s == "" || len(s) > maxDigits || strings.TrimSpace(s) != s || !json.Valid([]byte(s)) {
		return nil, false
	}
	if c := s[0]; c != '-' && (c < '0' || c > '9') {
		return nil, false
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(s), "e"); ok {
		if n, err := strconv.Atoi(exponent); err != nil || n < -maxDigits || n > maxDigits {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// wholeNumber reads a JSON number whose value is whole: 2000000, 2e6 and
// 2000000.0 are the same.
func wholeNumber(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	r, ok := exactNumber(s)
	if !ok || !r.IsInt() || !r.Num().IsInt64() {
		return 0, false
	}
	return r.Num().Int64(), true
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

// UnmarshalJSON reads a decimal string, exactly, or a number, which it rounds.
func (n *NanoUSD) UnmarshalJSON(data []byte) error {
	parse, text := roundUSD, string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		parse = ParseUSD
	}
	v, err := parse(text)
	if err == nil {
		*n = v
	}
	return err
}
