package clickhouse

import "strings"

// statement is what a request asks for, as far as the door must know before the engine sees it.
type statement struct {
	sql    string  // the text for the engine; for an insert with data, without FORMAT and without the data
	tokens []token // of sql, comments left out
	format string  // named by FORMAT or VALUES, else empty

	insertData bool // INSERT whose rows are in the request
	dataStart  int  // offset of the rows within the text that was parsed
}

// token returns the n-th token, or an empty one.
func (s statement) token(n int) token {
	if n < len(s.tokens) {
		return s.tokens[n]
	}
	return token{kind: tokenMark}
}

func (s statement) keyword(n int, words ...string) bool {
	for _, word := range words {
		if s.token(n).is(word) {
			return true
		}
	}
	return false
}

// parseStatement reads text. For an INSERT it stops where the rows begin, whatever follows; dataInBody tells that more
// may follow text. An unfinished string or comment ends the tokens; the engine then names the syntax error.
func parseStatement(text string) (statement, error) {
	var s statement
	lex := lexer{sql: text}
	depth, formatAt := 0, -1
	for {
		t, ok := lex.next()
		if !ok {
			break
		}
		switch {
		case t.isMark(";") && depth == 0:
			if _, more := lex.next(); more || lex.broken {
				return s, newException(codeSyntaxError, "SYNTAX_ERROR", "Multi-statements are not allowed; send one statement in a request")
			}
			s.sql = text[:t.start]
			return s.finish(formatAt), nil
		case t.kind == tokenMark && strings.Contains("([{", t.text):
			depth++
		case t.kind == tokenMark && strings.Contains(")]}", t.text):
			depth--
		case depth == 0 && len(s.tokens) > 0 && s.tokens[0].is("INSERT"):
			if t.is("VALUES") && !s.expectsTable() && s.plainInsert() {
				s.sql, s.format, s.insertData, s.dataStart = text[:t.start], "Values", true, t.end
				return s, nil
			}
			if format, ok := formatName(s.tokens, t); ok && s.plainInsert() {
				s.sql, s.format, s.insertData = text[:s.tokens[len(s.tokens)-1].start], format, true
				s.dataStart = dataStart(text, t.end)
				s.tokens = s.tokens[:len(s.tokens)-1]
				return s, nil
			}
		case depth == 0:
			if _, ok := formatName(s.tokens, t); ok {
				formatAt = len(s.tokens)
			}
		}
		s.tokens = append(s.tokens, t)
	}
	s.sql = text
	return s.finish(formatAt), nil
}

func (s statement) finish(formatAt int) statement {
	if formatAt >= 0 {
		s.format = s.tokens[formatAt].text
	}
	return s
}

// formatName reports that t is the name in FORMAT name, given the tokens before it.
func formatName(before []token, t token) (string, bool) {
	n := len(before)
	if n < 2 || !before[n-1].is("FORMAT") || !t.name() || before[n-2].isMark(".") || before[n-2].is("AS") {
		return "", false
	}
	return t.text, true
}

// plainInsert reports that nothing so far makes this INSERT one that takes its rows from a query or a file.
func (s statement) plainInsert() bool {
	for _, t := range s.tokens {
		if t.is("SELECT") || t.is("WITH") || t.is("INFILE") || t.is("WATCH") {
			return false
		}
	}
	return true
}

// expectsTable reports that the next token is the name of a table, even if it reads VALUES.
func (s statement) expectsTable() bool {
	last := s.tokens[len(s.tokens)-1]
	return last.is("INSERT") || last.is("INTO") || last.is("TABLE") || last.is("FUNCTION") || last.isMark(".")
}

// dataStart skips what ClickHouse skips after a format name: blanks up to and with the first line break.
func dataStart(text string, pos int) int {
	for pos < len(text) && (text[pos] == ' ' || text[pos] == '\t' || text[pos] == '\f') {
		pos++
	}
	if strings.HasPrefix(text[pos:], "\r\n") {
		return pos + 2
	}
	if strings.HasPrefix(text[pos:], "\n") {
		return pos + 1
	}
	return pos
}
