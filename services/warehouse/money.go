package warehouse

import (
	"math"
	"math/bits"
)

// microsPerUnit is the resolution of amounts: six decimals, as in the tables.
const microsPerUnit = 1_000_000

// amount is a decimal of six places; the zero value means none.
type amount struct {
	micros int64
	set    bool
}

// parseAmount reads a JSON number or the text of one ("19.99"), rounded half away from zero to six places. It refuses
// what is no plain number and what is beyond nine million million.
func parseAmount(s string) (amount, bool) {
	rest, negative := s, false
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		negative, rest = rest[0] == '-', rest[1:]
	}
	mantissa, scale, rest, ok := parseMantissa(rest)
	if !ok {
		return amount{}, false
	}
	exponent, ok := parseExponent(rest)
	if !ok {
		return amount{}, false
	}
	micros, ok := shift(mantissa, exponent-scale+6)
	if !ok {
		return amount{}, false
	}
	v := int64(micros) //nolint:gosec // shift refuses more than MaxInt64
	if negative {
		v = -v
	}
	return amount{micros: v, set: true}, true
}

// parseMantissa reads digits and fraction; digits beyond the 18th do not matter after the point and refuse before it.
func parseMantissa(s string) (mantissa uint64, scale int, rest string, ok bool) {
	digits, point, i := 0, false, 0
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.' && !point:
			point = true
			continue
		case c < '0' || c > '9':
			return mantissa, scale, s[i:], digits > 0
		}
		digits++
		if mantissa >= 1e17 {
			if !point {
				return 0, 0, "", false
			}
			continue
		}
		mantissa = mantissa*10 + uint64(c-'0')
		if point {
			scale++
		}
	}
	return mantissa, scale, "", digits > 0
}

func parseExponent(s string) (int, bool) {
	if s == "" {
		return 0, true
	}
	if (s[0] != 'e' && s[0] != 'E') || len(s) < 2 || len(s) > 5 {
		return 0, false
	}
	s = s[1:]
	sign := 1
	if s[0] == '-' || s[0] == '+' {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return sign * n, s != ""
}

// shift returns v × 10^by, rounded half up.
func shift(v uint64, by int) (uint64, bool) {
	for ; by > 0 && v != 0; by-- {
		if v > math.MaxInt64/10 {
			return 0, false
		}
		v *= 10
	}
	if by < -20 {
		return 0, true
	}
	for ; by < -1; by++ {
		v /= 10
	}
	if by == -1 {
		v = (v + 5) / 10
	}
	return v, v <= math.MaxInt64
}

// times returns price × quantity; none when it is too large.
func (a amount) times(b amount) (amount, bool) {
	negative := (a.micros < 0) != (b.micros < 0)
	hi, lo := bits.Mul64(magnitude(a.micros), magnitude(b.micros))
	if hi >= microsPerUnit {
		return amount{}, false
	}
	q, r := bits.Div64(hi, lo, microsPerUnit)
	if r*2 >= microsPerUnit {
		q++
	}
	if q > math.MaxInt64 {
		return amount{}, false
	}
	v := int64(q) //nolint:gosec // checked
	if negative {
		v = -v
	}
	return amount{micros: v, set: true}, true
}

// plus returns a + b; none when it is too large.
func (a amount) plus(b amount) (amount, bool) {
	sum := a.micros + b.micros
	if (sum > a.micros) != (b.micros > 0) && b.micros != 0 {
		return amount{}, false
	}
	return amount{micros: sum, set: true}, true
}

// negative returns -|a|.
func (a amount) negative() amount {
	if a.micros > 0 {
		a.micros = -a.micros
	}
	return a
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return uint64(-v) //nolint:gosec // amounts never reach MinInt64
	}
	return uint64(v)
}
