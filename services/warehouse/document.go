package warehouse

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep a document may nest; deeper values are kept as text.
const maxDepth = 32

// Flags that the warehouse adds to an event.
const (
	flagNumberAsText    = "number_as_text"
	flagKeyEscaped      = "key_escaped"
	flagDeepAsText      = "deep_value_as_text"
	flagDuplicateKey    = "duplicate_key"
	flagTextRepaired    = "text_repaired"
	flagNotObject       = "not_an_object"
	flagAmountRefused   = "amount_refused"
	flagRevenueDiffers  = "revenue_differs"
	flagTimeClamped     = "time_clamped"
	flagDocumentRefused = "document_refused"
)

// errTrap says that a document is sound JSON, but not what the JSON type can take.
var errTrap = errors.New("the document cannot go into the JSON type as it is")

// reader walks a JSON document once, without building anything: it fills the fields that it knows and finds what the
// JSON type of ClickHouse would refuse or bend. It is reused and not safe for concurrent use.
type reader struct {
	dec    *jsontext.Decoder
	buf    bytes.Buffer
	path   []byte
	places places
	row    *Row
}

func newReader() *reader {
	return &reader{dec: jsontext.NewDecoder(bytes.NewReader(nil))}
}

// read walks doc; errTrap or a syntax error mean that doc must be rewritten first.
func (r *reader) read(doc []byte, known places, row *Row) error {
	r.buf.Reset()
	r.buf.Write(doc)
	r.dec.Reset(&r.buf)
	r.path, r.places, r.row = r.path[:0], known, row
	if r.dec.PeekKind() != '{' {
		return errTrap
	}
	if err := r.value(0); err != nil {
		return err
	}
	if r.dec.PeekKind() != 0 {
		return errTrap
	}
	return nil
}

func (r *reader) value(depth int) error {
	switch kind := r.dec.PeekKind(); kind {
	case '{':
		if depth >= maxDepth {
			return errTrap
		}
		return r.object(depth)
	case '[':
		if depth >= maxDepth {
			return errTrap
		}
		return r.array(depth)
	case '"', '0':
		raw, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		if kind == '0' && !representable(raw) {
			return errTrap
		}
		if at, ok := r.places[string(r.path)]; ok {
			r.row.fill(at, raw)
		}
		return nil
	default:
		return r.dec.SkipValue()
	}
}

func (r *reader) object(depth int) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	line, consent := isLine(r.path), isConsent(r.path)
	before := len(r.path)
	for r.dec.PeekKind() != '}' {
		name, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		if bytes.IndexByte(name, '.') >= 0 || bytes.IndexByte(name, '\\') >= 0 {
			return errTrap
		}
		name = name[1 : len(name)-1]
		if before > 0 {
			r.path = append(r.path, '.')
		}
		r.path = append(r.path, name...)
		if consent {
			if kind := r.dec.PeekKind(); kind == 't' || kind == 'f' {
				r.row.Consent = append(r.row.Consent, choice{purpose: string(r.path[before+1:]), given: kind == 't'})
			}
		}
		if err := r.value(depth + 1); err != nil {
			return err
		}
		r.path = r.path[:before]
	}
	if line {
		r.row.addLine()
	}
	_, err := r.dec.ReadToken()
	return err
}

func (r *reader) array(depth int) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	before := len(r.path)
	r.path = append(r.path, '[', ']')
	for r.dec.PeekKind() != ']' {
		if err := r.value(depth + 1); err != nil {
			return err
		}
	}
	r.path = r.path[:before]
	_, err := r.dec.ReadToken()
	return err
}

// representable tells whether a number fits: integers in 64 bits, fractions in a float.
func representable(raw []byte) bool {
	integer, exponent := true, false
	for _, c := range raw {
		switch c {
		case '.':
			integer = false
		case 'e', 'E':
			integer, exponent = false, true
		}
	}
	switch {
	case integer && len(raw) <= 18:
		return true
	case integer && raw[0] == '-':
		_, err := strconv.ParseInt(string(raw), 10, 64)
		return err == nil
	case integer:
		_, err := strconv.ParseUint(string(raw), 10, 64)
		return err == nil
	case exponent || len(raw) > 300:
		_, err := strconv.ParseFloat(string(raw), 64)
		return err == nil
	default:
		return true
	}
}

