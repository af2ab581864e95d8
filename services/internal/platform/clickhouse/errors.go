package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// SQLError is an error of the server that is safe to log: ClickHouse's own text may quote the values of a row.
type SQLError struct {
	// Code and Name are ClickHouse's: 60, UNKNOWN_TABLE.
	Code int32
	Name string

	message string
}

// Error names the error; the server's text is added where it speaks of the statement or the server, not of data.
func (e *SQLError) Error() string {
	text := fmt.Sprintf("ClickHouse error %d", e.Code)
	if e.Name != "" {
		text += " " + e.Name
	}
	switch e.Code {
	case codeUnknownTable, codeUnknownDatabase, codeSyntaxError, codeUnknownIdentifier, codeUnknownSetting,
		codeAuthenticationFailed, codeAccessDenied, codeMemoryLimit, codeTooManyParts, codeTimeout, codeTooManyQueries:
		text += ": " + e.message
	}
	return text
}

// ClickHouse's numbers that we tell apart.
const (
	codeUnknownIdentifier    = 47
	codeUnknownTable         = 60
	codeSyntaxError          = 62
	codeUnknownDatabase      = 81
	codeUnknownSetting       = 115
	codeTimeout              = 159
	codeTooManyQueries       = 202
	codeMemoryLimit          = 241
	codeTooManyParts         = 252
	codeAccessDenied         = 497
	codeAuthenticationFailed = 516
)

type rule struct {
	kind    errs.Kind
	code    string
	message string
}

func ruleOf(code int32) rule {
	switch code {
	case codeUnknownTable:
		return rule{errs.Precondition, "table_missing", "a table does not exist in ClickHouse; run the migrations first"}
	case codeUnknownDatabase:
		return rule{errs.Precondition, "database_missing", "the database named in clickhouse.url does not exist; create it"}
	case codeAuthenticationFailed, 192, 193, 194: // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD
		return rule{errs.Unauthenticated, "clickhouse_login_refused", "ClickHouse refused the user or the password; check clickhouse.url"}
	case codeAccessDenied, 164, 291, 392: // READONLY, DATABASE_ACCESS_DENIED, QUERY_IS_PROHIBITED
		return rule{errs.Forbidden, "statement_forbidden", "the user of clickhouse.url lacks a right that this statement needs; grant it"}
	case 243: // NOT_ENOUGH_SPACE
		return rule{errs.Unavailable, "disk_full", "the disk of ClickHouse is full; make room"}
	case codeTimeout, 160, 394: // TOO_SLOW, QUERY_WAS_CANCELLED
		return rule{errs.Unavailable, "statement_timeout", "ClickHouse took too long or was told to stop; try again"}
	case codeMemoryLimit, codeTooManyParts, codeTooManyQueries:
		return rule{errs.Unavailable, "clickhouse_overloaded", "ClickHouse is at a limit of memory, parts or queries; try again later"}
	case 74, 75, 76, 87, 198, 203, 209, 210, 236, 242, 279, 319, 425, 999, 1000, 1001:
		// reading, writing, opening a file; DNS; no free connection; socket timeout; network; aborted; read-only table;
		// all connections failed; unknown status of an insert; system error; Keeper; exceptions of libraries
		return rule{errs.Unavailable, "clickhouse_unavailable", "ClickHouse is not available; try again"}
	case 6, 25, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 130, 131, 190, 321, 349, 407, 467, 691:
		// parse errors, short data, types that do not fit, values out of range
		return rule{errs.Invalid, "value_refused", "ClickHouse refused a value"}
	case 57, 82: // TABLE_ALREADY_EXISTS, DATABASE_ALREADY_EXISTS
		return rule{errs.Conflict, "already_exists", "a table or database of this name already exists"}
	default:
		return rule{errs.Internal, "clickhouse_error", "ClickHouse refused a statement"}
	}
}

// Classify gives an error of the driver or of the server its kind. Errors that have a kind, or are none of
// ClickHouse's, pass unchanged; nil stays nil.
func Classify(err error) error {
	var known *errs.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	var own *SQLError
	if errors.As(err, &own) {
		return wrapSQL(own)
	}
	var exception *driver.Exception
	if errors.As(err, &exception) {
		return wrapSQL(&SQLError{Code: exception.Code, Name: exception.CodeName, message: exception.Message})
	}
	var proxy *driver.HTTPError
	if errors.As(err, &proxy) && proxy.StatusCode >= http.StatusBadGateway && proxy.StatusCode <= http.StatusGatewayTimeout {
		return errs.New(errs.Unavailable, "clickhouse_unavailable", "a proxy answers for ClickHouse that it is away; try again")
	}
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, driver.ErrAcquireConnTimeout), errors.Is(err, driver.ErrAcquireConnNoAddress):
		return errs.Wrap(err, errs.Unavailable, "clickhouse_unavailable", "ClickHouse does not answer; check that it runs and clickhouse.url")
	default:
		return err
	}
}

func wrapSQL(e *SQLError) error {
	r := ruleOf(e.Code)
	return errs.Wrap(e, r.kind, r.code, r.message)
}

// codeOf returns ClickHouse's number of err, 0 when it has none.
func codeOf(err error) int32 {
	var own *SQLError
	if errors.As(err, &own) {
		return own.Code
	}
	var exception *driver.Exception
	if errors.As(err, &exception) {
		return exception.Code
	}
	return 0
}
