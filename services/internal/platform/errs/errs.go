package errs

import (
	"context"
	"errors"
	"time"
)

// Kind says what an error means to whoever must react.
type Kind uint8

// The kinds, with what a consumer does when a message fails with one.
const (
	// Internal is a fault of ours: bounded retry, then dead letter.
	Internal Kind = iota
	// Invalid is bad input: dead letter.
	Invalid
	// Unauthenticated is a missing or wrong credential: dead letter.
	Unauthenticated
	// Forbidden is a credential without the right: dead letter.
	Forbidden
	// NotFound is a thing that does not exist: dead letter.
	NotFound
	// Conflict is a lost race or a name taken: bounded retry.
	Conflict
	// Precondition is a state that must be changed first: dead letter.
	Precondition
	// RateLimited is a limit reached: retry after the hint.
	RateLimited
	// Unavailable is a dependency that is away: retry with backoff, no commit.
	Unavailable
)

var kindNames = [...]string{
	"internal", "invalid", "unauthenticated", "forbidden", "not_found", "conflict",
	"precondition", "rate_limited", "unavailable",
}

// String returns the kind in snake_case, for logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Error is an error with a kind, a stable code and one sentence that says what to do.
type Error struct {
	Kind       Kind
	Code       string
	Message    string
	RetryAfter time.Duration

	cause error
}

// New returns an error of kind; code is snake_case and stable, message one sentence without personal data.
func New(kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message}
}

// Wrap is New with the cause kept for errors.Is, errors.As and logs; users never see the cause.
func Wrap(cause error, kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message, cause: cause}
}

// WithRetryAfter returns a copy that asks callers to wait d before trying again.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error returns message and cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Message + ": " + e.cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error with the same kind and code, so that a sentinel made with New matches
// copies of itself.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Code == e.Code
}

// KindOf returns the kind of err: Unavailable for a deadline or a cancelled context, Internal when nothing says otherwise.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Unavailable
	default:
		return Internal
	}
}

// CodeOf returns the code of err, or the name of its kind.
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Code != "" {
		return e.Code
	}
	return KindOf(err).String()
}

// MessageOf returns the sentence for users; errors without a kind show none of their text.
func MessageOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Message != "" {
		return e.Message
	}
	if KindOf(err) == Unavailable {
		return "The request took too long or was cancelled; try again."
	}
	return "Something went wrong on our side; the request id finds it in the logs."
}

// RetryAfterOf returns how long to wait before the next try, 0 when nothing says so.
func RetryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