// rewrite turns any text into a document that the JSON type takes without loss of whole values: numbers that do not fit
// and values that nest too deep become text, dots in keys become %2E (or they would merge with nested keys), the last of
// equal keys wins, broken characters are replaced. What is no JSON object becomes an empty one. It returns flags.
func rewrite(doc []byte) ([]byte, []string) {
	w := rewriter{flags: map[string]struct{}{}}
	dec := jsontext.NewDecoder(bytes.NewReader(doc), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	out, err := w.document(dec)
	if err != nil {
		return []byte("{}"), []string{flagNotObject}
	}
	var flags []string
	for _, flag := range []string{flagNumberAsText, flagKeyEscaped, flagDeepAsText, flagDuplicateKey, flagTextRepaired} {
		if _, ok := w.flags[flag]; ok {
			flags = append(flags, flag)
		}
	}
	return out, flags
}

type rewriter struct {
	flags map[string]struct{}
}

func (w *rewriter) document(dec *jsontext.Decoder) ([]byte, error) {
	if dec.PeekKind() != '{' {
		return nil, errTrap
	}
	out, err := w.value(nil, dec, 0)
	if err != nil {
		return nil, err
	}
	if dec.PeekKind() != 0 {
		return nil, errTrap
	}
	return out, nil
}

func (w *rewriter) value(out []byte, dec *jsontext.Decoder, depth int) ([]byte, error) {
	kind := dec.PeekKind()
	if (kind == '{' || kind == '[') && depth < maxDepth {
		if kind == '{' {
			return w.object(out, dec, depth)
		}
		return w.array(out, dec, depth)
	}
	raw, err := dec.ReadValue()
	if err != nil {
		return nil, err
	}
	switch {
	case kind == '{' || kind == '[':
		w.flags[flagDeepAsText] = struct{}{}
		return appendText(out, strings.ToValidUTF8(string(raw), "\uFFFD"))
	case kind == '"':
		return appendText(out, w.unquote(raw))
	case kind == '0' && !representable(raw):
		w.flags[flagNumberAsText] = struct{}{}
		return appendText(out, string(raw))
	default:
		return append(out, raw...), nil
	}
}

// member is where a member of an object, comma included, starts in the output.
type member struct {
	name  string
	start int
}

func (w *rewriter) object(out []byte, dec *jsontext.Decoder, depth int) ([]byte, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	out = append(out, '{')
	var members []member
	index := map[string]int{}
	for dec.PeekKind() != '}' {
		raw, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		name := w.escape(w.unquote(raw))
		if i, ok := index[name]; ok {
			w.flags[flagDuplicateKey] = struct{}{}
			out, members = cut(out, members, i)
			for n := range index {
				if index[n] > i {
					index[n]--
				}
			}
		}
		index[name] = len(members)
		members = append(members, member{name: name, start: len(out)})
		if out, err = appendText(out, name); err != nil {
			return nil, err
		}
		out = append(out, ':')
		if out, err = w.value(out, dec, depth+1); err != nil {
			return nil, err
		}
		out = append(out, ',')
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	return append(bytes.TrimSuffix(out, []byte(",")), '}'), nil
}

// cut removes the i-th member from the output.
func cut(out []byte, members []member, i int) ([]byte, []member) {
	end := len(out)
	if i+1 < len(members) {
		end = members[i+1].start
	}
	size := end - members[i].start
	out = append(out[:members[i].start], out[end:]...)
	members = append(members[:i], members[i+1:]...)
	for j := i; j < len(members); j++ {
		members[j].start -= size
	}
	return out, members
}

func (w *rewriter) array(out []byte, dec *jsontext.Decoder, depth int) ([]byte, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	out = append(out, '[')
	for dec.PeekKind() != ']' {
		var err error
		if out, err = w.value(out, dec, depth+1); err != nil {
			return nil, err
		}
		out = append(out, ',')
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	return append(bytes.TrimSuffix(out, []byte(",")), ']'), nil
}

func (w *rewriter) escape(name string) string {
	if strings.IndexByte(name, '.') < 0 {
		return name
	}
	w.flags[flagKeyEscaped] = struct{}{}
	return strings.ReplaceAll(name, ".", "%2E")
}

// unquote returns the text of a JSON string, characters that are none replaced.
func (w *rewriter) unquote(raw []byte) string {
	plain, err := jsontext.AppendUnquote(nil, raw)
	if err == nil && utf8.Valid(plain) {
		return string(plain)
	}
	w.flags[flagTextRepaired] = struct{}{}
	return strings.ToValidUTF8(string(plain), "\uFFFD")
}

func appendText(out []byte, s string) ([]byte, error) {
	return jsontext.AppendQuote(out, s)
}
