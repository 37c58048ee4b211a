package console

import (
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A moment is a time as a page shows it: in the viewer's zone, and in UTC where somebody points at it.
type moment struct{ ISO, Local, UTC string }

// at returns a moment; nil is none.
func (p *page) at(t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{
		t.UTC().Format(time.RFC3339Nano),
		t.In(p.zone).Format(time.DateTime),
		t.UTC().Format(time.DateTime) + " UTC",
	}
}

// number writes a whole number with a comma between thousands.
func number(n any) string {
	v := reflect.ValueOf(n)
	if !v.CanInt() {
		return "?"
	}
	text := strconv.FormatInt(v.Int(), 10)
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	var b strings.Builder
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return sign + b.String()
}

// usd writes billionths of a dollar: with cents from a dollar on, and below with the digits that say
// something.
func usd(nano int64) string {
	const whole = 1_000_000_000
	sign := ""
	if nano < 0 {
		sign, nano = "-", -nano
	}
	dollars := new(big.Rat).SetFrac64(nano, whole)
	switch {
	case nano == 0:
		return "$0"
	case nano >= whole:
		cents := (nano%whole + whole/200) / (whole / 100)
		return sign + "$" + number(nano/whole+cents/100) + "." + twoDigits(cents%100)
	}
	text := dollars.FloatString(9)
	digits := strings.TrimLeft(text[2:], "0")
	text = text[:min(len(text), len(text)-len(digits)+3)] // three digits that are not leading zeros
	text = strings.TrimRight(text, "0")
	if len(text) < len("0.00") {
		text += strings.Repeat("0", len("0.00")-len(text))
	}
	return sign + "$" + text
}

func twoDigits(n int64) string {
	if n < 10 {
		return "0" + strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(n, 10)
}

// percent writes what part of a whole something is.
func percent(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}
