package jsonscan

import (
	"strconv"
)

// Kind is the kind of a value.
type Kind uint8

// The kinds of JSON; None is the absence of a value.
const (
	None Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Flaw is what is wrong with a value that could be read nevertheless.
type Flaw uint8

// The flaws, as a set.
const (
	InvalidUTF8 Flaw = 1 << iota
	TooDeep
)

// Value is a whole value as it was sent.
type Value struct {
	Raw  string
	Kind Kind
	Flaw Flaw
}

// Given reports whether there is a value other than null.
func (v Value) Given() bool { return v.Kind > Null }

// Text returns the content of a string, the digits of a number, else nothing.
func (v Value) Text() string {
	switch v.Kind {
	case String:
		return unquote(v.Raw)
	case Number:
		return v.Raw
	default:
		return ""
	}
}

// Error says where a text stops being JSON.
type Error struct {
	// Offset counts bytes from the start of the text.
	Offset int
	Reason string
}

// Error implements error without a word of the text.
func (e *Error) Error() string { return e.Reason + " at byte " + strconv.Itoa(e.Offset) }

// hardDepth ends the walk whatever the caller allows.
const hardDepth = 1000

// Scanner is a position in a text.
type Scanner struct {
	text     string
	pos      int
	maxDepth int
	flaw     Flaw
	// open holds the closing brackets that Value waits for.
	open []byte
}

// New returns a scanner at the start of text; values nested deeper than maxDepth have the flaw TooDeep.
func New(text string, maxDepth int) *Scanner {
	s := &Scanner{text: text, maxDepth: maxDepth, open: make([]byte, 0, 16)}
	const byteOrderMark = "\ufeff"
	if len(text) >= len(byteOrderMark) && text[:len(byteOrderMark)] == byteOrderMark {
		s.pos = len(byteOrderMark)
	}
	return s
}

// Pos returns how many bytes were read.
func (s *Scanner) Pos() int { return s.pos }

// Since returns the text from an earlier Pos to here.
func (s *Scanner) Since(pos int) string { return s.text[pos:s.pos] }

// Next returns the kind of the value that comes, without reading it; None at the end or for what is no value.
func (s *Scanner) Next() Kind {
	switch c := s.peek(); {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == 't', c == 'f':
		return Bool
	case c == 'n':
		return Null
	case c == '-', c >= '0' && c <= '9':
		return Number
	default:
		return None
	}
}

// Enter steps over the bracket of an Object or Array that Next has announced.
func (s *Scanner) Enter() {
	s.peek()
	s.pos++
}

// Member steps to the n-th member (from 0) of the object that was entered and returns its name; false after the last.
// The caller then reads its value.
func (s *Scanner) Member(n int) (name string, ok bool, err error) {
	if ok, err = s.step(n, '}'); !ok {
		return "", false, err
	}
	name, err = s.key()
	return name, err == nil, err
}

// Element steps to the n-th element (from 0) of the array that was entered; false after the last.
func (s *Scanner) Element(n int) (ok bool, err error) { return s.step(n, ']') }

// step reads the comma before all but the first, or the closing bracket.
func (s *Scanner) step(n int, closing byte) (bool, error) {
	c := s.peek()
	switch {
	case c == closing:
		s.pos++
		return false, nil
	case n == 0:
		return true, nil
	case c == ',':
		s.pos++
		return true, nil
	default:
		return false, s.fail("a comma or a closing bracket is missing")
	}
}

// key reads a member's name and its colon.
func (s *Scanner) key() (string, error) {
	if s.peek() != '"' {
		return "", s.fail("a member's name is missing")
	}
	start := s.pos
	escaped, err := s.string()
	if err != nil {
		return "", err
	}
	name := s.text[start+1 : s.pos-1]
	if escaped {
		name = unquote(s.text[start:s.pos])
	}
	if s.peek() != ':' {
		return "", s.fail("a colon is missing")
	}
	s.pos++
	return name, nil
}

// Value reads a whole value. Its flaw includes that of the name before it.
func (s *Scanner) Value() (Value, error) {
	v := Value{Kind: s.Next()}
	start := s.pos
	err := s.skip()
	v.Raw, v.Flaw = s.text[start:s.pos], s.flaw
	s.flaw = 0
	return v, err
}

// End checks that nothing follows.
func (s *Scanner) End() error {
	if s.peek() != 0 || s.pos < len(s.text) {
		return s.fail("something follows the value")
	}
	return nil
}

// skip reads one value, however deep.
func (s *Scanner) skip() error {
	s.open = s.open[:0]
	for {
		opened, err := s.begin()
		if err != nil {
			return err
		}
		if opened {
			continue
		}
		more, err := s.after()
		if err != nil || !more {
			return err
		}
	}
}

// begin reads a scalar, an empty composite, or up to the first value of a composite (opened).
func (s *Scanner) begin() (opened bool, err error) {
	switch c := s.peek(); c {
	case '"':
		_, err = s.string()
		return false, err
	case '{', '[':
		s.pos++
		closing := c + 2
		if s.peek() == closing {
			s.pos++
			return false, nil
		}
		s.open = append(s.open, closing)
		if len(s.open) > s.maxDepth {
			s.flaw |= TooDeep
		}
		if len(s.open) > hardDepth {
			return false, s.fail("the text is nested too deeply")
		}
		if c == '{' {
			_, err = s.key()
		}
		return true, err
	case 't':
		return false, s.literal("true")
	case 'f':
		return false, s.literal("false")
	case 'n':
		return false, s.literal("null")
	default:
		return false, s.number()
	}
}

// after reads what follows a value: closing brackets, then a comma before the next (more), or nothing.
func (s *Scanner) after() (more bool, err error) {
	for len(s.open) > 0 {
		closing := s.open[len(s.open)-1]
		c := s.peek()
		switch {
		case c == closing:
			s.pos++
			s.open = s.open[:len(s.open)-1]
			continue
		case c != ',':
			return false, s.fail("a comma or a closing bracket is missing")
		}
		s.pos++
		if closing == '}' {
			_, err = s.key()
		}
		return true, err
	}
	return false, nil
}

// peek returns the next byte that is not white space, 0 at the end.
func (s *Scanner) peek() byte {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; c {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

func (s *Scanner) literal(word string) error {
	if len(s.text)-s.pos < len(word) || s.text[s.pos:s.pos+len(word)] != word {
		return s.fail("a value is missing")
	}
	s.pos += len(word)
	return nil
}

func (s *Scanner) number() error {
	i := s.pos
	if i < len(s.text) && s.text[i] == '-' {
		i++
	}
	digits := s.digits(i)
	if digits == i || (s.text[i] == '0' && digits > i+1) {
		return s.fail("a value is missing")
	}
	i = digits
	if i < len(s.text) && s.text[i] == '.' {
		if digits = s.digits(i + 1); digits == i+1 {
			return s.fail("a number is cut")
		}
		i = digits
	}
	if i < len(s.text) && (s.text[i] == 'e' || s.text[i] == 'E') {
		i++
		if i < len(s.text) && (s.text[i] == '+' || s.text[i] == '-') {
			i++
		}
		if digits = s.digits(i); digits == i {
			return s.fail("a number is cut")
		}
		i = digits
	}
	s.pos = i
	return nil
}

func (s *Scanner) digits(i int) int {
	for i < len(s.text) && s.text[i] >= '0' && s.text[i] <= '9' {
		i++
	}
	return i
}

func (s *Scanner) fail(reason string) error { return &Error{Offset: s.pos, Reason: reason} }
