package mekong

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// ConfigError says what is wrong with the arguments of New.
type ConfigError struct{ Reason string }

// Error implements error.
func (e *ConfigError) Error() string { return "mekong: " + e.Reason }

// EncodeError says that an event cannot be written as JSON. No event of the call was sent.
type EncodeError struct {
	// Index is the position of the event in the arguments of Send.
	Index int
	Err   error
}

// Error implements error.
func (e *EncodeError) Error() string { return fmt.Sprintf("mekong: event %d: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *EncodeError) Unwrap() error { return e.Err }

// APIError is an answer of the server that concerns the whole request.
type APIError struct {
	// Status is the HTTP status.
	Status int
	// Code is for programs ("write_key_unknown"), Message for people. Both are empty when something else answered.
	Code    string
	Message string
	// RequestID finds the request in the server's logs.
	RequestID string
}

// Error implements error.
func (e *APIError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("mekong: the server answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("mekong: %s (%d %s)", e.Message, e.Status, e.Code)
}

// IncompleteError says that time ran out: the events with status Retry may or may not be stored. Sending them again with
// the same MessageID is harmless.
type IncompleteError struct {
	// Cause is why Send stopped: context.Canceled or context.DeadlineExceeded.
	Cause error
	// Last is what the last attempt ended with.
	Last error
}

// Error implements error.
func (e *IncompleteError) Error() string {
	return fmt.Sprintf("mekong: not every event is confirmed: %v; the last attempt: %v", e.Cause, e.Last)
}

// Unwrap returns both causes, for errors.Is and errors.As.
func (e *IncompleteError) Unwrap() []error { return []error{e.Cause, e.Last} }

var errAskedAgain = errors.New("mekong: the server asked for some events again")

// readError reads the error body of the server.
func readError(status int, header http.Header, text []byte) *APIError {
	var answer struct {
		Error struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			RequestID string `json:"request_id"`
		} `json:"error"`
	}
	e := &APIError{Status: status, RequestID: header.Get("X-Request-Id")}
	if json.Unmarshal(text, &answer) == nil {
		e.Code, e.Message = answer.Error.Code, answer.Error.Message
		if answer.Error.RequestID != "" {
			e.RequestID = answer.Error.RequestID
		}
	}
	return e
}
