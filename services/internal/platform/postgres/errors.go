package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// SQLError is an error of the server that is safe to log: PostgreSQL's own text may quote the values of a row.
type SQLError struct {
	// Code is the SQLSTATE; the names are of the objects concerned, as far as the server gave them.
	Code, Schema, Table, Column, Constraint string

	cause *pgconn.PgError
}

// Error names code and objects, never values.
func (e *SQLError) Error() string {
	var b strings.Builder
	b.WriteString("SQLSTATE " + e.Code)
	for _, part := range [...]struct{ name, value string }{
		{"schema", e.Schema}, {"table", e.Table}, {"column", e.Column}, {"constraint", e.Constraint},
	} {
		if part.value != "" {
			b.WriteString(" " + part.name + " " + part.value)
		}
	}
	// These classes speak of the statement, the server or the login, not of data.
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "XX":
		b.WriteString(": " + e.cause.Message)
	}
	return b.String()
}

// Unwrap returns the *pgconn.PgError, whose text must not be logged.
func (e *SQLError) Unwrap() error { return e.cause }

func redact(pg *pgconn.PgError) *SQLError {
	return &SQLError{
		Code: pg.Code, Schema: pg.SchemaName, Table: pg.TableName, Column: pg.ColumnName, Constraint: pg.ConstraintName,
		cause: pg,
	}
}

// rule says what the errors of one SQLSTATE, or of a class (its first two characters), mean.
type rule struct {
	kind    errs.Kind
	code    string
	message string
}

func ruleOf(state string) rule {
	switch state {
	case "23505":
		return rule{errs.Conflict, "already_exists", "a row with this key already exists"}
	case "23P01":
		return rule{errs.Conflict, "overlaps", "the row overlaps with one that exists"}
	case "40001", "40P01":
		return rule{errs.Conflict, "transaction_conflict", "another transaction changed the same rows; try again"}
	case "23503":
		return rule{errs.Precondition, "reference_missing", "a row that this one refers to does not exist, or others still refer to it"}
	case "55P03":
		return rule{errs.Unavailable, "lock_timeout", "another transaction holds the rows; try again"}
	case "57014":
		return rule{errs.Unavailable, "statement_timeout", "the database took too long; try again"}
	case "42501":
		return rule{errs.Forbidden, "row_forbidden", "the row belongs to another workspace, or the role lacks the right"}
	case "3D000":
		return rule{errs.Precondition, "database_missing", "the database named in postgres.url does not exist; create it"}
	case "53100":
		return rule{errs.Unavailable, "disk_full", "the disk of the database is full; make room"}
	case "53300":
		return rule{errs.Unavailable, "too_many_connections", "the database has no free connection; lower postgres.max_conns or raise its max_connections"}
	case "XX001", "XX002":
		return rule{errs.Internal, "data_corrupted", "the database found corrupted data on its disk; restore from a backup"}
	}
	switch state[:min(2, len(state))] {
	case "28":
		return rule{errs.Unauthenticated, "postgres_login_refused", "PostgreSQL refused the user or the password; check postgres.url"}
	case "22", "23":
		return rule{errs.Invalid, "value_refused", "the database refused a value"}
	case "08", "53", "57", "58":
		return rule{errs.Unavailable, "postgres_unavailable", "PostgreSQL is not available; try again"}
	default:
		return rule{errs.Internal, "postgres_error", "the database refused a statement"}
	}
}

// Classify gives an error of pgx or of the server its kind. Errors that have a kind, or are none of the database's,
// pass unchanged; nil stays nil.
func Classify(err error) error {
	var known *errs.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		r := ruleOf(pg.Code)
		return errs.Wrap(redact(pg), r.kind, r.code, r.message)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errs.Wrap(err, errs.NotFound, "not_found", "there is no such row")
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return errs.Wrap(err, errs.Conflict, "transaction_rolled_back", "a statement of the transaction had failed, so nothing was written")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case isConnectionError(err):
		return errs.Wrap(err, errs.Unavailable, "postgres_unavailable", "PostgreSQL does not answer; check that it runs and postgres.url")
	default:
		return err
	}
}

func isConnectionError(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err)
}
