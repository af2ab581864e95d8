package clickhouse

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Codes of ClickHouse that are made here; the engine's own pass through.
const (
	codeBadArguments        = 36
	codeUnknownFormat       = 73
	codeNotImplemented      = 48
	codeSyntaxError         = 62
	codeCannotParse         = 27
	codeUnknownSetting      = 115
	codeReadOnly            = 164
	codeTooManyQueries      = 202
	codeNetworkError        = 210
	codeQueryIDInUse        = 216
	codeCannotDecompress    = 271
	codeCancelled           = 394
	codeSettingConstraint   = 452
	codeAccessDenied        = 497
	codeAuthentication      = 516
	codeUnknownException    = 1002
	codeAborted             = 236
	codeIncorrectData       = 117
	codeUnexpectedEndOfFile = 3
)

// exception is an error as ClickHouse reports it: a code that clients branch on, a text, a symbolic name.
type exception struct {
	code int
	text string // everything after "DB::Exception: "
}

// newException makes an error of this side of the door; name is the symbolic name of ClickHouse for code.
func newException(code int, name, format string, args ...any) *exception {
	return &exception{code: code, text: fmt.Sprintf(format, args...) + " (" + name + ")"}
}

// Error is the body that ClickHouse would answer.
func (e *exception) Error() string {
	return "Code: " + strconv.Itoa(e.code) + ". DB::Exception: " + e.text
}

var (
	exceptionPattern = regexp.MustCompile(`^Code: (\d+)\. DB::(?:[A-Za-z]*)Exception: `)
	versionSuffix    = regexp.MustCompile(`\s*\(version [^()]*(\([^()]*\))?\)\s*$`)
)

// parseException reads what the engine says; a text without a code becomes UNKNOWN_EXCEPTION.
func parseException(text string) *exception {
	text = strings.TrimSpace(text)
	m := exceptionPattern.FindStringSubmatchIndex(text)
	if m == nil {
		return newException(codeUnknownException, "UNKNOWN_EXCEPTION", "%s", text)
	}
	code, err := strconv.Atoi(text[m[2]:m[3]])
	if err != nil {
		code = codeUnknownException
	}
	return &exception{code: code, text: versionSuffix.ReplaceAllString(text[m[1]:], "")}
}

// status is the HTTP status that ClickHouse gives for the code.
func (e *exception) status() int {
	switch e.code {
	case 194: // REQUIRED_PASSWORD
		return http.StatusUnauthorized
	case 192, 193, codeAuthentication, codeAccessDenied, 511: // unknown user, wrong password, denied, unknown role
		return http.StatusForbidden
	case 6, 25, 26, codeCannotParse, 38, 41, 72, 441, 33, codeUnexpectedEndOfFile, codeIncorrectData, // unreadable data
		1, 53, 167, 168, codeSyntaxError, 99, codeBadArguments, 42, 43, 70, 457, codeCannotDecompress, 69, 386, 349,
		codeSettingConstraint, codeQueryIDInUse, codeReadOnly:
		return http.StatusBadRequest
	case 46, 47, 50, 56, 60, 63, codeUnknownFormat, 78, 81, 114, codeUnknownSetting, 336, 16:
		return http.StatusNotFound
	case 159:
		return http.StatusRequestTimeout
	case codeNotImplemented, 344:
		return http.StatusNotImplemented
	case codeTooManyQueries, 439, 209, 76:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

var syntaxPosition = regexp.MustCompile(`failed at position (\d+)`)

// shifted takes the length of what was put in front of a statement out of the position in a syntax error.
func (e *exception) shifted(by int) *exception {
	if e.code != codeSyntaxError {
		return e
	}
	m := syntaxPosition.FindStringSubmatchIndex(e.text)
	if m == nil {
		return e
	}
	position, err := strconv.Atoi(e.text[m[2]:m[3]])
	if err != nil || position <= by {
		return e
	}
	return &exception{code: e.code, text: e.text[:m[2]] + strconv.Itoa(position-by) + e.text[m[3]:]}
}
