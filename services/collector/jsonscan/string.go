package jsonscan

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// string reads a string that begins here.
func (s *Scanner) string() (escaped bool, err error) {
	text, i := s.text, s.pos+1
	for {
		i = plain(text, i)
		if i >= len(text) {
			return escaped, s.fail("a string does not end")
		}
		switch c := text[i]; {
		case c == '"':
			s.pos = i + 1
			return escaped, nil
		case c == '\\':
			escaped = true
			n := escapeLength(text[i:])
			if n == 0 {
				s.pos = i
				return escaped, s.fail("a string holds an unknown escape")
			}
			i += n
		case c < ' ':
			s.pos = i
			return escaped, s.fail("a string holds a control character")
		default:
			r, n := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && n == 1 {
				s.flaw |= InvalidUTF8
			}
			i += n
		}
	}
}

// plain returns the first byte from i on that is a quote, a backslash, a control character or not ASCII.
func plain(text string, i int) int {
	const (
		ones = 0x0101010101010101
		high = 0x8080808080808080
	)
	for i+8 <= len(text) {
		b := text[i : i+8]
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// The usual test for a zero byte (x-ones &^ x & high) and for one below space; ASCII elsewhere makes it exact enough:
		// a false alarm only leads to the slow loop.
		if (w|(quote-ones)&^quote|(slash-ones)&^slash|(w-ones*' ')&^w)&high != 0 {
			break
		}
		i += 8
	}
	for i < len(text) {
		if c := text[i]; c == '"' || c == '\\' || c < ' ' || c >= utf8.RuneSelf {
			return i
		}
		i++
	}
	return i
}

// escapeLength returns how long the escape is that text begins with, 0 when there is none such.
func escapeLength(text string) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(text); ok {
			return 6
		}
	}
	return 0
}

// hex4 reads the code unit of \uXXXX.
func hex4(text string) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range []byte(text[2:6]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote returns the content of a string that was read before.
func unquote(raw string) string {
	text := raw[1 : len(raw)-1]
	i := strings.IndexByte(text, '\\')
	if i < 0 {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	for i >= 0 {
		b.WriteString(text[:i])
		text = text[i:]
		n := 2
		switch text[1] {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, _ := hex4(text)
			n = 6
			if utf16.IsSurrogate(r) {
				low, _ := hex4(text[6:])
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					n = 12
				}
			}
			b.WriteRune(r)
		default:
			b.WriteByte(text[1])
		}
		text = text[n:]
		i = strings.IndexByte(text, '\\')
	}
	b.WriteString(text)
	return b.String()
}
