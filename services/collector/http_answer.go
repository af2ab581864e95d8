package collector

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/httpserver"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
)

// writeSuccess is exactly what the SDKs of Segment and RudderStack take for a success: some retry on other 2xx.
func writeSuccess(w http.ResponseWriter) int {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", "16")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, `{"success":true}`)
	return http.StatusOK
}

func writeResults(w http.ResponseWriter, results []result) int {
	body := appendResults(make([]byte, 0, 16+80*len(results)), results)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
	return http.StatusOK
}

func appendResults(b []byte, results []result) []byte {
	b = append(b, `{"results":[`...)
	for i, r := range results {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"event_id":`...)
		// Invalid UTF-8 is replaced and reported; such an id belongs to a rejected event.
		b, _ = jsontext.AppendQuote(b, r.eventID)
		b = append(b, `,"status":"`...)
		b = append(b, r.status.String()...)
		b = append(b, '"')
		if r.reason != "" {
			b = append(b, `,"reason":"`...)
			b = append(b, r.reason...)
			b = append(b, '"')
		}
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// statusOf is the kind's status, except for what is too large.
func statusOf(err error) int {
	switch errs.CodeOf(err) {
	case "body_too_large", "batch_too_large", "event_too_large", "append_too_large":
		return http.StatusRequestEntityTooLarge
	}
	return httpserver.StatusOf(err)
}

func writeError(w http.ResponseWriter, r *http.Request, err error) int {
	code := statusOf(err)
	httpserver.WriteErrorStatus(w, r, code, err)
	return code
}

// writeRejection answers for the only event of a request.
func writeRejection(w http.ResponseWriter, r *http.Request, rejected Rejection) int {
	message := rejected.Message
	if rejected.Path != "" {
		message = rejected.Path + ": " + message
	}
	return writeError(w, r, errs.New(errs.Invalid, rejected.Reason, message))
}

// writeErrorResults answers an error on a path that answers for each event: none was stored.
func writeErrorResults(w http.ResponseWriter, r *http.Request, err error, results []result) int {
	var body struct {
		Error struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			RequestID string `json:"request_id"`
		} `json:"error"`
		Results json.RawMessage `json:"results"`
	}
	body.Error.Code, body.Error.Message, body.Error.RequestID = errs.CodeOf(err), errs.MessageOf(err), rpc.RequestID(r.Context())
	const wrapper = len(`{"results":`)
	all := appendResults(nil, results)
	body.Results = all[wrapper : len(all)-1]
	code := statusOf(err)
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		after := max(errs.RetryAfterOf(err), time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	httpserver.WriteJSON(w, code, body)
	return code
}
