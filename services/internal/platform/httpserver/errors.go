package httpserver

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
)

// errorBody is what every error looks like over HTTP.
type errorBody struct {
	Error struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"request_id"`
	} `json:"error"`
}

// StatusOf returns the HTTP status of an error's kind.
func StatusOf(err error) int {
	switch errs.KindOf(err) {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict:
		return http.StatusConflict
	case errs.Precondition:
		return http.StatusPreconditionFailed
	case errs.RateLimited:
		return http.StatusTooManyRequests
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// defaultRetryAfter is said where an overload gives no hint of its own.
const defaultRetryAfter = time.Second

// WriteError answers with the status of err's kind and {"error":{"code","message","request_id"}}; 429 and 503 carry
// Retry-After.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	WriteErrorStatus(w, r, StatusOf(err), err)
}

// WriteErrorStatus is WriteError where a wire demands another status than the kind's own.
func WriteErrorStatus(w http.ResponseWriter, r *http.Request, status int, err error) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		after := max(errs.RetryAfterOf(err), defaultRetryAfter)
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	var body errorBody
	body.Error.Code, body.Error.Message, body.Error.RequestID = errs.CodeOf(err), errs.MessageOf(err), rpc.RequestID(r.Context())
	WriteJSON(w, status, body)
}

// WriteJSON answers with value as JSON. A client that has gone away is not an error.
func WriteJSON(w http.ResponseWriter, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		http.Error(w, `{"error":{"code":"internal"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
