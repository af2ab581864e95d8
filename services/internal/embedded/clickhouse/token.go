package clickhouse

import "strings"

type tokenKind uint8

const (
	tokenWord   tokenKind = iota // bare identifier or keyword
	tokenQuoted                  // `quoted` or "quoted" identifier
	tokenString                  // 'string' or $tag$heredoc$tag$
	tokenNumber
	tokenMark // any other single byte
)

// token is a lexical piece of SQL; comments and spaces give none.
type token struct {
	kind       tokenKind
	text       string // without quotes for tokenQuoted and tokenString
	start, end int
}

// is compares a bare keyword without regard to case.
func (t token) is(word string) bool { return t.kind == tokenWord && strings.EqualFold(t.text, word) }

func (t token) isMark(mark string) bool { return t.kind == tokenMark && t.text == mark }

// name reports whether the token can be an identifier, bare or quoted.
func (t token) name() bool { return t.kind == tokenWord || t.kind == tokenQuoted }

// lexer splits SQL the way ClickHouse's own lexer does, as far as deciding what a statement is needs it: strings,
// quoted identifiers, comments and heredocs hide what they contain.
type lexer struct {
	sql string
	pos int
	// broken tells that the end came inside a string, a quoted identifier or a comment.
	broken bool
}

// next returns the next token; ok is false at the end or inside an unfinished string or comment.
func (l *lexer) next() (t token, ok bool) {
	l.skipSpace()
	if l.pos >= len(l.sql) {
		return token{}, false
	}
	start := l.pos
	c := l.sql[start]
	switch {
	case c == '\'' || c == '`' || c == '"':
		return l.quoted(c)
	case c == '$':
		if t, ok := l.heredoc(); ok {
			return t, true
		}
	case isDigit(c):
		for l.pos < len(l.sql) && (isWordByte(l.sql[l.pos]) || l.sql[l.pos] == '.') {
			l.pos++
		}
		return token{tokenNumber, l.sql[start:l.pos], start, l.pos}, true
	}
	if isWordByte(c) {
		for l.pos < len(l.sql) && isWordByte(l.sql[l.pos]) {
			l.pos++
		}
		return token{tokenWord, l.sql[start:l.pos], start, l.pos}, true
	}
	l.pos++
	return token{tokenMark, l.sql[start:l.pos], start, l.pos}, true
}

func (l *lexer) skipSpace() {
	for l.pos < len(l.sql) {
		rest := l.sql[l.pos:]
		switch {
		case isSpace(rest[0]):
			l.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.pos += lineLength(rest)
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				l.pos, l.broken = len(l.sql), true
				return
			}
			l.pos += end + 4
		default:
			return
		}
	}
}

func lineLength(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return i + 1
	}
	return len(s)
}

// quoted reads a string or quoted identifier; a backslash escapes the next byte, a doubled quote is one quote.
func (l *lexer) quoted(quote byte) (token, bool) {
	kind := tokenQuoted
	if quote == '\'' {
		kind = tokenString
	}
	start := l.pos
	var text strings.Builder
	for i := start + 1; i < len(l.sql); i++ {
		switch c := l.sql[i]; {
		case c == '\\' && i+1 < len(l.sql):
			i++
			text.WriteByte(unescape(l.sql[i]))
		case c == quote && i+1 < len(l.sql) && l.sql[i+1] == quote:
			i++
			text.WriteByte(quote)
		case c == quote:
			l.pos = i + 1
			return token{kind, text.String(), start, l.pos}, true
		default:
			text.WriteByte(c)
		}
	}
	l.pos, l.broken = len(l.sql), true
	return token{}, false
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case '0':
		return 0
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	default:
		return c
	}
}

// heredoc reads $tag$ … $tag$; a lone dollar is part of a word or a mark.
func (l *lexer) heredoc() (token, bool) {
	rest := l.sql[l.pos:]
	size := 1
	for size < len(rest) && isWordByte(rest[size]) && rest[size] != '$' {
		size++
	}
	if size >= len(rest) || rest[size] != '$' {
		return token{}, false
	}
	tag := rest[:size+1]
	end := strings.Index(rest[len(tag):], tag)
	if end < 0 {
		return token{}, false
	}
	start := l.pos
	l.pos += len(tag) + end + len(tag)
	return token{tokenString, rest[len(tag) : len(tag)+end], start, l.pos}, true
}

func isSpace(c byte) bool { return c == ' ' || (c >= '\t' && c <= '\r') }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isWordByte(c byte) bool {
	return c == '_' || c == '$' || isDigit(c) || (c|0x20 >= 'a' && c|0x20 <= 'z')
}
