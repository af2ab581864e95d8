package clickhouse

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseStatementFindsTheDataOfAnInsert(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ sql, format, data string }{
		"INSERT INTO t FORMAT CSV\n1,2\n":                     {"INSERT INTO t ", "CSV", "1,2\n"},
		"INSERT INTO t (a, b) FORMAT Native \r\n\x01\x0a\x0a": {"INSERT INTO t (a, b) ", "Native", "\x01\x0a\x0a"},
		"insert into t values (1, 'a;b')":                     {"insert into t ", "Values", " (1, 'a;b')"},
		"INSERT INTO `values` VALUES (1)":                     {"INSERT INTO `values` ", "Values", " (1)"},
		"INSERT INTO values VALUES (1)":                       {"INSERT INTO values ", "Values", " (1)"},
		"INSERT INTO t SETTINGS x=1 FORMAT JSONEachRow {}":    {"INSERT INTO t SETTINGS x=1 ", "JSONEachRow", "{}"},
		"/* FORMAT x */ INSERT INTO t -- VALUES\n FORMAT TSV\n\n": {
			"/* FORMAT x */ INSERT INTO t -- VALUES\n ", "TSV", "\n",
		},
		"INSERT INTO FUNCTION null('a Int32') FORMAT TSV 1": {"INSERT INTO FUNCTION null('a Int32') ", "TSV", "1"},
	} {
		s, err := parseStatement(text)
		require.NoError(t, err, text)
		require.True(t, s.insertData, text)
		require.Equal(t, want.sql, s.sql, text)
		require.Equal(t, want.format, s.format, text)
		require.Equal(t, want.data, text[s.dataStart:], text)
	}
}

func TestParseStatementLeavesOtherStatementsWhole(t *testing.T) {
	t.Parallel()
	for text, format := range map[string]string{
		"SELECT 1": "",
		"SELECT 'a;b', \"c;d\", `e;f` -- ;\n /* ; */ FORMAT JSON":   "JSON",
		"SELECT 1 FORMAT JSON SETTINGS max_threads = 1":             "JSON",
		"SELECT (SELECT 1 FORMAT TSV) AS format":                    "",
		"INSERT INTO t SELECT * FROM u":                             "",
		"INSERT INTO t WITH 1 AS x SELECT x":                        "",
		"SELECT $$ ; $$, $a$ ; FORMAT x $a$":                        "",
		"INSERT INTO t FROM INFILE 'f' FORMAT CSV":                  "",
		"SELECT formatDateTime(now(), '%F') AS format FROM t LIMIT": "",
	} {
		s, err := parseStatement(text)
		require.NoError(t, err, text)
		require.False(t, s.insertData, text)
		require.Equal(t, text, s.sql)
		if !strings.HasPrefix(text, "INSERT") {
			require.Equal(t, format, s.format, text)
		}
	}
}

func TestParseStatementRefusesASecondStatement(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"SELECT 1; SELECT 2", "SELECT 1;;", "SELECT 'a'; 'unfinished", "DROP TABLE t; /* */ x"} {
		_, err := parseStatement(text)
		require.ErrorContains(t, err, "Multi-statements", text)
	}
	for _, text := range []string{"SELECT 1;", "SELECT 1 ; -- done\n", "SELECT 1; /* done */ "} {
		s, err := parseStatement(text)
		require.NoError(t, err, text)
		require.NotContains(t, s.sql, ";")
	}
}

func TestLexerNeverPassesTheEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("a1'\"`\\$;-/*#\n (),.é"))).Draw(t, "sql")
		lex, last := lexer{sql: text}, 0
		for {
			tok, ok := lex.next()
			if !ok {
				break
			}
			require.LessOrEqual(t, last, tok.start)
			require.Less(t, tok.start, tok.end)
			last = tok.end
		}
		require.LessOrEqual(t, lex.pos, len(text))
	})
}

func TestParseKill(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]killStatement{
		"KILL QUERY WHERE query_id = 'a'":                      {ids: []string{"a"}},
		"kill query where `query_id`='a\\'b' sync":             {ids: []string{"a'b"}, sync: true},
		"KILL QUERY WHERE query_id IN ('a', 'b') ASYNC":        {ids: []string{"a", "b"}},
		"KILL QUERY WHERE query_id = 'a' TEST FORMAT JSON":     {ids: []string{"a"}, test: true},
		"/* x */ KILL QUERY WHERE query_id = 'a' SYNC -- done": {ids: []string{"a"}, sync: true},
	} {
		s, err := parseStatement(text)
		require.NoError(t, err)
		k, ok, err := parseKill(s)
		require.NoError(t, err, text)
		require.True(t, ok)
		require.Equal(t, want, k)
	}
	for _, text := range []string{"KILL QUERY WHERE 1", "KILL QUERY WHERE query_id = 'a' OR 1", "KILL QUERY", "KILL QUERY WHERE user = 'a'"} {
		s, err := parseStatement(text)
		require.NoError(t, err)
		_, ok, err := parseKill(s)
		require.True(t, ok)
		require.Error(t, err, text)
	}
	s, err := parseStatement("KILL MUTATION WHERE 1")
	require.NoError(t, err)
	_, ok, err := parseKill(s)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestValuesScannerEndsAtASemicolonOutsideStrings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"(1, 'a;b')":       "(1, 'a;b')",
		"(1, 'a\\';b');  ": "(1, 'a\\';b')",
		"(1, 'a'';b') ;\n": "(1, 'a'';b') ",
	} {
		v, got := valuesScanner{}, ""
		for i := range len(text) { // one byte at a time: state must survive chunks
			part, err := v.scan([]byte{text[i]})
			require.NoError(t, err)
			got += string(part)
		}
		require.Equal(t, want, got)
	}
	v := valuesScanner{}
	_, err := v.scan([]byte("(1); SELECT 2"))
	require.ErrorContains(t, err, "after semicolon")
}

func TestParseExceptionKeepsCodeAndText(t *testing.T) {
	t.Parallel()
	e := parseException("Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED) (version 26.7.2.1)")
	require.Equal(t, 394, e.code)
	require.Equal(t, "Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)", e.Error())
	require.Equal(t, 62, parseException("Code: 62. DB::Exception: Syntax error: failed").code)
	require.Equal(t, codeUnknownException, parseException("boom").code)
	require.Equal(t, 404, (&exception{code: 60}).status())
	require.Equal(t, 403, (&exception{code: 516}).status())
	require.Equal(t, 400, (&exception{code: 62}).status())
	require.Equal(t, 500, (&exception{code: 241}).status())
}

func TestNewerComparesNumbers(t *testing.T) {
	t.Parallel()
	require.True(t, newer("26.10", "26.7.3"))
	require.True(t, newer("26.7.3.1", "26.7.3"))
	require.False(t, newer("26.7.3", "26.7.3"))
	require.False(t, newer("25.9.9", "26.7.3"))
}
